/** A transport without a wire: what is said goes to a `FakeBridge` of the same process. */

import type {BridgeError} from "../core/errors.js"
import type {Payload, Reply, Transport, TransportEvents} from "../core/transport.js"

/** What the connection calls; answers are given with `tell`, events with `message`. */
export interface FarEnd {
  connected(connection: FakeConnection): void
  join(connection: FakeConnection, topic: string, payload: object, reply: (reply: Reply) => void): void
  push(connection: FakeConnection, topic: string, event: string, payload: Payload, reply: (reply: Reply) => void): void
  left(connection: FakeConnection, topic: string): void
  closed(connection: FakeConnection): void
}

export class FakeConnection implements Transport {
  #events: TransportEvents | undefined
  #isUp = false
  /** Counts the connections, so that what was said over an earlier one is not told on a later one. */
  #era = 0
  readonly joined = new Map<string, boolean>()
  readonly #queue: (() => void)[] = []
  #flushing = false

  constructor(private readonly far: FarEnd) {}

  get isUp(): boolean {
    return this.#isUp
  }

  open(events: TransportEvents): void {
    this.#events = events
    this.#later(() => this.far.connected(this))
  }

  up(): void {
    this.#isUp = true
    this.#later(() => this.#events?.up())
  }

  /** The connection breaks, and what was on its way is lost. */
  cut(why = "cut by the test"): void {
    if (!this.#isUp) return
    this.#isUp = false
    this.#era += 1
    this.#queue.length = 0
    this.joined.clear()
    this.#later(() => this.#events?.down(why))
  }

  refuse(error: BridgeError): void {
    this.cut()
    this.#later(() => this.#events?.refused(error))
  }

  join(topic: string, payload: object, reply: (reply: Reply) => void): void {
    this.joined.delete(topic)
    this.#asked(reply, (answer) => {
      this.far.join(this, topic, copied(payload), (said) => {
        if (said.status === "ok") this.joined.set(topic, true)
        answer(said)
      })
    })
  }

  push(topic: string, event: string, payload: Payload, reply: (reply: Reply) => void): void {
    this.#asked(reply, (answer) => {
      if (this.joined.has(topic)) return this.far.push(this, topic, event, copied(payload), answer)
      answer({status: "error", response: {reason: "unmatched topic"}})
    })
  }

  leave(topic: string): void {
    if (!this.joined.delete(topic)) return
    this.#later(() => this.far.left(this, topic))
  }

  message(topic: string, event: string, payload: unknown): void {
    if (!this.joined.has(topic)) return
    this.#later(() => {
      if (!this.joined.has(topic)) return
      if (event === "phx_close" || event === "phx_error") this.joined.delete(topic)
      this.#events?.message(topic, event, copied(payload))
    })
  }

  reconnect(): void {
    this.cut("reconnecting")
    this.#later(() => this.far.connected(this))
  }

  close(): void {
    this.#events = undefined
    this.#isUp = false
    this.#era += 1
    this.joined.clear()
    this.far.closed(this)
  }

  #asked(reply: (reply: Reply) => void, ask: (answer: (reply: Reply) => void) => void): void {
    const era = this.#era
    this.#later(() => {
      if (era !== this.#era) return
      ask((said) => {
        if (era === this.#era) this.#later(() => reply(copied(said)))
      })
    })
  }

  /** One thing after the other, each in a microtask of its own, as messages come over a real wire. */
  #later(what: () => void): void {
    this.#queue.push(what)
    if (this.#flushing) return
    this.#flushing = true
    const next = (): void => {
      const first = this.#queue.shift()
      if (!first) {
        this.#flushing = false
        return
      }
      try {
        first()
      } finally {
        queueMicrotask(next)
      }
    }
    queueMicrotask(next)
  }
}

/** As the wire would have it: nobody gets hold of the other side's objects. */
function copied<T>(payload: T): T {
  return structuredClone(payload)
}
