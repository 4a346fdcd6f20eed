/** In which order sessions are listed, which of them, and which is beside which. */

import type {SessionInfo} from "claude-bridge-client"

/** Those that wait for a person come first, those that failed next; the others keep their places while they work. */
export function listed(sessions: readonly SessionInfo[], filter: string): readonly SessionInfo[] {
  const words = filter.toLowerCase().split(/\s+/).filter((word) => word !== "")
  return sessions
    .filter((s) => words.every((word) => searched(s).includes(word)))
    .map((session) => ({session, rank: rankOf(session)}))
    .sort((a, b) => a.rank - b.rank || byName(a.session, b.session))
    .map(({session}) => session)
}

export function asking(sessions: readonly SessionInfo[]): number {
  return sessions.filter((s) => s.state === "waiting").length
}

/** The session before or after `name` in the list, around its ends; null where there is none. */
export function beside(sessions: readonly SessionInfo[], name: string | null, step: 1 | -1): string | null {
  if (sessions.length === 0) return null
  const at = sessions.findIndex((s) => s.name === name)
  const next = at === -1 ? (step === 1 ? 0 : sessions.length - 1) : (at + step + sessions.length) % sessions.length
  return sessions[next]?.name ?? null
}

function rankOf({state}: SessionInfo): number {
  if (state === "waiting") return 0
  if (state === "failed" || state === "unknown") return 1
  return state === "stopped" ? 3 : 2
}

function searched({name, state, backend, model, cwd}: SessionInfo): string {
  return `${name} ${state} ${backend} ${model ?? ""} ${cwd ?? ""}`.toLowerCase()
}

function byName(a: SessionInfo, b: SessionInfo): number {
  return a.name.localeCompare(b.name, "en", {numeric: true})
}
