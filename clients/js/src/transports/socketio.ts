/** The same by socket.io-client, which connects and comes back, and joins nothing by itself. */

import {io, type ManagerOptions, type Socket, type SocketOptions} from "socket.io-client"
import {BridgeError} from "../core/errors.js"
import type {Payload, Place, Reply, Transport, TransportEvents} from "../core/transport.js"

export interface SocketIoOptions {
  /** socket.io-client's own options, such as `transports`, `path`, `reconnectionDelay`. */
  readonly io?: Partial<ManagerOptions & SocketOptions> | undefined
}

export class SocketIoTransport implements Transport {
  readonly #socket: Socket
  #events: TransportEvents | undefined
  /** Each topic's latest join, and whether it was answered. */
  readonly #joins = new Map<string, {answered: boolean}>()

  constructor(place: Place, {io: options}: SocketIoOptions) {
    const {origin, pathname} = new URL(place.origin)
    this.#socket = io(origin, {
      path: `${pathname.replace(/\/$/, "")}/socket.io`,
      ...options,
      auth: (give: (auth: object) => void) => give({token: place.token()}),
      autoConnect: false,
      // Two clients of one page are two connections, so that closing one leaves the other.
      forceNew: true,
    })
  }

  open(events: TransportEvents): void {
    this.#events = events
    this.#socket.on("connect", () => this.#events?.up())
    this.#socket.on("disconnect", (reason) => {
      this.#joins.clear()
      this.#events?.down(reason)
    })
    this.#socket.on("connect_error", (error: Error & {data?: unknown}) => {
      const said = (error.data as {reason?: unknown} | undefined)?.reason
      if (typeof said === "string") this.#events?.refused(BridgeError.from(error.data))
      else this.#events?.down(error.message)
    })
    this.#socket.on("message", (topic: string, event: string, payload: unknown) => {
      if (!this.#joins.get(topic)?.answered) return
      if (event === "phx_close" || event === "phx_error") this.#joins.delete(topic)
      this.#events?.message(topic, event, bytesOr(payload))
    })
    this.#socket.connect()
  }

  join(topic: string, payload: object, reply: (reply: Reply) => void): void {
    const join = {answered: false}
    this.#joins.set(topic, join)
    this.#emit("join", [topic, payload], (answer) => {
      if (this.#joins.get(topic) !== join) return
      if (answer.status === "ok") join.answered = true
      else this.#joins.delete(topic)
      reply(answer)
    })
  }

  leave(topic: string): void {
    if (this.#joins.delete(topic)) this.#emit("leave", [topic], () => undefined)
  }

  push(topic: string, event: string, payload: Payload, reply: (reply: Reply) => void): void {
    this.#emit("push", [topic, event, payload], reply)
  }

  reconnect(): void {
    this.#socket.disconnect().connect()
  }

  close(): void {
    this.#events = undefined
    this.#joins.clear()
    this.#socket.disconnect()
    this.#socket.removeAllListeners()
  }

  /** What is said to a connection that has just gone is lost, not kept for the next: the core says it again. */
  #emit(event: string, words: unknown[], ack: (reply: Reply) => void): void {
    if (this.#socket.connected) this.#socket.emit(event, ...words, ack)
  }
}

/** Bytes come as a `Buffer` in Node, which is a `Uint8Array` already, and as an `ArrayBuffer` in browsers. */
function bytesOr(payload: unknown): unknown {
  return payload instanceof ArrayBuffer ? new Uint8Array(payload) : payload
}
