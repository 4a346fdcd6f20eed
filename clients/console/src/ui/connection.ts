/** What the page says of its connection, and when. Pure: what happened in, a sentence out. */

import type {Connection} from "claude-bridge-client"

/** What is known of the last break. */
export interface Break {
  /** Whether the connection was ever open: what never was is not lost. */
  readonly wasOpen: boolean
  /** When the connection was lost, as `Date.now()`; null while none was. */
  readonly lostAt: number | null
  /** When it was open again; null while it is not. */
  readonly backAt: number | null
  /** What the session on screen said of what was missed, once it has. */
  readonly missed: "nothing" | "restart" | "much" | null
}

export const UNBROKEN: Break = {wasOpen: false, lostAt: null, backAt: null, missed: null}

/** How long the good news stays. */
export const GOOD_NEWS_MS = 5000
/** A first connection that takes no longer is not worth a word. */
const PATIENCE_MS = 1000

export function connected(known: Break, {status, since}: Connection): Break {
  const isLost = known.lostAt !== null && known.backAt === null
  if (status === "open") return isLost ? {...known, backAt: since} : known.wasOpen ? known : {...known, wasOpen: true}
  if (status !== "reconnecting" || isLost || !known.wasOpen) return known
  return {wasOpen: true, lostAt: since, backAt: null, missed: null}
}

/** A session was joined again: whether something was missed, and whether the bridge counts from a new beginning. */
export function rejoined(known: Break, recovered: boolean, sameEpoch: boolean): Break {
  if (known.lostAt === null || known.missed !== null) return known
  return {...known, missed: recovered ? "nothing" : sameEpoch ? "much" : "restart"}
}

export interface Sentence {
  readonly tone: "bad" | "warn" | "good"
  /** Changes only when something happened: this is read out. */
  readonly said: string
  /** As it is shown, with the time that runs. */
  readonly shown: string
}

/** Null where there is nothing to say: the connection is open, and was for a while. */
export function sentenceOf({status, since, reason}: Connection, known: Break, now: number): Sentence | null {
  switch (status) {
    case "connecting":
      if (now - since < PATIENCE_MS) return null
      return same("warn", reason === undefined ? "Connecting to the bridge." : `The bridge does not answer (${reason}); trying again.`)
    case "reconnecting": {
      if (!known.wasOpen) return same("warn", "Connecting to the bridge.")
      const for_ = seconds(now - (known.lostAt ?? since))
      return {
        tone: "warn",
        said: "Connection lost; trying again. What is shown is how it was.",
        shown: `Connection lost ${for_} ago; trying again. What is shown is how it was.`,
      }
    }
    case "refused":
      return same("bad", `The bridge refuses the token: ${reason ?? "it does not count any more."}`)
    case "closed":
      return same("bad", "Signed out.")
    case "open": {
      if (known.lostAt === null || known.backAt === null || now - known.backAt >= GOOD_NEWS_MS) return null
      const back = `Back after ${seconds(known.backAt - known.lostAt)}`
      if (known.missed === "restart") return same("warn", `${back}; the bridge was restarted, shown anew.`)
      if (known.missed === "much") return same("warn", `${back}; much happened meanwhile, shown anew.`)
      return same("good", known.missed === "nothing" ? `${back}, nothing missed.` : `${back}.`)
    }
  }
}

function same(tone: Sentence["tone"], text: string): Sentence {
  return {tone, said: text, shown: text}
}

function seconds(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000))
  if (s < 1) return "less than 1 s"
  return s < 120 ? `${s} s` : `${Math.round(s / 60)} min`
}
