/**
 * Phoenix Channels by the official client: its `Socket` connects, encodes, keeps alive and comes back. Its `Channel`
 * is left aside, as it would join again by itself.
 */

import {LongPoll, Socket, type Message} from "phoenix"
import {PlatformWebSocket} from "#websocket"
import type {Payload, Place, Reply, Transport, TransportEvents} from "../core/transport.js"
import {refusalAt} from "./probe.js"

export interface PhoenixOptions {
  /** `websocket` where nothing is said. Screens do not come over `longpoll`. */
  readonly transport?: "websocket" | "longpoll" | undefined
  /** Take long poll where a WebSocket is refused, or not answered for so long. */
  readonly longPollFallbackMs?: number | undefined
  /** In place of the platform's. */
  readonly WebSocket?: unknown
  readonly reconnectAfterMs?: ((tries: number) => number) | undefined
}

export class PhoenixTransport implements Transport {
  readonly #place: Place
  readonly #socket: Socket
  #events: TransportEvents | undefined
  #isUp = false
  #failures = 0
  /** The question that is on its way, if one is; a later connection or token makes its answer void. */
  #asking: object | undefined
  /** The reference of each topic's latest join, and whether it was answered. */
  readonly #joins = new Map<string, {readonly ref: string, answered: boolean}>()
  readonly #replies = new Map<string, (reply: Reply) => void>()

  constructor(place: Place, options: PhoenixOptions) {
    this.#place = place
    const {longPollFallbackMs, reconnectAfterMs} = options
    this.#socket = new Socket(`${place.origin.replace(/^http/, "ws")}/socket`, {
      transport: options.transport === "longpoll" ? LongPoll : (options.WebSocket ?? PlatformWebSocket),
      ...credentials(place.token),
      ...(longPollFallbackMs !== undefined && {longPollFallbackMs}),
      ...(reconnectAfterMs && {reconnectAfterMs}),
    })
  }

  open(events: TransportEvents): void {
    this.#events = events
    this.#socket.onOpen(() => {
      this.#forget()
      this.#isUp = true
      this.#failures = 0
      this.#asking = undefined
      this.#events?.up()
    })
    this.#socket.onClose((event) => this.#down(event))
    this.#socket.onMessage((message) => this.#heard(message))
    this.#socket.connect()
  }

  join(topic: string, payload: object, reply: (reply: Reply) => void): void {
    const ref = this.#socket.makeRef()
    const join = {ref, answered: false}
    this.#joins.set(topic, join)
    this.#replies.set(ref, (answer) => {
      if (this.#joins.get(topic) !== join) return
      if (answer.status === "ok") join.answered = true
      else this.#joins.delete(topic)
      reply(answer)
    })
    this.#say({topic, event: "phx_join", payload, ref, join_ref: ref})
  }

  leave(topic: string): void {
    const join = this.#joins.get(topic)
    if (!join) return
    this.#joins.delete(topic)
    this.#replies.delete(join.ref)
    this.#say({topic, event: "phx_leave", payload: {}, ref: this.#socket.makeRef(), join_ref: join.ref})
  }

  push(topic: string, event: string, payload: Payload, reply: (reply: Reply) => void): void {
    const ref = this.#socket.makeRef()
    this.#replies.set(ref, reply)
    // The serializer knows bytes by this one class.
    const said = payload instanceof Uint8Array ? payload.slice().buffer : payload
    this.#say({topic, event, payload: said, ref, join_ref: this.#joins.get(topic)?.ref ?? null})
  }

  reconnect(): void {
    this.#failures = 0
    this.#asking = undefined
    this.#socket.disconnect(() => {
      if (this.#events) this.#socket.connect()
    })
  }

  close(): void {
    this.#events = undefined
    this.#asking = undefined
    this.#forget()
    this.#socket.disconnect()
  }

  /** What is said to a connection that has just gone is lost, not kept for the next: the core says it again. */
  #say(message: Message): void {
    if (this.#socket.isConnected()) this.#socket.push(message)
  }

  #heard({topic, event, payload, ref, join_ref}: Message): void {
    if (event === "phx_reply") {
      const reply = ref === null ? undefined : this.#replies.get(ref)
      if (ref === null || !reply) return
      this.#replies.delete(ref)
      return reply(payload as Reply)
    }
    const join = this.#joins.get(topic)
    // What belongs to an earlier join, or to the broadcasts of one that is being replaced.
    if (!join?.answered || (join_ref !== null && join_ref !== join.ref)) return
    if (event === "phx_close" || event === "phx_error") this.#joins.delete(topic)
    this.#events?.message(topic, event, payload instanceof ArrayBuffer ? new Uint8Array(payload) : payload)
  }

  #down(event: {code?: number, reason?: string} | undefined): void {
    const wasUp = this.#isUp
    this.#isUp = false
    this.#forget()
    this.#events?.down(event?.reason || `closed with ${event?.code ?? "no code"}`)
    if (!wasUp) void this.#askWhy()
  }

  /** A browser does not say why it was not let in, so it is asked for, at the first of several failures. */
  async #askWhy(): Promise<void> {
    this.#failures += 1
    if (this.#failures % 5 !== 1 || this.#asking) return
    const asking = (this.#asking = {})
    const refusal = await refusalAt(this.#place)
    if (this.#asking !== asking) return
    this.#asking = undefined
    if (!refusal || this.#isUp) return
    this.#socket.disconnect()
    this.#events?.refused(refusal)
  }

  #forget(): void {
    this.#joins.clear()
    this.#replies.clear()
  }
}

/** A sub-protocol is in no proxy's log. Where its base64 has a `/`, no browser sends it: then it is a parameter. */
function credentials(token: () => string): {params?: () => object, authToken?: () => string} {
  let inProtocol = false
  try {
    inProtocol = !btoa(token()).includes("/")
  } catch {
    // Not Latin-1.
  }
  return inProtocol ? {authToken: token} : {params: () => ({token: token()})}
}
