import {useState} from "react"
import type {Session, Turn} from "claude-bridge-client"
import {count} from "./tools/text.js"

/** What waits for its turn, next first, and why where it is for something else than its place. */
export function Queue({session, queue}: {session: Session, queue: readonly Turn[]}) {
  const [problem, setProblem] = useState<string | null>(null)
  if (queue.length === 0) return null
  const cancel = (turn: Turn): void => {
    setProblem(null)
    session.cancel(turn).catch((error: unknown) => setProblem(error instanceof Error ? error.message : String(error)))
  }
  return (
    <section className="queue" aria-label="Queue">
      <h2>{count(queue.length, "prompt waits", "prompts wait")}</h2>
      <ol>
        {queue.map((turn) => (
          <li key={turn.id}>
            <span className="queue-prompt">{turn.prompt.trim() || turn.attachments?.map((a) => a.name).join(", ")}</span>
            <span className="note">{turn.author}</span>
            <button type="button" className="quiet" onClick={() => cancel(turn)} aria-label={`Cancel: ${turn.prompt.slice(0, 60)}`}>Cancel</button>
            {turn.reason !== undefined && <span className="queue-reason">{turn.reason}</span>}
          </li>
        ))}
      </ol>
      {problem !== null && <p role="alert" className="note note-bad">{problem}</p>}
    </section>
  )
}
