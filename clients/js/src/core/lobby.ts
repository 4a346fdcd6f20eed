/** Which sessions there are, as a list that stays true. */

import {Emitter, Store, type Unsubscribe} from "./emitter.js"
import {BridgeError} from "./errors.js"
import type {Hub} from "./hub.js"
import type {Asking} from "./session.js"
import {Topic} from "./topic.js"
import type {Json, SessionInfo, StartOptions} from "./wire.js"

export interface LobbyState {
  readonly status: "joining" | "live" | "reconnecting" | "ended"
  /** By name. */
  readonly list: readonly SessionInfo[]
  readonly node: string | null
  readonly version: string | null
  readonly error: BridgeError | null
}

export interface LobbySignals {
  session_changed: SessionInfo
  session_deleted: string
  state: LobbyState
}

interface Listed {
  readonly node: string
  readonly version: string
  readonly sessions: readonly SessionInfo[]
}

export class Lobby {
  readonly #store = new Store<LobbyState>({status: "joining", list: [], node: null, version: null, error: null})
  readonly #signals = new Emitter<LobbySignals>()
  readonly #topic: Topic

  /** @internal */
  constructor(hub: Hub, forget: () => void) {
    this.#topic = hub.topic("sessions", {
      payload: () => ({}),
      joined: (reply) => {
        const {node, version, sessions} = reply as Listed
        this.#change({status: "live", list: [...sessions].sort(byName), node, version, error: null})
      },
      heard: (event, payload) => this.#heard(event, payload as Json),
      lost: () => this.#change({...this.state, status: "reconnecting"}),
      refused: (error) => this.#change({...this.state, error}),
      ended: (error) => {
        this.#change({...this.state, status: "ended", error})
        forget()
      },
    })
  }

  get state(): LobbyState {
    return this.#store.getSnapshot()
  }

  get subscribe(): (listener: () => void) => Unsubscribe {
    return this.#store.subscribe
  }

  get getSnapshot(): () => LobbyState {
    return this.#store.getSnapshot
  }

  /** The sessions as they are known now, by name. */
  get list(): readonly SessionInfo[] {
    return this.state.list
  }

  get(name: string): SessionInfo | undefined {
    return this.list.find((s) => s.name === name)
  }

  [Symbol.iterator](): Iterator<SessionInfo> {
    return this.list[Symbol.iterator]()
  }

  on<N extends keyof LobbySignals>(event: N, listener: (payload: LobbySignals[N]) => void): Unsubscribe {
    return this.#signals.on(event, listener)
  }

  /** Rejects with `session_exists` where it runs with other options. */
  async start(name: string, options: StartOptions = {}, asking: Asking = {}): Promise<SessionInfo> {
    const {session} = await this.#push<{session: SessionInfo}>("start", {name, ...options}, true, asking)
    return session
  }

  /** The process ends; the conversation stays and can be started again. */
  async stop(name: string, asking: Asking = {}): Promise<SessionInfo> {
    const {session} = await this.#push<{session: SessionInfo}>("stop", {name}, true, asking)
    return session
  }

  /** Stopped, and its history removed. */
  async delete(name: string, asking: Asking = {}): Promise<void> {
    // Sent again and not found: it is gone.
    const forgive = ({code}: BridgeError): true | undefined => (code === "session_not_found" ? true : undefined)
    await this.#topic.push("delete", {name}, {again: true, forgive, ...asking})
  }

  /** A new session that begins with what another has said, up to a turn where one is named. */
  async fork(name: string, from: string, options: Asking & {readonly fromTurn?: string} = {}): Promise<SessionInfo> {
    const {fromTurn, ...asking} = options
    const payload = {name, from, ...(fromTurn !== undefined && {from_turn: fromTurn})}
    const {session} = await this.#push<{session: SessionInfo}>("fork", payload, false, asking)
    return session
  }

  /** Any event of the protocol that has no method here. */
  push(event: string, payload: Json = {}, {again = false, ...asking}: Asking & {again?: boolean} = {}): Promise<unknown> {
    return this.#push(event, payload, again, asking)
  }

  close(): void {
    this.#topic.end(new BridgeError("closed", "The list of sessions was left."))
  }

  #push<T>(event: string, payload: Json, again: boolean, {signal, timeoutMs}: Asking): Promise<T> {
    return this.#topic.push<T>(event, payload, {again, signal, timeoutMs})
  }

  #heard(event: string, payload: Json): void {
    if (event === "session_changed") {
      const session = payload["session"] as SessionInfo
      const others = this.list.filter((s) => s.name !== session.name)
      this.#change({...this.state, list: [...others, session].sort(byName)})
      this.#signals.emit("session_changed", session)
    } else if (event === "session_deleted") {
      const name = payload["name"] as string
      this.#change({...this.state, list: this.list.filter((s) => s.name !== name)})
      this.#signals.emit("session_deleted", name)
    }
  }

  #change(state: LobbyState): void {
    this.#store.set(state)
    this.#signals.emit("state", state)
  }
}

function byName(a: SessionInfo, b: SessionInfo): number {
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0
}
