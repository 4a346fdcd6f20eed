/** What every entry of the package exports, whatever carries it. */

export {Bridge, type BridgeOptions} from "./bridge.js"
export {RETRYABLE, type BridgeCode} from "./codes.js"
export type {Unsubscribe} from "./emitter.js"
export {BridgeError, TurnError, type ClientCode, type ErrorCode} from "./errors.js"
export type {Connection} from "./hub.js"
export type {Lobby, LobbySignals, LobbyState} from "./lobby.js"
export type {AskOptions, Pool, PoolState} from "./pool.js"
export type {Presence} from "./presence.js"
export type {
  Asking, Attachment, Joined, Session, SessionOptions, SessionSignals, SessionState, SubmitOptions,
} from "./session.js"
export type {Terminal, TerminalSignals} from "./terminal.js"
export type {TurnEvent, TurnFinished, TurnHandle, Waiting} from "./turn.js"
export type * from "./wire.js"
