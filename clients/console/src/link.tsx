/** The connection to the bridge, and what of it the parts of the page are rendered from. */

import {createContext, use, useEffect, useSyncExternalStore} from "react"
import {
  connect, type Bridge, type Connection, type LobbyState, type Session, type SessionState,
} from "claude-bridge-client"

const KEPT = "claude-bridge.token"

/** The token: out of the fragment once, which is then cleared, and from then on in this tab's storage alone. */
export function readToken(): string | null {
  const given = new URLSearchParams(location.hash.slice(1)).get("token")
  if (given !== null) {
    sessionStorage.setItem(KEPT, given)
    history.replaceState(history.state, "", location.pathname)
  }
  return sessionStorage.getItem(KEPT)
}

export function keepToken(token: string | null): void {
  if (token === null) sessionStorage.removeItem(KEPT)
  else sessionStorage.setItem(KEPT, token)
}

/** Asks for the kept token anew at every attempt, so that another one counts from the next on. */
export function openBridge(): Bridge {
  return connect(location.origin, {token: () => sessionStorage.getItem(KEPT) ?? ""})
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
  const {sessions} = useBridge()
  return useSyncExternalStore(sessions.subscribe, sessions.getSnapshot)
}

/** The session, joined as long as anything shows it. It must exist: the page starts none by looking at it. */
export function useSession(name: string): [SessionState, Session] {
  const session = useBridge().session(name)
  useEffect(() => session.retain(), [session])
  return [useSyncExternalStore(session.subscribe, session.getSnapshot), session]
}
