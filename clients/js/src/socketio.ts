/** The client over Socket.IO; needs the package `socket.io-client` beside this one. */

import {Bridge, type BridgeOptions} from "./core/bridge.js"
import {originOf} from "./core/transport.js"
import {SocketIoTransport, type SocketIoOptions} from "./transports/socketio.js"

export * from "./core/index.js"
export type {SocketIoOptions} from "./transports/socketio.js"

export interface ConnectOptions extends BridgeOptions, SocketIoOptions {
  /** A function is asked anew at every attempt to connect, as for tokens that run out. */
  readonly token: string | (() => string)
}

/** As `connect` of the main entry. */
export function connect(url: string, {token, timeoutMs, ...options}: ConnectOptions): Bridge {
  const place = {origin: originOf(url), token: typeof token === "function" ? token : () => token}
  return new Bridge(new SocketIoTransport(place, options), {timeoutMs})
}
