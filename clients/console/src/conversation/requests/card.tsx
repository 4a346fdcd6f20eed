import "./requests.css"
import {useEffect, useId, useRef, useState, type KeyboardEvent} from "react"
import {BridgeError, type Answer, type Request, type Session} from "claude-bridge-client"
import {displayName} from "../tools/says.js"
import {clock} from "../words.js"
import {Permission} from "./permission.js"
import {Plan} from "./plan.js"
import {Question} from "./question.js"

export interface CardProps {
  readonly request: Request
  readonly cwd: string | null
  readonly busy: boolean
  readonly answer: (answer: Answer) => void
  /** What the keys do while the card has focus and nothing is being written. */
  readonly keys: (keys: Readonly<Record<string, () => unknown>>) => void
}

const KINDS = {permission: Permission, question: Question, plan: Plan}
const ASKS = {permission: (tool: string) => `Claude wants to use ${tool}`, question: () => "Claude asks", plan: () => "Claude has a plan"}

interface Props {
  readonly request: Request
  readonly session: Session
  readonly cwd: string | null
  /** Take the focus, as nobody is writing. */
  readonly takesFocus: boolean
  /** Told before it is answered, so that one's own answer is no news. */
  readonly onAnswer: (request: string) => void
  /** Somebody else was first. */
  readonly onLost: (says: string) => void
}

export function RequestCard({request, session, cwd, takesFocus, onAnswer, onLost}: Props) {
  const [busy, setBusy] = useState(false)
  const [problem, setProblem] = useState<string | null>(null)
  const card = useRef<HTMLElement>(null)
  const title = useId()
  const keys = useRef<Readonly<Record<string, () => unknown>>>({})
  useEffect(() => {
    if (takesFocus) card.current?.focus({preventScroll: true})
  }, [takesFocus])

  const answer = (answer: Answer): void => {
    if (busy) return
    setBusy(true)
    setProblem(null)
    onAnswer(request.id)
    session.answer(request, answer).catch((error: unknown) => {
      setBusy(false)
      const says = answerFailed(error)
      setProblem(says)
      if (error instanceof BridgeError && error.code === "request_closed") onLost(`${displayName(request.tool)}: ${says}`)
    })
  }
  const pressed = (event: KeyboardEvent): void => {
    const target = event.target as HTMLElement
    if (event.ctrlKey || event.metaKey || event.altKey || target.matches("input:not([type=checkbox], [type=radio]), textarea")) return
    const does = keys.current[event.key]
    if (does === undefined) return
    event.preventDefault()
    does()
  }

  const Kind = KINDS[request.kind] ?? Permission
  return (
    <section className="request" ref={card} tabIndex={-1} aria-labelledby={title} onKeyDown={pressed}>
      <h2 id={title}>
        {(ASKS[request.kind] ?? ASKS.permission)(displayName(request.tool))}
        <time dateTime={request.opened_at}>{clock(request.opened_at)}</time>
        {request.kind !== "question" && <span className="request-keys"><kbd>a</kbd> {request.kind === "plan" ? "approve" : "allow"} <kbd>d</kbd> {request.kind === "plan" ? "keep planning" : "deny"}</span>}
      </h2>
      <Kind request={request} cwd={cwd} busy={busy} answer={answer} keys={(given) => (keys.current = given)} />
      {problem !== null && <p role="alert" className="note note-bad">{problem}</p>}
    </section>
  )
}

function answerFailed(error: unknown): string {
  if (!(error instanceof BridgeError)) return String(error)
  if (error.code !== "request_closed") return `${error.message} (${error.code})`
  return closedSays(String(error.details["outcome"] ?? "closed"), error.details["by"] as string | null | undefined)
}

/** How a request was closed that one did not answer oneself. */
export function closedSays(outcome: string, by: string | null | undefined): string {
  const who = by ? ` by ${by}` : outcome === "allowed" || outcome === "denied" ? " in the terminal or by a policy" : ""
  return outcome === "expired" ? "Nobody answered in time." : `It was ${outcome} already${who}.`
}
