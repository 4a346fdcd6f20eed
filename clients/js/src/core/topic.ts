/**
 * One topic, kept joined for as long as somebody wants it: joined again after every break, its requests sent
 * again where that is harmless. Knows no event by name but Phoenix's own two.
 */

import {BridgeError} from "./errors.js"
import type {Hub} from "./hub.js"
import type {Payload, Reply} from "./transport.js"

/** Where a topic stands; `ended` is for good. */
export type TopicPhase = "waiting" | "joining" | "joined" | "ended"

/** Whose topic it is. Called in order, never out of a call of its own. */
export interface Occupant {
  /** The join's payload, asked for anew at each attempt. */
  payload(): object
  /** Answered. Requests that waited are sent after this returns. */
  joined(reply: unknown): void
  heard(event: string, payload: unknown): void
  /** Not joined any more, and about to join again. */
  lost(): void
  /** The token does not count: what was asked for has failed, and nothing is joined until that changes. */
  refused(error: BridgeError): void
  ended(error: BridgeError): void
}

export interface PushOptions<T> {
  /** Whether it may be sent a second time where the connection broke before the answer. */
  readonly again: boolean
  /** Not to be kept for a later connection, where it would mean something else: rejects with `disconnected`. */
  readonly now?: boolean | undefined
  readonly timeoutMs?: number | undefined
  readonly signal?: AbortSignal | undefined
  /** Makes the result out of the response at once, before any later event is told. */
  readonly accept?: ((response: unknown) => T) | undefined
  /** Of a refusal of what was sent again: the result, where the first one was evidently carried out. */
  readonly forgive?: ((error: BridgeError) => T | undefined) | undefined
}

interface Outstanding {
  readonly event: string
  readonly payload: Payload
  readonly again: boolean
  readonly now: boolean
  sent: number
  /** Which of the connections it was last sent over; 0 where it waits. */
  over: number
  answer(reply: Reply): void
  fail(error: unknown): void
}

/** The bridge asks nobody to wait; these are for refusals that pass, and for a channel that crashed. */
const AGAIN_MS = [100, 500, 1000, 2000, 5000, 10_000]
/** Joins are answered from a journal. Who hears nothing for so long has been lost on the way. */
const JOIN_MS = 15_000

export class Topic {
  #phase: TopicPhase = "waiting"
  #wasJoined = false
  #attempt = 0
  #tries = 0
  /** To be joined again as soon as nothing is on its way that may not be sent twice. */
  #isStale = false
  #timer: ReturnType<typeof setTimeout> | undefined
  #refusal: BridgeError | undefined
  #end: BridgeError | undefined
  readonly #outstanding = new Set<Outstanding>()

  constructor(
    private readonly hub: Hub,
    readonly name: string,
    private readonly occupant: Occupant,
  ) {}

  get phase(): TopicPhase {
    return this.#phase
  }

  /** Why it ended, if it has. */
  get error(): BridgeError | undefined {
    return this.#end
  }

  /** The connection is there: join. */
  up(): void {
    this.#lost()
    this.#tries = 0
    this.#join()
  }

  down(): void {
    this.#lost()
  }

