import {useSession} from "../link.js"

/** One session's turns, what waits for an answer, and where the next prompt is written. */
export function Conversation({name}: {name: string}) {
  const [state] = useSession(name)
  return <section aria-label={`Conversation ${name}`}>{state.status}</section>
}
