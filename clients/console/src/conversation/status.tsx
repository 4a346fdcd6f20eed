import {useEffect, useRef, useState} from "react"
import type {SessionState} from "claude-bridge-client"
import {clock} from "./words.js"

/** What stands in the way of the conversation: it cannot be reached, has ended, or the session does not go on. */
export function Standing({state, onAgain}: {state: SessionState, onAgain: () => void}) {
  const since = useSince(state.status)
  const says = standing(state, since)
  if (says === null) return null
  return (
    <p className={`standing standing-${says.tone}`} role="status">
      {says.text} {state.status === "ended" && <button type="button" className="quiet" onClick={onAgain}>Try again</button>}
    </p>
  )
}

export function standing(
  {status, error, session}: Pick<SessionState, "status" | "error" | "session">, since: Date,
): {readonly tone: "bad" | "warn", readonly text: string} | null {
  if (status === "ended") return {tone: "bad", text: `This conversation cannot be shown any more: ${error?.message ?? "it was closed."}`}
  if (error !== null) return {tone: "bad", text: error.message}
  if (status === "reconnecting") return {tone: "warn", text: `Connecting again. This is how it was at ${clock(since.toISOString())}.`}
  if (session === null) return null
  if (session.limited_until !== undefined) {
    return {tone: "warn", text: `The account's limit is reached. What waits is sent at ${clock(session.limited_until)}.`}
  }
  const why = session.reason === undefined ? "" : `: ${session.reason}`
  switch (session.state) {
    case "failed":
      return {tone: "bad", text: `The session has failed${why}`}
    case "stopped":
      return {tone: "warn", text: `The session is stopped${why}`}
    case "unknown":
      return {tone: "warn", text: `Nobody can tell what the session does${why}`}
    case "restarting":
      return {tone: "warn", text: `The session is started again${why}`}
    default:
      return null
  }
}

/** When the status became what it is. */
function useSince(status: string): Date {
  const [since, setSince] = useState(() => new Date())
  useEffect(() => setSince(new Date()), [status])
  return since
}

/** Tells those who do not see the page what happens: that a turn begins and ends, and that something is asked. */
export function Announcer({state}: {state: SessionState}) {
  const [says, setSays] = useState("")
  const before = useRef(state)
  useEffect(() => {
    const was = before.current
    before.current = state
    if (state.requests.length > was.requests.length) setSays("Claude waits for an answer.")
    else if (state.open !== null && was.open === null) setSays("Claude is working.")
    else if (state.open === null && was.open !== null) {
      const ended = state.turns.find((t) => t.id === was.open?.id)
      setSays(ended === undefined || ended.status === "completed" ? "The reply is complete." : `The turn ended: ${ended.status}.`)
    }
  }, [state])
  return <p className="visually-hidden" aria-live="polite">{says}</p>
}
