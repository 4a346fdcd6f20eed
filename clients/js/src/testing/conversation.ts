/** A session of the fake bridge: its events with their numbers, and what it amounts to. */

import {advance, turnIn, type Conversation} from "../core/state.js"
import type {
  Cursor, FinalStatus, Json, Request, SessionEvent, SessionEventName, SessionEvents, SessionInfo, Snapshot, Turn, TurnFailure,
} from "../core/wire.js"

/** What a test says of an event; the rest is given to it. */
export type Unnumbered<N extends SessionEventName> = Omit<SessionEvents[N], "seq" | "at" | "first_seq">

const NO_USAGE = {input_tokens: 0, output_tokens: 0, cache_creation_input_tokens: 0, cache_read_input_tokens: 0}
/** Events have times, and tests want them the same every time. */
const BEGAN = Date.UTC(2026, 0, 1)

export class FakeSession {
  readonly name: string
  #state: Conversation
  readonly #events: SessionEvent[] = []
  readonly #keys = new Map<string, {readonly turn: string, readonly prompt: string}>()
  readonly #closed = new Map<string, {readonly outcome: string, readonly by: string | null}>()
  #turns = 0
  #requests = 0
  #epoch = "epoch-1"
  /** The number before the first event of this epoch. */
  #floor = 0

  constructor(name: string, private readonly told: (event: SessionEvent) => void) {
    this.name = name
    const session: SessionInfo = {
      name, backend: "headless", state: "idle", evidence: {signal: "test", age_ms: 0}, model: "test-model", cwd: "/home/test",
      permission_mode: "default", conversation: "00000000-0000-4000-8000-000000000000", attach: null, started_at: this.#now(),
      turns: 0, restarts: 0, viewers: 1, usage: NO_USAGE, cost_usd: 0, node: "test",
    }
    this.#state = {session, turns: [], open: null, queue: [], requests: []}
  }

  get info(): SessionInfo {
    return this.#state.session
  }

  get open(): Turn | null {
    return this.#state.open
  }

  get queue(): readonly Turn[] {
    return this.#state.queue
  }

  turn(id: string): Turn | undefined {
    return turnIn(this.#state, id)
  }

  get seq(): number {
    return this.#events.at(-1)?.seq ?? this.#floor
  }

  /** As a restart of the bridge does it: the numbers begin again, and no client can be told what it missed. */
  renumber(): void {
    this.#epoch = `epoch-${Number(this.#epoch.slice(6)) + 1}`
    this.#events.length = 0
    this.#floor = 0
  }

  /** The join's reply, and what is told after it. */
  join(after: Cursor | undefined, turns: number): {readonly reply: Snapshot, readonly missed: readonly SessionEvent[]} {
    const {session, open, queue, requests} = this.#state
    const recovered = after !== undefined && after.epoch === this.#epoch && after.seq >= this.#floor && after.seq <= this.seq
    const shown = turns > 0 ? this.#state.turns.slice(-turns) : []
    const reply = {session, epoch: this.#epoch, seq: this.seq, recovered, turns: shown, open_turn: open, queue, requests}
    return {reply, missed: recovered ? this.#events.filter((e) => e.seq > after.seq) : []}
  }

  /** Any event of the protocol; gets its number here. */
  emit<N extends SessionEventName>(event: N, payload: Unnumbered<N>): void {
    const numbered = {event, ...payload, seq: this.seq + 1, at: this.#now()} as unknown as SessionEvent
    this.#events.push(numbered)
    this.#state = advance(this.#state, numbered, Number.POSITIVE_INFINITY)
    this.told(numbered)
  }

  /** What a submit is answered with; `begin` it after the answer. A string is a refusal of that key. */
  submit(prompt: string, key: string | null): {turn: string, status: string, position: number, duplicate?: true} | "differs" {
    const known = key === null ? undefined : this.#keys.get(key)
    if (known && known.prompt !== prompt) return "differs"
    if (known) return {turn: known.turn, status: this.turn(known.turn)?.status ?? "unknown", position: 0, duplicate: true}
    const turn = `turn-${++this.#turns}`
    if (key !== null) this.#keys.set(key, {turn, prompt})
    const position = this.queue.length + (this.open ? 1 : 0)
    return {turn, status: position === 0 ? "running" : "queued", position}
  }

  queued(turn: string, key: string | null, prompt: string, author: string | null, position: number): void {
    this.emit("turn_queued", {turn, key, prompt, author, position})
    this.next()
  }

  /** Start what is next, where nothing runs. */
  next(): void {
    const [first] = this.queue
    if (this.open || !first) return
    this.emit("turn_started", {turn: first.id, prompt: first.prompt, author: first.author, source: "client"})
  }

  finish(turn: string, status: FinalStatus, text: string, error?: TurnFailure): void {
    for (const {id} of this.#state.requests.filter((r) => r.turn === turn)) this.close(id, "withdrawn", null)
    const rest = {usage: NO_USAGE, cost_usd: 0, duration_ms: 1, ...(error && {error})}
    this.emit("turn_finished", {turn, status, text, ...rest})
    this.next()
  }

  request(asked: Partial<Request>): Request {
    const request: Request = {
      id: `request-${++this.#requests}`, kind: "permission", turn: this.open?.id ?? "", tool: "Bash", input: {}, suggestions: [],
      opened_at: this.#now(), ...asked,
    }
    this.emit("request_opened", {request})
    return request
  }

  /** How a request was closed; undefined of one that is open, null of one that never was. */
  closed(request: string): {readonly outcome: string, readonly by: string | null} | null | undefined {
    return this.#state.requests.some((r) => r.id === request) ? undefined : (this.#closed.get(request) ?? null)
  }

  close(request: string, outcome: SessionEvents["request_closed"]["outcome"], by: string | null): void {
    this.#closed.set(request, {outcome, by})
    this.emit("request_closed", {request, outcome, by})
  }

  change(session: Partial<SessionInfo>): void {
    this.emit("session_changed", {session: {...this.info, ...session}})
  }

  history(before: string | undefined, limit: number): Turn[] {
    const {turns} = this.#state
    const end = before === undefined ? turns.length : turns.findIndex((t) => t.id === before)
    return turns.slice(0, Math.max(0, end)).slice(-limit)
  }

  #now(): string {
    return new Date(BEGAN + this.#events.length * 1000).toISOString()
  }
}

/** An event without its name. */
export function payloadOf({event: _, ...payload}: SessionEvent): Json {
  return payload
}
