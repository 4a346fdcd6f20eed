/** A session in a React component. Two components of one session share it; it is left when none shows it. */

import {useEffect, useState, useSyncExternalStore} from "react"
import {BridgeError, type Bridge, type Session, type SessionOptions, type SessionState} from "claude-bridge-client"

export function useSession(bridge: Bridge, name: string, options?: SessionOptions): [SessionState, Session] {
  const session = bridge.session(name, options)
  useEffect(() => session.retain(), [session])
  return [useSyncExternalStore(session.subscribe, session.getSnapshot, session.getSnapshot), session]
}

export function Conversation({bridge, name}: {bridge: Bridge, name: string}) {
  const [state, session] = useSession(bridge, name, {start: {}})
  const [problem, setProblem] = useState<string | null>(null)

  const failed = (error: unknown): void => setProblem(error instanceof BridgeError ? error.message : String(error))
  const submit = (form: FormData): void => {
    setProblem(null)
    session.submit(String(form.get("prompt"))).catch(failed)
  }

  return (
    <section aria-busy={state.open !== null}>
      {state.status !== "live" && <p role="status">{state.status}</p>}
      {[...state.turns, ...(state.open ? [state.open] : []), ...state.queue].map((turn) => (
        <article key={turn.id}>
          <h2>{turn.prompt}</h2>
          <p>{turn.status === "queued" ? "waiting" : turn.text}</p>
        </article>
      ))}
      {state.requests.map((request) => (
        <fieldset key={request.id}>
          <legend>{request.tool}</legend>
          <pre>{JSON.stringify(request.input, null, 2)}</pre>
          <button onClick={() => session.answer(request, {decision: "allow"}).catch(failed)}>Allow</button>
          <button onClick={() => session.answer(request, {decision: "deny"}).catch(failed)}>Deny</button>
        </fieldset>
      ))}
      <form action={submit}>
        <input name="prompt" aria-label="Prompt" />
      </form>
      {problem !== null && <p role="alert">{problem}</p>}
    </section>
  )
}
