/** The connection to the bridge, and what of it the parts of the page are rendered from. */

import {createContext, use, useEffect, useMemo, useSyncExternalStore} from "react"
import {
  connect, type Bridge, type Connection, type LobbyState, type Session, type SessionState,
} from "claude-bridge-client"
import {readToken} from "./token.js"
import {Framed, type Source} from "./ui/frames.js"

export {readToken}

/** Asks for the kept token anew at every attempt, so that another one counts from the next on. */
export function openBridge(): Bridge {
  return connect(location.origin, {token: () => readToken() ?? ""})
}

const Link = createContext<Bridge | null>(null)
export const LinkProvider = Link.Provider

export function useBridge(): Bridge {
  const bridge = use(Link)
  if (bridge === null) throw new Error("rendered outside of LinkProvider")
  return bridge
}

export function useConnection(): Connection {
  const bridge = useBridge()
  return useSyncExternalStore(bridge.subscribe, bridge.getSnapshot)
}

export function useLobby(): LobbyState {
  const {subscribe, getSnapshot} = framed(useBridge().sessions)
  return useSyncExternalStore(subscribe, getSnapshot)
}

/** The session, joined as long as anything shows it. It must exist: the page starts none by looking at it. */
export function useSession(name: string): [SessionState, Session] {
  const bridge = useBridge()
  // Kept by who shows it: where it has ended, the bridge would give a new one at every rendering, and join again.
  const session = useMemo(() => bridge.session(name), [bridge, name])
  useEffect(() => session.retain(), [session])
  const {subscribe, getSnapshot} = framed<SessionState>(session)
  return [useSyncExternalStore(subscribe, getSnapshot), session]
}

const framedOnes = new WeakMap<Source<unknown>, Framed<never>>()

/** One for all that show the same, so that they show the same. */
function framed<T>(source: Source<T>): Framed<T> {
  const known = framedOnes.get(source) as Framed<T> | undefined
  if (known !== undefined) return known
  const made = new Framed(source)
  framedOnes.set(source, made as Framed<never>)
  return made
}
