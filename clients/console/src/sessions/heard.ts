import type {SessionInfo} from "claude-bridge-client"

const heard = new WeakMap<SessionInfo, number>()

/** When the page was told this; the ages that the bridge says are counted on from here. */
export function heardAt(session: SessionInfo): number {
  const known = heard.get(session)
  if (known !== undefined) return known
  const now = Date.now()
  heard.set(session, now)
  return now
}