  /** Join again, as after a gap in the numbers; behind what was sent and may not be sent again: no answer crosses a join. */
  rejoin(): void {
    if (this.#phase !== "joined") return
    this.#isStale = [...this.#outstanding].some((each) => each.over !== 0 && !each.again)
    if (this.#isStale) return
    this.#lost()
    this.#join()
  }

  heard(event: string, payload: unknown): void {
    if (event === "phx_close") {
      this.end(new BridgeError("closed", `The bridge closed ${this.name}: it was deleted.`), false)
    } else if (event === "phx_error") {
      this.#lost()
      this.#later()
    } else if (this.#phase === "joined") {
      this.occupant.heard(event, payload)
    }
  }

  /** For good: what is outstanding fails. Safe to repeat. */
  end(error: BridgeError, leave = true): void {
    if (this.#phase === "ended") return
    const joined = this.#phase === "joined" || this.#phase === "joining"
    this.#stop("ended")
    this.#end = error
    this.hub.remove(this, leave && joined)
    for (const each of [...this.#outstanding]) each.fail(error)
    this.occupant.ended(error)
  }

  /** What is refused for now: everything outstanding fails, and a later `up` begins again. */
  refuse(error: BridgeError): void {
    this.#lost()
    for (const each of [...this.#outstanding]) each.fail(error)
    this.occupant.refused(error)
  }

  /**
   * Ask for something. Waits for the join. Rejects with `BridgeError` (`timeout`, `disconnected`, or what the
   * bridge refuses it with), or with the signal's reason.
   */
  push<T = unknown>(event: string, payload: Payload, options: PushOptions<T>): Promise<T> {
    const {again, now, signal, accept, forgive, timeoutMs = this.hub.timeoutMs} = options
    return new Promise<T>((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason as Error)
      const refused = this.#end ?? this.hub.refusal
      if (refused) return reject(refused)
      if (now && this.#wasJoined && !this.hub.isUp) {
        return reject(new BridgeError("disconnected", `${this.name} is not connected: ${event} was not sent.`))
      }
      const finish = (): void => {
        clearTimeout(timer)
        signal?.removeEventListener("abort", abort)
        this.#outstanding.delete(asked)
        if (this.#isStale) queueMicrotask(() => this.#isStale && this.rejoin())
      }
      const asked: Outstanding = {
        event,
        payload,
        again,
        now: now === true,
        sent: 0,
        over: 0,
        answer: (reply) => {
          if (reply.status === "ok") {
            finish()
            try {
              return resolve(accept ? accept(reply.response) : (reply.response as T))
            } catch (error) {
              return reject(error as Error)
            }
          }
          const error = BridgeError.from(reply.response)
          if (error.code === "unmatched topic") return this.#orphaned(asked)
          finish()
          const made = asked.sent > 1 ? forgive?.(error) : undefined
          if (made === undefined) reject(error)
          else resolve(made)
        },
        fail: (error) => {
          finish()
          reject(error as Error)
        },
      }
      const abort = (): void => asked.fail(signal?.reason)
      const timer = setTimeout(() => {
        const why = `The bridge did not answer ${event} on ${this.name} within ${timeoutMs} ms.`
        asked.fail(new BridgeError("timeout", why, {}, this.#refusal))
      }, timeoutMs)
      signal?.addEventListener("abort", abort, {once: true})
      this.#outstanding.add(asked)
      if (this.#phase === "joined") this.#send(asked)
    })
  }

  #join(): void {
    if (!this.hub.isUp || this.#phase === "ended") return
    clearTimeout(this.#timer)
    this.#phase = "joining"
    const attempt = ++this.#attempt
    this.#timer = setTimeout(() => {
      this.hub.transport.leave(this.name)
      this.#phase = "waiting"
      this.#join()
    }, JOIN_MS)
    this.hub.transport.join(this.name, this.occupant.payload(), (reply) => {
      if (attempt !== this.#attempt || this.#phase !== "joining") return
      clearTimeout(this.#timer)
      if (reply.status === "ok") this.#joined(reply.response)
      else this.#refused(BridgeError.from(reply.response))
    })
  }

  #joined(response: unknown): void {
    this.#phase = "joined"
    this.#wasJoined = true
    this.#tries = 0
    this.#refusal = undefined
    this.occupant.joined(response)
    for (const each of [...this.#outstanding]) {
      if (this.#phase === "joined" && each.over === 0) this.#send(each)
    }
  }

  #refused(error: BridgeError): void {
    this.#phase = "waiting"
    this.#refusal = error
    // Phoenix's own words for an exception in the join: it passes, or is the bridge's to mend.
    if (!error.retryable && error.code !== "join crashed") return this.end(error, false)
    const seconds = error.details["retry_after_s"]
    this.#later(typeof seconds === "number" ? seconds * 1000 : 0)
  }

  #later(atLeastMs = 0): void {
    const wait = AGAIN_MS[Math.min(this.#tries++, AGAIN_MS.length - 1)] ?? 0
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#join(), Math.max(wait, atLeastMs))
  }

  #send(asked: Outstanding): void {
    const attempt = this.#attempt
    asked.sent += 1
    asked.over = attempt
    this.hub.transport.push(this.name, asked.event, asked.payload, (reply) => {
      if (asked.over === attempt && this.#outstanding.has(asked)) asked.answer(reply)
    })
  }

  /** The bridge does not know our join: it was lost on the way, and so was this. */
  #orphaned(asked: Outstanding): void {
    asked.over = 0
    if (this.#phase !== "joined") return
    this.#lost()
    this.#later()
  }

  #lost(): void {
    if (this.#phase === "ended") return
    const joined = this.#phase === "joined"
    this.#stop("waiting")
    for (const each of [...this.#outstanding]) {
      if (each.over !== 0 && !each.again) {
        const why = `The connection broke before ${each.event} was answered; it may have been done.`
        each.fail(new BridgeError("disconnected", why))
      } else if (each.now && this.#wasJoined && !this.hub.isUp) {
        each.fail(new BridgeError("disconnected", `The connection broke before ${each.event} was sent.`))
      }
      each.over = 0
    }
    if (joined) this.occupant.lost()
  }

  #stop(phase: "waiting" | "ended"): void {
    clearTimeout(this.#timer)
    this.#attempt += 1
    this.#phase = phase
    this.#isStale = false
  }
}
