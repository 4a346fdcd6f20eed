/** Times, sums and the ends of turns in words. */

import type {Turn, Usage} from "claude-bridge-client"

export function duration(ms: number): string {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`
  const seconds = ms / 1000
  if (seconds < 10) return `${seconds.toFixed(1)} s`
  if (seconds < 60) return `${Math.round(seconds)} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes} min ${Math.round(seconds % 60)} s`
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

export function money(usd: number): string {
  return usd === 0 ? "$0" : usd < 0.01 ? `$${usd.toPrecision(2)}` : `$${usd.toFixed(2)}`
}

export function bytes(size: number): string {
  if (size < 1000) return `${size} B`
  return size < 1_000_000 ? `${Math.round(size / 1000)} KB` : `${(size / 1_000_000).toFixed(1)} MB`
}

export function clock(at: string | null | undefined, now = new Date()): string {
  if (at === null || at === undefined) return ""
  const then = new Date(at)
  const time = then.toLocaleTimeString([], {hour: "2-digit", minute: "2-digit"})
  return then.toDateString() === now.toDateString()
    ? time
    : `${then.toLocaleDateString([], {day: "numeric", month: "short"})}, ${time}`
}

export function tokens({input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens}: Usage): string {
  const given = input_tokens + cache_creation_input_tokens + cache_read_input_tokens
  const of = (number: number): string => (number < 10_000 ? number.toLocaleString("en") : `${Math.round(number / 1000)}k`)
  return `${of(given)} in, ${of(output_tokens)} out`
}

/** What a turn was: how long, what it cost, how many tokens; only what is known. */
export function figures(turn: Turn): readonly string[] {
  const {started_at, finished_at, cost_usd, usage} = turn
  return [
    started_at && finished_at ? duration(Date.parse(finished_at) - Date.parse(started_at)) : "",
    cost_usd != null ? money(cost_usd) : "",
    usage && usage.input_tokens + usage.output_tokens > 0 ? `${tokens(usage)} tokens` : "",
  ].filter((part) => part !== "")
}

export interface Ending {
  readonly tone: "good" | "warn" | "bad" | "calm"
  readonly says: string
  readonly because: string
  /** The error's code, and the API's status where there was one. */
  readonly code: string
}

/** How a turn ended, and what that means; null of one that simply completed. */
export function ending({status, error}: Pick<Turn, "status" | "error">): Ending | null {
  const because = error?.message ?? ""
  const code = error === undefined ? "" : `${error.code}${error.status === undefined ? "" : ` ${error.status}`}`
  switch (status) {
    case "interrupted":
      return {tone: "warn", says: "Interrupted", because: because || "What was said until then is kept.", code}
    case "failed":
      return {tone: "bad", says: "Failed", because, code}
    case "cancelled":
      return {tone: "calm", says: "Cancelled", because: because || "It was taken back before it ran.", code}
    case "unknown":
      return {
        tone: "warn",
        says: "Nobody can tell how it ended",
        because: `${because} What came of it is kept. It is not sent again: look at what it did before you do.`.trim(),
        code,
      }
    default:
      return null
  }
}
