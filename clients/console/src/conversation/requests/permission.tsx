import {useId, useState} from "react"
import type {Request} from "claude-bridge-client"
import {allow, deny, editable, editedInput} from "./answers.js"
import {Exactly} from "./exactly.js"
import {suggestionSays} from "./suggestions.js"
import type {CardProps} from "./card.js"

export function Permission({request, cwd, busy, answer, keys}: CardProps) {
  const [edited, setEdited] = useState<string | null>(null)
  const [taken, setTaken] = useState<readonly number[]>([])
  const [message, setMessage] = useState("")
  const problem = edited === null ? null : wrong(request, edited)
  const accept = (): void => {
    const made = allow(request, {edited, suggestions: taken})
    if (made !== null) answer(made)
  }
  keys({a: accept, d: () => answer(deny(message))})
  return (
    <>
      {edited === null ? <Exactly request={request} cwd={cwd} /> : <Edit request={request} text={edited} problem={problem} onText={setEdited} />}
      <Suggestions request={request} taken={taken} onTaken={setTaken} />
      <div className="request-actions">
        <button type="button" className="primary" disabled={busy || problem !== null} onClick={accept} aria-keyshortcuts="a">
          {edited === null ? "Allow" : "Allow as edited"}
        </button>
        <button type="button" className="danger" disabled={busy} onClick={() => answer(deny(message))} aria-keyshortcuts="d">Deny</button>
        <input value={message} onChange={(event) => setMessage(event.target.value)} placeholder="Why not, for Claude" aria-label="Message with a denial" />
        <button type="button" className="quiet" onClick={() => setEdited(edited === null ? editable(request).text : null)}>
          {edited === null ? "Edit" : "As it was"}
        </button>
      </div>
    </>
  )
}

function wrong(request: Request, text: string): string | null {
  const input = editedInput(request, text)
  return typeof input === "string" ? input : null
}

interface EditProps {
  readonly request: Request
  readonly text: string
  readonly problem: string | null
  readonly onText: (text: string) => void
}

function Edit({request, text, problem, onText}: EditProps) {
  const id = useId()
  return (
    <>
      <textarea
        className="exactly-edit" value={text} rows={Math.min(14, Math.max(2, text.split("\n").length))} spellCheck={false} autoFocus
        aria-label={editable(request).as === "command" ? "The command to run instead" : "The input to use instead, as JSON"}
        aria-invalid={problem !== null} aria-describedby={id} onChange={(event) => onText(event.target.value)}
      />
      <p id={id} className="note note-bad" aria-live="polite">{problem}</p>
    </>
  )
}

interface SuggestionsProps {
  readonly request: Request
  readonly taken: readonly number[]
  readonly onTaken: (taken: readonly number[]) => void
}

export function Suggestions({request, taken, onTaken}: SuggestionsProps) {
  if (request.suggestions.length === 0) return null
  return (
    <fieldset className="request-choices">
      <legend className="visually-hidden">If it is allowed, also</legend>
      {request.suggestions.map((suggestion, i) => (
        <label key={i}>
          <input
            type="checkbox" checked={taken.includes(i)}
            onChange={(event) => onTaken(event.target.checked ? [...taken, i] : taken.filter((t) => t !== i))}
          />
          <span>{suggestionSays(suggestion)}</span>
        </label>
      ))}
    </fieldset>
  )
}
