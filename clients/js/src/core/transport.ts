/**
 * The port between the client and the library that carries it. A transport connects, and connects again by itself;
 * what is joined, and joined again, is the core's to decide.
 */

import type {BridgeError} from "./errors.js"

export type Payload = object | Uint8Array

export type Reply =
  | {readonly status: "ok", readonly response: unknown}
  | {readonly status: "error", readonly response: unknown}

/** What a transport tells, one thing after the other, and never out of a `join`, `leave` or `push`. */
export interface TransportEvents {
  /** Connected: nothing is joined. Said again without `down` where the connection was replaced. */
  up(): void
  /** The connection is gone, and another one is being tried. Replies that were outstanding will not come. */
  down(why: string): void
  /** The bridge does not let this client in. The transport tries nothing more until `reconnect`. */
  refused(error: BridgeError): void
  /** An event of a topic, between the answer to its latest join and its leave; bytes as `Uint8Array`. */
  message(topic: string, event: string, payload: unknown): void
}

/** `join`, `leave` and `push` are called only while it is up. Each reply comes at most once. */
export interface Transport {
  open(events: TransportEvents): void
  join(topic: string, payload: object, reply: (reply: Reply) => void): void
  leave(topic: string): void
  push(topic: string, event: string, payload: Payload, reply: (reply: Reply) => void): void
  /** Try now, with the credentials of now. */
  reconnect(): void
  /** For good; nothing is told any more, and no timer is left. */
  close(): void
}

/** Where the bridge is, and what lets one in. */
export interface Place {
  /** `http(s)://host[:port][/path]`, without a slash at the end. */
  readonly origin: string
  readonly token: () => string
}

/** The bridge's address out of whatever a person has: `ws:` or `http:`, with or without a transport's path. */
export function originOf(url: string): string {
  const base = typeof location === "undefined" ? undefined : location.href
  const parsed = new URL(url, base)
  const protocol = parsed.protocol.replace(/^ws/, "http")
  if (!/^https?:$/.test(protocol)) throw new TypeError(`not the address of a bridge: ${url}`)
  const path = parsed.pathname.replace(/\/(socket(\/(websocket|longpoll))?|socket\.io)?\/?$/, "")
  return `${protocol}//${parsed.host}${path}`
}
