import {useCallback, useEffect, useMemo, useSyncExternalStore} from "react"
import type {Session, SessionState} from "claude-bridge-client"
import {useBridge} from "../link.js"

/**
 * The session, joined as long as it is shown, and its state: taken at most once a frame, as a reply can grow by
 * hundreds of deltas a second.
 */
export function useSessionFrames(name: string): [SessionState, Session] {
  const bridge = useBridge()
  // Asked once: of a session that has ended the bridge would make another, which ends in the same way, and so on.
  const session = useMemo(() => bridge.session(name), [bridge, name])
  useEffect(() => session.retain(), [session])
  const subscribe = useCallback((listener: () => void) => oncePerFrame(session.subscribe, listener), [session])
  return [useSyncExternalStore(subscribe, session.getSnapshot), session]
}

function oncePerFrame(subscribe: (listener: () => void) => () => void, listener: () => void): () => void {
  let frame = 0
  let timer: ReturnType<typeof setTimeout> | undefined
  const tell = (): void => {
    cancelAnimationFrame(frame)
    clearTimeout(timer)
    frame = 0
    listener()
  }
  const off = subscribe(() => {
    if (frame !== 0) return
    frame = requestAnimationFrame(tell)
    // A page that is not in view has no frames, and should not fall behind for ever.
    timer = setTimeout(tell, 1000)
  })
  return () => {
    off()
    cancelAnimationFrame(frame)
    clearTimeout(timer)
  }
}
