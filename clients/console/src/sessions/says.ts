/** What the page says of a session, in words. Pure. */

import type {PhaseOfSession, SessionInfo, Usage} from "claude-bridge-client"

/** States of people's words: what the list and the header show. */
export const STATE_WORDS: Readonly<Record<PhaseOfSession, string>> = {
  starting: "starting",
  idle: "idle",
  busy: "busy",
  waiting: "asks you",
  restarting: "restarting",
  stopped: "stopped",
  failed: "failed",
  unknown: "unclear",
}

export function stateWord(state: string): string {
  return (STATE_WORDS as Readonly<Record<string, string>>)[state] ?? state
}

/** How long, as a person says it: `0.3 s`, `12 s`, `4 min`, `3 h`, `2 d`. */
export function lasting(ms: number): string {
  const s = Math.max(0, ms) / 1000
  if (s < 9.95) return `${s.toFixed(1)} s`
  if (s < 100) return `${Math.round(s)} s`
  if (s < 5400) return `${Math.round(s / 60)} min`
  if (s < 129_600) return `${Math.round(s / 3600)} h`
  return `${Math.round(s / 86_400)} d`
}

/** For the list, where seconds would only flicker. */
export function ago(ms: number): string {
  if (ms < 60_000) return "now"
  return ms < 100_000 ? "1 min" : lasting(ms)
}

const SIGNALS: Readonly<Record<string, string>> = {
  start: "its start",
  adoption: "what the bridge found when it started",
  status_file: "Claude's status file",
  transcript: "the transcript",
  stream: "Claude's output",
  result: "the end of the turn",
  permission: "a request of Claude",
  answer: "the answer to a request",
  limit: "the account's limit",
  api_retry: "the API, which is tried again",
  exit: "the end of its process",
}

/** By what the bridge knows the state: `busy, told by Claude's output 0.3 s ago`. */
export function evidenceOf(session: SessionInfo, sinceHeardMs: number): string {
  const {signal, age_ms} = session.evidence
  const by = signal.startsWith("hook:") ? `Claude's hook ${signal.slice(5)}` : (SIGNALS[signal] ?? signal)
  return `${session.state}, told by ${by} ${lasting(age_ms + sinceHeardMs)} ago`
}

export function money(usd: number | null): string | null {
  if (usd === null) return null
  if (usd === 0) return "$0"
  return usd < 0.01 ? "< 1 ¢" : `$${usd.toFixed(2)}`
}

export function count(n: number): string {
  if (n < 1000) return String(n)
  if (n < 999_500) return `${(n / 1000).toFixed(n < 9950 ? 1 : 0)}k`
  return `${(n / 1_000_000).toFixed(1)}M`
}

/** All that went in, cached or not, and all that came out. */
export function tokensOf(usage: Usage): {readonly into: number, readonly out: number} {
  const {input_tokens, cache_creation_input_tokens, cache_read_input_tokens, output_tokens} = usage
  return {into: input_tokens + cache_creation_input_tokens + cache_read_input_tokens, out: output_tokens}
}

export interface Budget {
  readonly name?: string
  readonly spent_usd?: number | null
  readonly limit_usd?: number | null
  readonly spent_tokens?: number | null
  readonly limit_tokens?: number | null
  readonly state?: string
  readonly until?: string | null
}

/** `$1.20 of $5.00` or `12k of 1.0M tokens`, whichever is the limit. */
export function budgetOf(session: SessionInfo): {readonly text: string, readonly state: string} | null {
  const budget = session.budget as Budget | undefined
  if (budget === undefined) return null
  const {limit_usd, spent_usd, limit_tokens, spent_tokens, state = "ok"} = budget
  if (typeof limit_usd === "number") return {text: `${money(spent_usd ?? 0)} of ${money(limit_usd)}`, state}
  if (typeof limit_tokens === "number") return {text: `${count(spent_tokens ?? 0)} of ${count(limit_tokens)} tokens`, state}
  return null
}

/** A model's name without what all of them share. */
export function shortModel(model: string | null): string {
  return model === null ? "default model" : model.replace(/^claude-/, "").replace(/-\d{8}$/, "")
}

/** A path short enough for a line: its last two parts. */
export function shortPath(path: string | null): string {
  if (path === null) return ""
  const parts = path.split("/").filter((part) => part !== "")
  return parts.length <= 2 ? path : `…/${parts.slice(-2).join("/")}`
}
