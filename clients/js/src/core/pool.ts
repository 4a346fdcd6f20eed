/** One-off questions to workers that are warm already, each with a fresh context. */

import {Emitter, Store, type Unsubscribe} from "./emitter.js"
import {BridgeError} from "./errors.js"
import type {Hub} from "./hub.js"
import {newId} from "./ids.js"
import type {Asking} from "./session.js"
import {finish, grow} from "./state.js"
import {Topic} from "./topic.js"
import {hasFinished, TurnHandle, type TurnEvent, type TurnHome} from "./turn.js"
import type {Json, PoolInfo, SessionEvent, Turn} from "./wire.js"

export interface PoolState extends PoolInfo {
  readonly status: "joining" | "live" | "reconnecting" | "ended"
  readonly error: BridgeError | null
}

export interface AskOptions extends Asking {
  /** The key of the question; the same key again attaches to the first. A random one where it is left out. */
  readonly id?: string | undefined
}

interface Question {
  readonly prompt: string
  readonly key: string
  turn: Turn
  readonly handles: Set<TurnHandle>
}

export class Pool {
  readonly name: string
  readonly #store = new Store<PoolState>({
    status: "joining", error: null, size: 0, idle: 0, busy: 0, waiting: 0,
  })
  readonly #signals = new Emitter<{pool_changed: PoolState}>()
  readonly #topic: Topic
  /** What was asked from here and goes on, by the turn's id. */
  readonly #questions = new Map<string, Question>()
  readonly #home: TurnHome = {
    turn: (id) => this.#questions.get(id)?.turn,
    stop: () => Promise.reject(new BridgeError("invalid_payload", "A question to a pool cannot be stopped.")),
  }

  /** @internal */
  constructor(hub: Hub, name: string, forget: () => void) {
    this.name = name
    this.#topic = hub.topic(`pool:${name}`, {
      payload: () => ({}),
      joined: (reply) => {
        this.#change({...(reply as PoolInfo), status: "live", error: null})
        for (const question of this.#questions.values()) void this.#attach(question)
      },
      heard: (event, payload) => this.#heard(event, payload as Json),
      lost: () => this.#change({...this.state, status: "reconnecting"}),
      refused: (error) => this.#change({...this.state, error}),
      ended: (error) => {
        this.#change({...this.state, status: "ended", error})
        for (const {handles} of this.#questions.values()) for (const handle of handles) handle.fail(error)
        this.#questions.clear()
        forget()
      },
    })
  }

  get state(): PoolState {
    return this.#store.getSnapshot()
  }

  get subscribe(): (listener: () => void) => Unsubscribe {
    return this.#store.subscribe
  }

  get getSnapshot(): () => PoolState {
    return this.#store.getSnapshot
  }

  on(event: "pool_changed", listener: (state: PoolState) => void): Unsubscribe {
    return this.#signals.on(event, listener)
  }

  /** Ask. Sent again under the same `id` where the connection breaks, and attached to again where it goes on. */
  ask(prompt: string, {id = newId(), signal, timeoutMs}: AskOptions = {}): Promise<TurnHandle> {
    return this.#topic.push<TurnHandle>("ask", {prompt, id}, {
      again: true,
      signal,
      timeoutMs,
      accept: (response) => this.#accepted(response as Asked, prompt, id),
    })
  }

  close(): void {
    this.#topic.end(new BridgeError("closed", `pool:${this.name} was left.`))
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #accepted({turn}: Asked, prompt: string, key: string): TurnHandle {
    const made = typeof turn === "string" ? asked(turn, prompt, key) : turn
    const question = this.#questions.get(made.id) ?? {prompt, key, turn: made, handles: new Set()}
    this.#questions.set(made.id, question)
    const handle = new TurnHandle(this.#home, made.id, key)
    question.handles.add(handle)
    if (hasFinished(made)) this.#finish(question, made)
    return handle
  }

  /** Joined again: what goes on is told from its beginning, what has ended is told whole. */
  async #attach(question: Question): Promise<void> {
    const {turn: {id}, prompt, key} = question
    try {
      await this.#topic.push("ask", {prompt, id: key}, {
        again: true,
        accept: (response) => {
          const {turn} = response as Asked
          if (typeof turn !== "string" && hasFinished(turn)) return this.#finish(question, turn)
          question.turn = typeof turn === "string" ? asked(turn, prompt, key) : turn
          for (const handle of question.handles) handle.replace()
        },
      })
    } catch (error) {
      if (this.#questions.get(id) !== question || this.#topic.phase === "ended") return
      this.#questions.delete(id)
      for (const handle of question.handles) handle.fail(error)
    }
  }

  #heard(event: string, payload: Json): void {
    if (event === "pool_changed") {
      this.#change({...this.state, ...(payload as unknown as PoolInfo)})
      return this.#signals.emit("pool_changed", this.state)
    }
    const question = this.#questions.get(payload["turn"] as string)
    if (!question) return
    const told = {event, ...payload} as unknown as SessionEvent
    switch (told.event) {
      case "turn_finished":
        return this.#finish(question, finish(question.turn, told))
      case "turn_started":
        question.turn = {...question.turn, status: "running", started_at: told.at}
        break
      case "delta":
      case "block":
      case "discard":
      case "tool_started":
      case "tool_finished":
        question.turn = {...grow(question.turn, told), status: "running"}
        break
    }
    for (const handle of question.handles) handle.take(told as TurnEvent)
  }

  #finish(question: Question, turn: Turn): void {
    question.turn = turn
    this.#questions.delete(turn.id)
    for (const handle of question.handles) handle.finish(turn)
  }

  #change(state: PoolState): void {
    this.#store.set(state)
  }
}

interface Asked {
  /** Its id, or the whole turn where it has ended. */
  readonly turn: string | Turn
}

function asked(id: string, prompt: string, key: string): Turn {
  return {id, key, prompt, author: null, source: "client", status: "queued", text: "", blocks: [], queued_at: null}
}
