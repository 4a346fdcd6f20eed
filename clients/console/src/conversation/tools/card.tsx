import "./tools.css"
import {memo, useId} from "react"
import type {ToolBlock} from "claude-bridge-client"
import {useFold} from "../folds.js"
import {Diff} from "./diff.js"
import {Lines} from "./lines.js"
import {changes, inputOf, outputOf, todosOf, toolLine, toolState} from "./says.js"
import {count, json} from "./text.js"
import {Todos} from "./todos.js"

interface Props {
  /** Of the row, which is the same as long as the call is shown. */
  readonly id: string
  readonly block: ToolBlock
  readonly runs: boolean
  readonly cwd: string | null
  /** How many blocks its sub-agent has written, which stand below where they are unfolded. */
  readonly inner: number
}

/** A tool call: one line, and folded out what exactly was given to it and what came of it. */
export const ToolCard = memo(function ToolCard({id, block, runs, cwd, inner}: Props) {
  const [open, setOpen] = useFold(id)
  const body = useId()
  const {name, about, code} = toolLine(block.name, block.input, cwd)
  const {state, says} = toolState(block, runs)
  return (
    <div className={`tool tool-${state}`}>
      <button type="button" className="quiet tool-line" aria-expanded={open} aria-controls={body} onClick={() => setOpen(!open)}>
        <span className="tool-mark" aria-hidden />
        <span className="tool-name">{name}</span>
        <span className={code ? "tool-about tool-code" : "tool-about"}>{about}</span>
        <span className="tool-says">{says}</span>
      </button>
      <div id={body} className="tool-body" hidden={!open}>
        {open && <Body id={id} block={block} cwd={cwd} />}
      </div>
      {inner > 0 && <Inner id={`${id}/inner`} inner={inner} />}
    </div>
  )
})

function Inner({id, inner}: {id: string, inner: number}) {
  const [open, setOpen] = useFold(id)
  return (
    <button type="button" className="quiet more" aria-expanded={open} onClick={() => setOpen(!open)}>
      {open ? "Hide" : "Show"} {count(inner, "step")} of the sub-agent
    </button>
  )
}

function Body({id, block, cwd}: Pick<Props, "id" | "block" | "cwd">) {
  const edits = changes(block.name, block.input)
  const output = outputOf(block)
  return (
    <>
      {edits.map((change, i) => <Diff key={i} id={`${id}/diff/${i}`} change={change} cwd={cwd} />)}
      {edits.length === 0 && <Given id={id} block={block} />}
      {block.output !== null && output !== "" && (
        <section className={block.is_error ? "tool-output tool-error" : "tool-output"} aria-label="Output">
          <Lines id={`${id}/output`} text={output} />
          {block.truncated && <p className="note">Cut at 64 KiB; the whole output is in the turn's answer over REST.</p>}
        </section>
      )}
      {block.output === "" && <p className="note">No output.</p>}
    </>
  )
}

function Given({id, block}: Pick<Props, "id" | "block">) {
  if (block.name === "TodoWrite") return <Todos todos={todosOf(block.input)} />
  const {command, description, ...rest} = inputOf(block.input)
  if (block.name !== "Bash" || typeof command !== "string") return <Lines id={`${id}/input`} text={json(block.input)} />
  return (
    <>
      {typeof description === "string" && <p className="note">{description}</p>}
      <Lines id={`${id}/input`} text={command} />
      {Object.keys(rest).length > 0 && <Lines id={`${id}/rest`} text={json(rest)} />}
    </>
  )
}
