/** The connection that all topics share, and which topics there are. */

import {Store} from "./emitter.js"
import {BridgeError} from "./errors.js"
import {Topic, type Occupant} from "./topic.js"
import type {Transport} from "./transport.js"

export interface Connection {
  /**
   * - `connecting`: never connected yet. - `open`. - `reconnecting`: lost, and tried again by itself.
   * - `refused`: the token does not count; `reconnect()` tries again. - `closed`: by `close()`.
   */
  readonly status: "connecting" | "open" | "reconnecting" | "refused" | "closed"
  /** When it became so, as `Date.now()`. */
  readonly since: number
  /** Why it is not open, as far as that is known. */
  readonly reason?: string
}

/** Where the bridge does not say when it will take a client that it refused for now. */
const AGAIN_MS = 5000

export class Hub {
  readonly connection = new Store<Connection>({status: "connecting", since: Date.now()})
  #refusal: BridgeError | undefined
  #again: ReturnType<typeof setTimeout> | undefined
  readonly #topics = new Map<string, Topic>()

  constructor(readonly transport: Transport, readonly timeoutMs: number) {
    transport.open({
      up: () => this.#up(),
      down: (why) => this.#down(why),
      refused: (error) => this.#refused(error),
      message: (topic, event, payload) => this.#topics.get(topic)?.heard(event, payload),
    })
  }

  get isUp(): boolean {
    return this.connection.getSnapshot().status === "open"
  }

  /** Why nothing can be asked for, where that is so. */
  get refusal(): BridgeError | undefined {
    return this.#refusal
  }

  /** Joined from now on, until it is ended. */
  topic(name: string, occupant: Occupant): Topic {
    if (this.#topics.has(name)) throw new TypeError(`${name} is joined already`)
    if (this.#isClosed) throw this.#refusal ?? closedError()
    const topic = new Topic(this, name, occupant)
    this.#topics.set(name, topic)
    // Later, so that whoever asks for it has it in hand before anything is told.
    queueMicrotask(() => {
      if (topic.phase !== "waiting") return
      if (this.#refusal) topic.refuse(this.#refusal)
      else if (this.isUp) topic.up()
    })
    return topic
  }

  remove(topic: Topic, leave: boolean): void {
    this.#topics.delete(topic.name)
    if (leave && this.isUp) this.transport.leave(topic.name)
  }

  reconnect(): void {
    if (this.#isClosed) throw closedError()
    if (this.#refusal) this.#become("reconnecting")
    this.#refusal = undefined
    clearTimeout(this.#again)
    this.transport.reconnect()
  }

  close(): void {
    if (this.#isClosed) return
    const error = closedError()
    for (const topic of [...this.#topics.values()]) topic.end(error, false)
    this.#refusal = error
    clearTimeout(this.#again)
    this.#become("closed")
    this.transport.close()
    this.connection.clear()
  }

  get #isClosed(): boolean {
    return this.connection.getSnapshot().status === "closed"
  }

  #become(status: Connection["status"], reason?: string): void {
    const made = {status, since: Date.now()}
    this.connection.set(reason === undefined ? made : {...made, reason})
  }

  #up(): void {
    if (this.#isClosed) return
    this.#refusal = undefined
    this.#become("open")
    for (const topic of [...this.#topics.values()]) topic.up()
  }

  #down(why: string): void {
    const {status} = this.connection.getSnapshot()
    if (status === "closed" || status === "refused") return
    if (status === "open") this.#become("reconnecting", why)
    else if (this.connection.getSnapshot().reason !== why) {
      this.connection.set({...this.connection.getSnapshot(), reason: why})
    }
    for (const topic of [...this.#topics.values()]) topic.down()
  }

  #refused(error: BridgeError): void {
    if (this.#isClosed) return
    if (error.retryable) {
      this.#down(error.message)
      const seconds = error.details["retry_after_s"]
      clearTimeout(this.#again)
      this.#again = setTimeout(() => this.transport.reconnect(), typeof seconds === "number" ? seconds * 1000 : AGAIN_MS)
      return
    }
    this.#refusal = error
    this.#become("refused", error.message)
    for (const topic of [...this.#topics.values()]) topic.refuse(error)
  }
}

function closedError(): BridgeError {
  return new BridgeError("closed", "This client was closed.")
}
