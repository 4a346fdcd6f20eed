import {useState} from "react"
import {Prose} from "../markdown/render.js"
import {inputOf} from "../tools/says.js"
import {allow, deny} from "./answers.js"
import type {CardProps} from "./card.js"
import {Exactly} from "./exactly.js"
import {Suggestions} from "./permission.js"

export function Plan({request, cwd, busy, answer, keys}: CardProps) {
  const [taken, setTaken] = useState<readonly number[]>([])
  const [message, setMessage] = useState("")
  const {plan} = inputOf(request.input)
  const accept = (): void => {
    const made = allow(request, {edited: null, suggestions: taken})
    if (made !== null) answer(made)
  }
  keys({a: accept, d: () => answer(deny(message))})
  return (
    <>
      <div className="plan" tabIndex={0} role="region" aria-label="The plan">
        {typeof plan === "string" ? <Prose source={plan} /> : <Exactly request={request} cwd={cwd} />}
      </div>
      <Suggestions request={request} taken={taken} onTaken={setTaken} />
      <div className="request-actions">
        <button type="button" className="primary" disabled={busy} onClick={accept} aria-keyshortcuts="a">Approve the plan</button>
        <button type="button" disabled={busy} onClick={() => answer(deny(message))} aria-keyshortcuts="d">Keep planning</button>
        <input value={message} onChange={(event) => setMessage(event.target.value)} placeholder="What to change" aria-label="What to change in the plan" />
      </div>
    </>
  )
}
