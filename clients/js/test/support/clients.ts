/** The same client over each of its transports. */

import {connect as phoenix, type Bridge} from "../../src/index.js"
import {connect as socketio} from "../../src/socketio.js"

type Connect = (url: string, token: string | (() => string), options?: {timeoutMs?: number}) => Bridge

/** The libraries' own first attempts, without their patience: a test's network is there again at once. */
const soon = (tries: number): number => Math.min(20 * tries, 200)
const io = {reconnectionDelay: 20, reconnectionDelayMax: 200}

export const TRANSPORTS: Record<string, Connect> = {
  phoenix: (url, token, more) => phoenix(url, {token, reconnectAfterMs: soon, ...more}),
  "phoenix, long poll": (url, token, more) => phoenix(url, {token, transport: "longpoll", reconnectAfterMs: soon, ...more}),
  "socket.io": (url, token, more) => socketio(url, {token, io, ...more}),
}
