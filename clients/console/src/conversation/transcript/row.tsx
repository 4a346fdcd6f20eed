import "./rows.css"
import {memo, useEffect, useState} from "react"
import {Code} from "../markdown/code.js"
import {Prose} from "../markdown/render.js"
import {codeOf} from "../markdown/split.js"
import {Copy} from "../copy.js"
import {useFold} from "../folds.js"
import {ToolCard} from "../tools/card.js"
import {count, linesOf} from "../tools/text.js"
import {bytes, clock, duration, ending, figures} from "../words.js"
import {useAttachment} from "./attachment.js"
import type {EndRow, PromptRow, Row, TextRow, ThinkingRow} from "./rows.js"

interface Props {
  readonly row: Row
  readonly session: string
  readonly cwd: string | null
}

export const RowView = memo(function RowView({row, session, cwd}: Props) {
  if (row.kind === "notice") {
    return <p className="row row-notice"><span>{row.says}</span></p>
  }
  return (
    <div className={`row row-${row.kind}`} data-key={row.key} data-depth={Math.min(row.depth, 3) || undefined}>
      {row.kind === "prompt" && <Prompt row={row} session={session} />}
      {row.kind === "text" && <Text row={row} />}
      {row.kind === "thinking" && <Thinking row={row} />}
      {row.kind === "tool" && <ToolCard id={row.key} block={row.block} runs={row.runs} cwd={cwd} inner={row.inner} />}
      {row.kind === "end" && <End row={row} />}
    </div>
  )
})

const PROMPT_LINES = 30
const PROMPT_CHARACTERS = 4000

function Prompt({row, session}: {row: PromptRow, session: string}) {
  const [all, setAll] = useFold(row.key)
  const lines = linesOf(row.prompt).length
  const isLong = lines > PROMPT_LINES + 5 || row.prompt.length > PROMPT_CHARACTERS + 500
  const shown = isLong && !all
    ? row.prompt.split("\n", PROMPT_LINES).join("\n").slice(0, PROMPT_CHARACTERS) + " …"
    : row.prompt
  return (
    <article className="prompt">
      <h2>
        {row.author ?? (row.source === "terminal" ? "Somebody at the terminal" : "Unknown")}
        {row.source === "terminal" && row.author !== null && <span>from the terminal</span>}
        <time dateTime={row.at ?? undefined}>{clock(row.at)}</time>
      </h2>
      {shown !== "" && <p>{shown}</p>}
      {isLong && (
        <button type="button" className="quiet more" aria-expanded={all} onClick={() => setAll(!all)}>
          {all ? "Show less" : `Show all ${count(lines, "line")}`}
        </button>
      )}
      {row.attachments && (
        <ul className="files">
          {row.attachments.map((file, i) => <Attached key={i} session={session} turn={row.turn} number={i} {...file} />)}
        </ul>
      )}
    </article>
  )
}

function Attached(file: {session: string, turn: string, number: number, name: string, media_type: string, size: number}) {
  const {download, problem} = useAttachment(file)
  return (
    <li>
      <button type="button" className="quiet" onClick={download} title={`Download ${file.name} (${file.media_type})`}>
        {file.name} <span>{bytes(file.size)}</span>
      </button>
      {problem !== null && <span role="alert">{problem}</span>}
    </li>
  )
}

function Text({row: {piece, definitions, of}}: {row: TextRow}) {
  if (piece.kind === "prose") return <Prose source={piece.source} definitions={definitions} />
  const lang = piece.fence?.lang ?? ""
  return <Code source={piece.source} lang={lang} continues={piece.continues} whole={() => codeOf(of.split.pieces, piece)} />
}

function Thinking({row}: {row: ThinkingRow}) {
  const [open, setOpen] = useFold(row.key)
  const words = row.text.trim().split(/\s+/).length
  return (
    <div className="thinking">
      <button type="button" className="quiet more" aria-expanded={open} onClick={() => setOpen(!open)}>
        {row.live ? "Thinking" : "Thought"}, {count(words, "word")}
      </button>
      {open && <p>{row.text.trim()}</p>}
    </div>
  )
}

function End({row: {of}}: {row: EndRow}) {
  if (of.status === "running") return <Running since={of.started_at ?? null} />
  const how = ending(of)
  return (
    <footer className="end">
      {how !== null && (
        <p className={`end-how end-${how.tone}`}>
          <strong>{how.says}.</strong> {how.because} {how.code !== "" && <code>{how.code}</code>}
        </p>
      )}
      <p className="end-figures">
        {figures(of).map((part, i) => <span key={i}>{part}</span>)}
        {of.text !== "" && <Copy what="reply" text={() => of.text} />}
      </p>
    </footer>
  )
}

function Running({since}: {since: string | null}) {
  const [now, setNow] = useState(() => Date.now())
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000)
    return () => clearInterval(timer)
  }, [])
  const ms = since === null ? 0 : now - Date.parse(since)
  return (
    <p className="end running">
      <span className="running-mark" aria-hidden /> Working{ms >= 1000 && `, ${duration(Math.floor(ms / 1000) * 1000)}`}
    </p>
  )
}
