/** The client over Phoenix Channels. `claude-bridge-client/socketio` is the same over Socket.IO. */

import {Bridge, type BridgeOptions} from "./core/bridge.js"
import {originOf} from "./core/transport.js"
import {PhoenixTransport, type PhoenixOptions} from "./transports/phoenix.js"

export * from "./core/index.js"
export type {PhoenixOptions} from "./transports/phoenix.js"

export interface ConnectOptions extends BridgeOptions, PhoenixOptions {
  /** A function is asked anew at every attempt to connect, as for tokens that run out. */
  readonly token: string | (() => string)
}

/**
 * Connect to a bridge, and stay connected. Returns at once: what is asked for waits for the connection.
 *
 * @param url Where the bridge answers, such as `http://127.0.0.1:4040`; `ws:` and a path `/socket` are fine.
 */
export function connect(url: string, {token, timeoutMs, ...options}: ConnectOptions): Bridge {
  const place = {origin: originOf(url), token: typeof token === "function" ? token : () => token}
  return new Bridge(new PhoenixTransport(place, options), {timeoutMs})
}
