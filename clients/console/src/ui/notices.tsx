import "./notices.css"
import {useSyncExternalStore} from "react"
import {failureOf} from "./failure.js"
import {Observed} from "./observed.js"

interface Notice {
  readonly id: number
  readonly text: string
  readonly tone: "good" | "bad"
}

const notices = new Observed<readonly Notice[]>([])
let made = 0

/** What was done goes away by itself; what failed stays until it is read. */
export function notify(text: string, tone: Notice["tone"] = "good"): void {
  const id = ++made
  notices.set([...notices.get().slice(-3), {id, text, tone}])
  if (tone === "good") setTimeout(() => dismiss(id), 4000)
}

/** For what is begun from a menu, which is gone when it ends. */
export async function attempt(what: () => Promise<unknown>, done?: string): Promise<void> {
  try {
    await what()
    if (done !== undefined) notify(done)
  } catch (error) {
    notify(failureOf(error), "bad")
  }
}

function dismiss(id: number): void {
  notices.set(notices.get().filter((notice) => notice.id !== id))
}

export function Notices() {
  const shown = useSyncExternalStore(notices.subscribe, notices.get)
  return (
    <div className="notices" role="status" aria-live="polite">
      {shown.map(({id, text, tone}) => (
        <p key={id} className="notice" data-tone={tone}>
          <span>{text}</span>
          <button className="quiet" onClick={() => dismiss(id)}>Dismiss</button>
        </p>
      ))}
    </div>
  )
}
