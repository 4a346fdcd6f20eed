/** One conversation: followed without a gap through every break, and steered. */

import {Emitter, Store, type Unsubscribe} from "./emitter.js"
import {BridgeError} from "./errors.js"
import {Handles} from "./handles.js"
import {PresenceTracker, type Presence} from "./presence.js"
import type {Hub} from "./hub.js"
import {advance, conversationOf, finishedIn, turnIn, type Conversation} from "./state.js"
import {newId} from "./ids.js"
import {Topic, type Occupant, type PushOptions} from "./topic.js"
import type {TurnEvent, TurnHandle, Waiting} from "./turn.js"
import type {
  Answer, Cursor, Json, Request, SessionEvent, SessionEventName, SessionEvents, SessionInfo, Snapshot, StartOptions, Turn,
} from "./wire.js"

export interface SessionOptions {
  /** Create the session with these where it does not exist. Without it an unknown name is `session_not_found`. */
  readonly start?: StartOptions | undefined
  /** How many finished turns the first state has; 20 where nothing is said. */
  readonly turns?: number | undefined
  /** How many finished turns the state holds at most; 200 where nothing is said. */
  readonly keep?: number | undefined
}

/** What a session is for whoever renders it. A new object at every change, which is never changed itself. */
export interface SessionState {
  /**
   * - `joining`: nothing is known yet. - `live`: this is how it is. - `reconnecting`: this is how it was.
   * - `ended`: deleted, refused or closed; `error` says why, as it does of any other where the token does not count.
   */
  readonly status: "joining" | "live" | "reconnecting" | "ended"
  /** Null until the first join is answered. */
  readonly session: SessionInfo | null
  readonly turns: readonly Turn[]
  readonly open: Turn | null
  readonly queue: readonly Turn[]
  readonly requests: readonly Request[]
  readonly presence: Presence
  readonly error: BridgeError | null
}

export interface Joined {
  /** Whether nothing was missed. Where not, the state was replaced by the bridge's. */
  readonly recovered: boolean
  readonly state: SessionState
}

/** What `on` tells of: the protocol's events, and the client's own. */
export interface SessionSignals extends SessionEvents {
  /** After every join, before what follows it. */
  joined: Joined
  presence: Presence
  /** The state is a new one. `subscribe` is the same without the state. */
  state: SessionState
  /** The token does not count; see `Bridge.reconnect`. */
  refused: BridgeError
  ended: BridgeError
}

export interface Attachment {
  readonly name: string
  readonly media_type: string
  /** Base64 where it is a string. */
  readonly data: string | Uint8Array
}

export interface Asking extends Waiting {
  /** How long to wait for the answer, over all reconnects; else what `connect` was told. */
  readonly timeoutMs?: number | undefined
}

export interface SubmitOptions extends Asking {
  /** The key of the prompt; the same key again returns the first turn and runs nothing. A random one if left out. */
  readonly id?: string | undefined
  readonly mode?: "queue" | "steer" | undefined
  readonly attachments?: readonly Attachment[] | undefined
}

const KEEP = 200

export class Session {
  readonly name: string
  readonly #store: Store<SessionState>
  readonly #signals = new Emitter<SessionSignals>()
  readonly #topic: Topic
  readonly #presence = new PresenceTracker()
  readonly #handles: Handles
  readonly #options: SessionOptions
  #cursor: Cursor | undefined
  #retained = 0

