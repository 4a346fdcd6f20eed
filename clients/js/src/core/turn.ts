/** One prompt and what becomes of it, through every break of the connection. */

import {TurnError} from "./errors.js"
import {Feed, unlessAborted} from "./feed.js"
import type {Named, SessionEvents, Turn} from "./wire.js"

/**
 * What a loop over a turn is told: its events, and `snapshot` in place of events that were not told one by one
 * (the loop began late or was slow, or the bridge was restarted): show that turn as it is, then go on.
 */
export type TurnEvent =
  | Named<SessionEvents, Exclude<keyof SessionEvents, "session_changed" | "turn_finished">>
  | {readonly event: "snapshot", readonly turn: Turn}
  | TurnFinished

/** Always the last one. `turn` is the whole turn; the other fields are those of the protocol. */
export type TurnFinished = {readonly event: "turn_finished", readonly turn: Turn} & Pick<
  Turn,
  "status" | "text" | "error" | "usage" | "cost_usd"
>

/** Whose turn it is: a session, or a pool. */
export interface TurnHome {
  /** The turn as it is known here. */
  turn(id: string): Turn | undefined
  /** Take back what is queued, or break off what runs. */
  stop(turn: Turn | undefined, id: string): Promise<void>
}

export interface Waiting {
  /** Aborting ends the waiting, never the turn: `stop()` does that. */
  readonly signal?: AbortSignal | undefined
}

/** Kept until the first loop begins, and by a loop that is slow; beyond it, `snapshot` stands for all of them. */
const MOST_EVENTS = 2000

export class TurnHandle implements AsyncIterable<TurnEvent> {
  /** What the bridge calls it. */
  readonly id: string
  /** What its author called it, where it was submitted from here. */
  readonly key: string | undefined
  readonly #home: TurnHome
  readonly #feeds = new Set<Feed<TurnEvent>>()
  #early: TurnEvent[] | null
  #final: Turn | undefined
  #error: unknown
  #settle!: {resolve(turn: Turn): void, reject(error: unknown): void}
  readonly #settled: Promise<Turn>

  /** @internal */
  constructor(home: TurnHome, id: string, key?: string) {
    this.#home = home
    this.id = id
    this.key = key
    this.#early = []
    this.#settled = new Promise((resolve, reject) => (this.#settle = {resolve, reject}))
    this.#settled.catch(() => undefined) // whoever asks is told; nobody has to ask
    const known = home.turn(id)
    if (known && known.status !== "queued") this.#early = this.#snapshot()
  }

  /** The turn as it is known now; undefined until the bridge has told of it. */
  get turn(): Turn | undefined {
    return this.#final ?? this.#home.turn(this.id)
  }

  get isFinished(): boolean {
    return this.#final !== undefined
  }

  /** The turn once it has ended, however it did. Rejects only where this client is closed or the session deleted. */
  finished({signal}: Waiting = {}): Promise<Turn> {
    return unlessAborted(this.#settled, signal)
  }

  /** The reply. Rejects with `TurnError`, which has what was said until then, where the turn did not complete. */
  async text({signal}: Waiting = {}): Promise<string> {
    const turn = await this.finished({signal})
    if (turn.status !== "completed") throw new TurnError(turn)
    return turn.text
  }

  /** Take it back where it is queued, break it off where it runs; nothing where it has ended. */
  async stop(): Promise<void> {
    if (this.#final === undefined) await this.#home.stop(this.turn, this.id)
  }

  /** Every event from the beginning, to the first loop; a later one begins with `snapshot`. Ends with the turn. */
  [Symbol.asyncIterator](): AsyncIterableIterator<TurnEvent> {
    return this.events()
  }

  events({signal}: Waiting = {}): AsyncIterableIterator<TurnEvent> {
    const first = this.#early ?? this.#snapshot()
    this.#early = null
    const abort = (): void => feed.end(signal?.reason)
    const feed = new Feed<TurnEvent>(first, MOST_EVENTS, () => this.#snapshot(), (left) => {
      this.#feeds.delete(left)
      signal?.removeEventListener("abort", abort)
    })
    if (signal?.aborted) abort()
    else if (this.#final !== undefined) feed.end()
    else if (this.#error !== undefined) feed.end(this.#error)
    else {
      this.#feeds.add(feed)
      signal?.addEventListener("abort", abort, {once: true})
    }
    return feed
  }

  /** @internal An event of this turn; the state has it already. */
  take(event: TurnEvent): void {
    if (this.#final !== undefined || this.#error !== undefined) return
    if (this.#early) {
      if (this.#early.length < MOST_EVENTS) this.#early.push(event)
      else this.#early = this.#snapshot()
    }
    for (const feed of [...this.#feeds]) feed.push(event)
  }

  /** @internal What is known now replaces what was told before. */
  replace(): void {
    if (this.#early && this.turn?.status !== "queued") this.#early = this.#snapshot()
    for (const event of this.#snapshot()) for (const feed of [...this.#feeds]) feed.push(event)
  }

  /** @internal It has ended. */
  finish(turn: Turn): void {
    if (this.#final !== undefined || this.#error !== undefined) return
    this.take(finishedEvent(turn))
    this.#final = turn
    for (const feed of [...this.#feeds]) feed.end()
    this.#settle.resolve(turn)
  }

  /** @internal Nothing more will be known of it. */
  fail(error: unknown): void {
    if (this.#final !== undefined || this.#error !== undefined) return
    this.#error = error
    for (const feed of [...this.#feeds]) feed.end(error)
    this.#settle.reject(error)
  }

  #snapshot(): TurnEvent[] {
    const turn = this.turn
    if (!turn) return []
    const events: TurnEvent[] = [{event: "snapshot", turn}]
    return this.#final ? [...events, finishedEvent(turn)] : events
  }
}

function finishedEvent(turn: Turn): TurnFinished {
  const {status, text, error, usage, cost_usd} = turn
  return {
    event: "turn_finished",
    turn,
    status,
    text,
    ...(error && {error}),
    ...(usage && {usage}),
    ...(cost_usd !== undefined && {cost_usd}),
  }
}

export function hasFinished(turn: Turn | undefined): turn is Turn {
  return turn !== undefined && turn.status !== "queued" && turn.status !== "running"
}
