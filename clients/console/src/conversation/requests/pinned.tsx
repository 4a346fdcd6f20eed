import {useEffect, useRef, useState} from "react"
import type {Session, SessionState} from "claude-bridge-client"
import {count} from "../tools/text.js"
import {displayName} from "../tools/says.js"
import {closedSays, RequestCard} from "./card.js"

interface Props {
  readonly session: Session
  readonly state: SessionState
  readonly isWriting: () => boolean
  readonly onDone: () => void
}

/** What waits for an answer, oldest first, always in view; and what others have answered. */
export function Requests({session, state, isWriting, onDone}: Props) {
  const mine = useRef(new Set<string>())
  const {news, tell, dismiss} = useNews(session, mine.current)
  const {requests} = state
  const [first] = requests
  const had = useRef(false)
  useEffect(() => {
    if (first === undefined && had.current) onDone()
    had.current = first !== undefined
  }, [first, onDone])

  if (first === undefined && news === null) return null
  return (
    <div className="requests">
      {news !== null && (
        <p className="request-news" role="status">
          {news} <button type="button" className="quiet" onClick={dismiss}>Dismiss</button>
        </p>
      )}
      {first !== undefined && (
        <RequestCard
          key={first.id} request={first} session={session} cwd={state.session?.cwd ?? null} takesFocus={!isWriting()}
          onAnswer={(id) => mine.current.add(id)} onLost={tell}
        />
      )}
      {requests.length > 1 && <p className="note">{count(requests.length - 1, "more question")} after this one.</p>}
    </div>
  )
}

/** What was closed by others, of requests that were shown here; said until it is dismissed or the next thing happens. */
function useNews(session: Session, mine: Set<string>) {
  const [news, setNews] = useState<string | null>(null)
  useEffect(() => {
    const shown = new Map<string, string>()
    const note = (): void => {
      for (const {id, tool} of session.requests) shown.set(id, displayName(tool))
    }
    note()
    const offs = [
      session.on("state", note),
      session.on("request_closed", ({request, outcome, by}) => {
        const tool = shown.get(request)
        if (tool === undefined || mine.has(request) || outcome === "withdrawn") return
        setNews(`${tool}: ${closedSays(outcome, by)}`)
      }),
      session.on("request_opened", () => setNews(null)),
      session.on("turn_started", () => setNews(null)),
    ]
    return () => {
      for (const off of offs) off()
    }
  }, [session, mine])
  return {news, tell: setNews, dismiss: () => setNews(null)}
}