  /** @internal */
  constructor(private readonly hub: Hub, name: string, options: SessionOptions, private readonly forget: () => void) {
    this.name = name
    this.#options = options
    this.#store = new Store<SessionState>({
      status: "joining", session: null, turns: [], open: null, queue: [], requests: [], presence: {}, error: null,
    })
    const home = {turn: (id: string) => this.turn(id), stop: (turn: Turn | undefined, id: string) => this.#stopTurn(turn, id)}
    this.#handles = new Handles(home, (before, limit) => this.history({before, limit}))
    this.#topic = hub.topic(`session:${name}`, this.#occupant())
  }

  // --- what is known ----------------------------------------------------------------------------------

  get state(): SessionState {
    return this.#store.getSnapshot()
  }

  /** For `useSyncExternalStore(session.subscribe, session.getSnapshot)`. */
  get subscribe(): (listener: () => void) => Unsubscribe {
    return this.#store.subscribe
  }

  get getSnapshot(): () => SessionState {
    return this.#store.getSnapshot
  }

  /** What waits for an answer, oldest first. */
  get requests(): readonly Request[] {
    return this.state.requests
  }

  get presence(): Presence {
    return this.state.presence
  }

  /** The number of the latest event that was seen; undefined before the first join. */
  get cursor(): Cursor | undefined {
    return this.#cursor
  }

  /** Tells of every event once and in order. Returns what removes the listener. */
  on<N extends keyof SessionSignals>(event: N, listener: (payload: SessionSignals[N]) => void): Unsubscribe {
    return this.#signals.on(event, listener)
  }

  /** The state once the session is joined. Rejects with what the join was refused with, or the token. */
  ready({signal}: Waiting = {}): Promise<SessionState> {
    return new Promise((resolve, reject) => {
      const {status, error} = this.state
      if (signal?.aborted) return reject(signal.reason as Error)
      if (status === "live") return resolve(this.state)
      if (status === "ended") return reject(error as Error)
      if (this.hub.refusal) return reject(this.hub.refusal)
      const abort = (): void => done(() => reject(signal?.reason as Error))
      const offs = [
        this.on("joined", ({state}) => done(() => resolve(state))),
        this.on("refused", (why) => done(() => reject(why))),
        this.on("ended", (why) => done(() => reject(why))),
      ]
      const done = (then: () => void): void => {
        for (const off of offs) off()
        signal?.removeEventListener("abort", abort)
        then()
      }
      signal?.addEventListener("abort", abort, {once: true})
    })
  }

  turn(id: string): Turn | undefined {
    return turnIn(this.state as Conversation, id)
  }

  /** A handle on a turn that somebody else submitted, such as the one that runs. */
  follow(id: string): TurnHandle {
    return this.#handles.make(id, undefined, true)
  }

  // --- what can be asked for --------------------------------------------------------------------------

  /**
   * Give Claude a prompt. Resolves when the bridge has it on disk, and so never loses it. Sent again under the same
   * `id` where the connection breaks before the answer. After `timeout`, submit again with the same `id`.
   */
  submit(prompt: string, options: SubmitOptions = {}): Promise<TurnHandle> {
    return this.#submit({prompt}, options)
  }

  /** A slash command of the TUI on purpose, such as `/compact` (backend `tmux`). */
  command(command: string, options: Omit<SubmitOptions, "attachments"> = {}): Promise<TurnHandle> {
    return this.#submit({command}, options)
  }

  /**
   * Break off the running turn; what it said is kept. The turn's id, or null where none ran. Neither sent twice nor kept
   * for a later connection, when another turn may run: rejects with `disconnected` instead.
   */
  async interrupt(options: Asking = {}): Promise<string | null> {
    const {turn} = await this.#push<{turn: string | null}>("interrupt", {}, "now", options)
    return turn
  }

  /** Take back a queued turn. */
  async cancel(turn: string | {readonly id: string}, options: Asking = {}): Promise<void> {
    const id = idOf(turn)
    const forgive = (): true | undefined => (this.turn(id)?.status === "cancelled" ? true : undefined)
    await this.#push("cancel", {turn: id}, true, options, forgive)
  }

  /**
   * Answer a request. The first answer wins: a later one is refused with `request_closed`, whose details say what
   * was decided and by whom.
   */
  async answer(request: string | Request, answer: Answer, options: Asking = {}): Promise<void> {
    const outcome = answer.decision === "allow" ? "allowed" : "denied"
    // Sent again and told that it is closed just so: what was asked for is true.
    const forgive = (error: BridgeError): true | undefined =>
      error.code === "request_closed" && error.details["outcome"] === outcome ? true : undefined
    await this.#push("answer", {request: idOf(request), ...answer}, true, options, forgive)
  }

  /** Finished turns before the turn `before`, else the latest; newest last. Empty where there are no older ones. */
  async history(
    {before, limit, ...options}: Asking & {readonly before?: string | undefined, readonly limit?: number | undefined} = {},
  ): Promise<readonly Turn[]> {
    const {turns} = await this.#push<{turns: Turn[]}>("history", {before, limit}, true, options)
    return turns
  }

  async configure(
    changes: {readonly model?: string | undefined, readonly permission_mode?: string | undefined},
    options: Asking = {},
  ): Promise<void> {
    await this.#push("configure", changes, true, options)
  }

  /** A new process under the same conversation. Never sent twice. */
  async restart(options: Asking = {}): Promise<void> {
    await this.#push("restart", {}, "now", options)
  }

  /** End the process; the conversation stays and can be started again. */
  async stop(options: Asking = {}): Promise<void> {
    await this.#push("stop", {}, true, options)
  }

  /** Any event of the protocol that has no method here. Sent again after a break only with `again`. */
  push(event: string, payload: Json = {}, {again = false, ...options}: Asking & {again?: boolean} = {}): Promise<unknown> {
    return this.#push(event, payload, again, options)
  }

  // --- how long ---------------------------------------------------------------------------------------

  /**
   * For code that shares a session, such as components: returns what lets go of it. When everybody who retained it
   * has let go, it is closed, unless somebody retains it again at once.
   */
  retain(): Unsubscribe {
    this.#retained += 1
    let held = true
    return () => {
      if (!held) return
      held = false
      this.#retained -= 1
      setTimeout(() => {
        if (this.#retained === 0) this.close()
      }, 0)
    }
  }

  /** Leave. The session goes on without this client; handles of its turns fail with `closed`. Safe to repeat. */
  close(): void {
    this.#topic.end(new BridgeError("closed", `session:${this.name} was left.`))
  }

  [Symbol.dispose](): void {
    this.close()
  }

  // --- inside -----------------------------------------------------------------------------------------

  #occupant(): Occupant {
    return {
      payload: () => this.#joinPayload(),
      joined: (reply) => this.#joined(reply as Snapshot),
      heard: (event, payload) => this.#heard(event, payload as Json),
      lost: () => this.#change({...this.state, status: "reconnecting"}),
      refused: (error) => {
        this.#change({...this.state, error})
        this.#signals.emit("refused", error)
      },
      ended: (error) => this.#ended(error),
    }
  }

  #joinPayload(): object {
    const {start, turns} = this.#options
    return {...(start && {start}), ...(turns !== undefined && {turns}), ...(this.#cursor && {after: this.#cursor})}
  }

  #joined(reply: Snapshot): void {
    this.#presence.begin()
    const {error: _, ...known} = this.state
    const recovered = reply.recovered && this.#cursor !== undefined
    if (recovered) {
      this.#change({...known, status: "live", error: null})
    } else {
      this.#cursor = {epoch: reply.epoch, seq: reply.seq}
      this.#change({...known, ...conversationOf(reply), status: "live", error: null})
    }
    this.#signals.emit("joined", {recovered, state: this.state})
    if (!recovered) this.#handles.restore()
  }

  #heard(event: string, payload: Json): void {
    if (event === "presence_state" || event === "presence_diff") {
      if (event === "presence_state") this.#presence.state(payload as never)
      else this.#presence.diff(payload as never)
      const {present} = this.#presence
      this.#change({...this.state, presence: present})
      return this.#signals.emit("presence", present)
    }
    const {seq, first_seq = seq} = payload as {seq?: number, first_seq?: number}
    if (seq === undefined || first_seq === undefined || this.#cursor === undefined) return
    if (seq <= this.#cursor.seq) return
    if (first_seq !== this.#cursor.seq + 1) return this.#topic.rejoin()
    this.#cursor = {epoch: this.#cursor.epoch, seq}
    this.#take({event, ...payload} as unknown as SessionEvent)
  }

  #take(event: SessionEvent): void {
    const turn = this.#turnOf(event)
    const before = this.state as Conversation
    const after = advance(before, event, this.#options.keep ?? KEEP)
    if (after !== before) this.#change(after as SessionState)
    const {event: name, ...payload} = event
    this.#signals.emit(name as SessionEventName, payload as never)
    if (turn === undefined) return
    if (event.event === "turn_finished") {
      this.#handles.finish(finishedIn(before, event))
    } else {
      this.#handles.take(turn, event as TurnEvent)
    }
  }

  #turnOf(event: SessionEvent): string | undefined {
    if (event.event === "request_opened") return event.request.turn
    if (event.event === "request_closed") return this.requests.find((r) => r.id === event.request)?.turn
    return "turn" in event ? event.turn : undefined
  }

  #ended(error: BridgeError): void {
    this.#change({...this.state, status: "ended", error})
    this.#handles.fail(error)
    this.forget()
    this.#signals.emit("ended", error)
  }

  #change(state: SessionState): void {
    this.#store.set(state)
    this.#signals.emit("state", state)
  }

  #push<T>(
    event: string,
    payload: Json,
    again: boolean | "now",
    {signal, timeoutMs}: Asking,
    forgive?: (error: BridgeError) => true | undefined,
  ): Promise<T> {
    const options = {again: again === true, now: again === "now", signal, timeoutMs, forgive} as PushOptions<T>
    return this.#topic.push<T>(event, withoutUndefined(payload), options)
  }

  #submit(what: Json, {id = newId(), mode, attachments, signal, timeoutMs}: SubmitOptions): Promise<TurnHandle> {
    const files = attachments?.map((a) => ({...a, data: typeof a.data === "string" ? a.data : base64Of(a.data)}))
    return this.#topic.push<TurnHandle>(
      "submit",
      withoutUndefined({...what, id, mode, attachments: files}),
      {again: true, signal, timeoutMs, accept: (response) => this.#accepted(response as Accepted, id)},
    )
  }

  async #stopTurn(turn: Turn | undefined, id: string): Promise<void> {
    if (turn?.status === "queued" || turn === undefined) {
      try {
        return await this.cancel(id)
      } catch (error) {
        // It was started in the meantime.
        if (!(error instanceof BridgeError) || error.code !== "turn_not_found") throw error
      }
    }
    if (this.state.open?.id === id) await this.interrupt()
  }

  #accepted({turn, status}: Accepted, key: string): TurnHandle {
    return this.#handles.make(turn, key, status !== "queued" && status !== "running")
  }
}

interface Accepted {
  readonly turn: string
  readonly status: string
}

function idOf(of: string | {readonly id: string}): string {
  return typeof of === "string" ? of : of.id
}

function withoutUndefined(payload: Json): Json {
  return Object.fromEntries(Object.entries(payload).filter(([, value]) => value !== undefined))
}

function base64Of(bytes: Uint8Array): string {
  let binary = ""
  for (let at = 0; at < bytes.length; at += 8192) binary += String.fromCharCode(...bytes.subarray(at, at + 8192))
  return btoa(binary)
}
