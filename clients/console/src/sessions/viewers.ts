import {useEffect, useState} from "react"
import type {SessionInfo} from "claude-bridge-client"
import {useBridge} from "../link.js"

const EVERY_MS = 10_000
/** A join takes no longer, as a rule. */
const SOON_MS = 500

/**
 * How many watch each session. The bridge tells of a session when its state changes, not when somebody comes or goes,
 * so this is asked for while the page is looked at.
 */
export function useViewers(sessions: readonly SessionInfo[], current: string | null): (session: SessionInfo) => number {
  const bridge = useBridge()
  const [asked, setAsked] = useState<ReadonlyMap<string, number>>(new Map())
  const isEmpty = sessions.length === 0
  useEffect(() => {
    if (isEmpty) return
    let over = false
    const ask = async (): Promise<void> => {
      if (document.hidden || bridge.connection.status !== "open") return
      try {
        const {sessions: listed} = await bridge.sessions.push("list", {}, {again: true}) as {sessions: readonly SessionInfo[]}
        if (!over) setAsked((known) => changed(known, listed))
      } catch {
        // It is asked again.
      }
    }
    const shown = (): void => void ask()
    const first = setTimeout(shown, SOON_MS)
    const timer = setInterval(shown, EVERY_MS)
    document.addEventListener("visibilitychange", shown)
    return () => {
      over = true
      clearTimeout(first)
      clearInterval(timer)
      document.removeEventListener("visibilitychange", shown)
    }
    // Whoever opens a session is one more to watch it.
  }, [bridge, isEmpty, current])
  return ({name, viewers}) => asked.get(name) ?? viewers
}

/** The same map where nothing is new, so that nothing is drawn again. */
export function changed(known: ReadonlyMap<string, number>, listed: readonly SessionInfo[]): ReadonlyMap<string, number> {
  const isSame = known.size === listed.length && listed.every(({name, viewers}) => known.get(name) === viewers)
  return isSame ? known : new Map(listed.map(({name, viewers}) => [name, viewers]))
}
