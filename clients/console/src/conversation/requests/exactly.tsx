import type {Request} from "claude-bridge-client"
import {Diff} from "../tools/diff.js"
import {changes, inputOf} from "../tools/says.js"
import {json, visible} from "../tools/text.js"

/** All that would be run, written or called, with nothing left out and nothing hidden. */
export function Exactly({request, cwd}: {request: Request, cwd: string | null}) {
  const edits = changes(request.tool, request.input)
  if (edits.length > 0) {
    return edits.map((change, i) => <Diff key={i} id={`${request.id}/${i}`} change={change} cwd={cwd} exact />)
  }
  const {command, description, ...rest} = inputOf(request.input)
  if (request.tool !== "Bash" || typeof command !== "string") {
    return <pre className="exactly" tabIndex={0}>{visible(json(request.input))}</pre>
  }
  return (
    <>
      {typeof description === "string" && <p className="note">{description}</p>}
      <pre className="exactly" tabIndex={0}>{visible(command)}</pre>
      {Object.keys(rest).length > 0 && <pre className="exactly" tabIndex={0}>{visible(parameters(rest))}</pre>}
    </>
  )
}

function parameters(given: object): string {
  return Object.entries(given).map(([name, value]) => `${name}: ${json(value)}`).join("\n")
}
