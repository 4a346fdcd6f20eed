/** The way in: one connection, and everything that is followed over it. */

import type {Unsubscribe} from "./emitter.js"
import {Hub, type Connection} from "./hub.js"
import {Lobby} from "./lobby.js"
import {Pool} from "./pool.js"
import {Session, type SessionOptions} from "./session.js"
import {Terminal} from "./terminal.js"
import type {Transport} from "./transport.js"

export interface BridgeOptions {
  /** How long a request waits for its answer, over all reconnects, in milliseconds; 30,000 where nothing is said. */
  readonly timeoutMs?: number | undefined
}

const TIMEOUT_MS = 30_000

export class Bridge {
  readonly #hub: Hub
  readonly #sessions = new Map<string, Session>()
  readonly #terminals = new Map<string, Terminal>()
  readonly #pools = new Map<string, Pool>()
  #lobby: Lobby | undefined

  /** @internal Use `connect`. */
  constructor(transport: Transport, {timeoutMs = TIMEOUT_MS}: BridgeOptions = {}) {
    this.#hub = new Hub(transport, timeoutMs)
  }

  /** How the connection is. It comes back by itself, but from `refused` and `closed`. */
  get connection(): Connection {
    return this.#hub.connection.getSnapshot()
  }

  /** For `useSyncExternalStore(bridge.subscribe, bridge.getSnapshot)`, which gives `connection`. */
  get subscribe(): (listener: () => void) => Unsubscribe {
    return this.#hub.connection.subscribe
  }

  get getSnapshot(): () => Connection {
    return this.#hub.connection.getSnapshot
  }

  /** Tells of every change of `connection`. Returns what removes the listener. */
  on(_event: "connection", listener: (connection: Connection) => void): Unsubscribe {
    return this.#hub.connection.subscribe(() => listener(this.connection))
  }

  /** A conversation, followed from now on. One object for each name until it is closed; its options are the first's. */
  session(name: string, options: SessionOptions = {}): Session {
    return kept(this.#sessions, name, (forget) => new Session(this.#hub, name, options, forget))
  }

  /** All sessions that the token covers, as a live list; joined when it is first asked for. */
  get sessions(): Lobby {
    return (this.#lobby ??= new Lobby(this.#hub, () => (this.#lobby = undefined)))
  }

  /** The live screen of a session. One object for each name until it is closed. Not over long poll. */
  terminal(name: string): Terminal {
    return kept(this.#terminals, name, (forget) => new Terminal(this.#hub, name, forget))
  }

  /** Workers for one-off questions. One object for each name until it is closed. */
  pool(name = "default"): Pool {
    return kept(this.#pools, name, (forget) => new Pool(this.#hub, name, forget))
  }

  /** Try at once: after `refused`, or instead of waiting for the next attempt. */
  reconnect(): void {
    this.#hub.reconnect()
  }

  /** Leave everything. What is outstanding fails with `closed`; no timer or socket is left. Safe to repeat. */
  close(): void {
    this.#hub.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}

function kept<T>(all: Map<string, T>, name: string, make: (forget: () => void) => T): T {
  const known = all.get(name)
  if (known !== undefined) return known
  const made = make(() => {
    if (all.get(name) === made) all.delete(name)
  })
  all.set(name, made)
  return made
}
