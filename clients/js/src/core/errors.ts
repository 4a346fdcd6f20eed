/** Everything that can go wrong, as one class with a code; see spec/errors.json for the bridge's own codes. */

import {RETRYABLE, type BridgeCode} from "./codes.js"
import type {FinalStatus, Turn} from "./wire.js"

/**
 * What the client itself says, where the bridge said nothing.
 * - `timeout`: no answer came in time; whether it was done is not known.
 * - `disconnected`: the connection broke before the answer, and it cannot be sent twice.
 * - `closed`: the bridge closed the topic (its session was deleted), or this client was closed.
 * - `turn_interrupted`, `turn_failed`, `turn_cancelled`, `turn_unknown`: how the turn ended whose text was asked for.
 */
export type ClientCode = "timeout" | "disconnected" | "closed" | `turn_${Exclude<FinalStatus, "completed">}`

export type ErrorCode = BridgeCode | ClientCode

const CLIENT_RETRYABLE: Record<string, boolean> = {timeout: true, disconnected: true}

/** Match on `code` and `details`; `message` is a sentence for a person. */
export class BridgeError extends Error {
  override readonly name: string = "BridgeError"
  /** One of `ErrorCode`, or one that this version does not know yet. */
  readonly code: ErrorCode | (string & {})
  /** What the bridge said beside `reason` and `message`, such as `field`, `limit`, `retry_after_s`. */
  readonly details: Readonly<Record<string, unknown>>

  constructor(
    code: ErrorCode | (string & {}),
    message: string,
    details: Readonly<Record<string, unknown>> = {},
    cause?: unknown,
  ) {
    super(message, cause === undefined ? undefined : {cause})
    this.code = code
    this.details = details
  }

  /** Whether the same request can succeed later. */
  get retryable(): boolean {
    return (RETRYABLE as Record<string, boolean>)[this.code] ?? CLIENT_RETRYABLE[this.code] ?? false
  }

  /** The error that a refusal's payload says. */
  static from(response: unknown): BridgeError {
    const {reason, message, ...details} = (response ?? {}) as Record<string, unknown>
    const code = typeof reason === "string" ? reason : "internal"
    return new BridgeError(code, typeof message === "string" ? message : code, details)
  }
}

/** A turn that did not complete; what it said until then is in `turn.text`. */
export class TurnError extends BridgeError {
  override readonly name = "TurnError"
  readonly turn: Turn

  constructor(turn: Turn) {
    const why = turn.error ? `: ${turn.error.message}` : ""
    super(`turn_${turn.status}`, `The turn ended as ${turn.status}${why}`, {...turn.error})
    this.turn = turn
  }
}
