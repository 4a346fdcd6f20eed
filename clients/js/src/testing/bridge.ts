/** The bridge, played by a test: what clients ask of it is there to be expected, what it says is the test's. */

import {Bridge, type BridgeOptions} from "../core/bridge.js"
import {BridgeError} from "../core/errors.js"
import type {Payload, Reply} from "../core/transport.js"
import type {
  Answer, Cursor, Json, Picture, Request, SessionEvent, SessionEvents, StartOptions, Turn,
} from "../core/wire.js"
import {FakeConnection, type FarEnd} from "./connection.js"
import {FakeSession, payloadOf} from "./conversation.js"
import {Submitted} from "./submitted.js"

type Respond = (reply: Reply) => void

export interface Patience {
  /** How long to wait for what is expected; 1000 where nothing is said. */
  readonly timeoutMs?: number
}

/** A request that was opened. */
export interface Opened {
  readonly request: Request
  /** What a client answers it with. */
  readonly answered: Promise<Answer>
}

interface Expectation {
  matches(submitted: Submitted): boolean
  met(submitted: Submitted): void
}

export class FakeBridge {
  readonly #connections = new Set<FakeConnection>()
  readonly #sessions = new Map<string, FakeSession>()
  readonly #screens = new Map<string, {picture: Picture, typed: Uint8Array[]}>()
  readonly #unexpected: Submitted[] = []
  readonly #expected: Expectation[] = []
  readonly #answered = new Map<string, (answer: Answer) => void>()
  readonly #lost = new Set<string>()
  readonly #refusals = new Map<string, BridgeError>()
  #isUp = true
  #refs = 0
  #losing = 0

  /** A client that is connected to this bridge and to no other; close it as any. */
  connect(options: BridgeOptions = {}): Bridge {
    return new Bridge(new FakeConnection(this.#farEnd()), options)
  }

  // --- what clients do --------------------------------------------------------------------------------

  /** The next prompt that is submitted, or the oldest that nobody has expected yet. Rejects when the time is up. */
  expectSubmit(
    {session, prompt, timeoutMs = 1000}: Patience & {readonly session?: string, readonly prompt?: string | RegExp} = {},
  ): Promise<Submitted> {
    const matches = (s: Submitted): boolean =>
      (session === undefined || s.session === session) &&
      (prompt === undefined || (typeof prompt === "string" ? s.prompt === prompt : prompt.test(s.prompt)))
    const known = this.#unexpected.findIndex(matches)
    if (known !== -1) return Promise.resolve(this.#unexpected.splice(known, 1)[0] as Submitted)
    return new Promise((resolve, reject) => {
      const expectation = {matches, met: (submitted: Submitted) => {
        clearTimeout(timer)
        resolve(submitted)
      }}
      const timer = setTimeout(() => {
        this.#expected.splice(this.#expected.indexOf(expectation), 1)
        const others = this.#unexpected.map((s) => JSON.stringify(s.prompt)).join(", ") || "nothing"
        reject(new Error(`no such prompt within ${timeoutMs} ms; submitted was: ${others}`))
      }, timeoutMs)
      this.#expected.push(expectation)
    })
  }

  /** What was typed into a terminal. */
  typed(name: string): string {
    return (this.#screens.get(name)?.typed ?? []).map((bytes) => new TextDecoder().decode(bytes)).join("")
  }

  // --- what the bridge does ---------------------------------------------------------------------------

  /** A session that is there already, or is from now on. */
  session(name: string): FakeSession {
    const known = this.#sessions.get(name)
    if (known) return known
    const made = new FakeSession(name, (event) => this.#tell(name, event))
    this.#sessions.set(name, made)
    this.#broadcast("sessions", "session_changed", {session: made.info})
    return made
  }

  /** A permission request of the turn that runs, or whatever `asked` says. */
  openRequest(session: string, asked: Partial<Request> = {}): Opened {
    const request = this.session(session).request(asked)
    return {request, answered: new Promise((resolve) => this.#answered.set(`${session}/${request.id}`, resolve))}
  }

  /** Somebody else answers, or it is withdrawn. */
  closeRequest(session: string, request: string, outcome: SessionEvents["request_closed"]["outcome"], by: string | null = null): void {
    this.session(session).close(request, outcome, by)
  }

  /** The session is deleted: clients are sent away from it for good. */
  delete(name: string): void {
    this.#sessions.delete(name)
    this.#broadcast(`session:${name}`, "phx_close", {})
    this.#broadcast("sessions", "session_deleted", {name})
  }

  output(name: string, text: string | Uint8Array): void {
    const bytes = typeof text === "string" ? new TextEncoder().encode(text) : text
    this.#broadcast(`terminal:${name}`, "output", bytes)
  }

  screen(name: string, picture: Partial<Picture>): void {
    const screen = this.#screen(name)
    screen.picture = {...screen.picture, ...picture}
    this.#broadcast(`terminal:${name}`, "screen", screen.picture)
  }

  /** Every connection breaks, and none comes back until `reconnect`. */
  disconnect(): void {
    this.#isUp = false
    for (const connection of this.#connections) connection.cut()
  }

  /**
   * Connections come back. With `recovered: false` as after a restart of the bridge: clients are given a snapshot in
   * place of what they missed.
   */
  reconnect({recovered = true}: {readonly recovered?: boolean} = {}): void {
    if (!recovered) for (const session of this.#sessions.values()) session.renumber()
    this.#isUp = true
    for (const connection of this.#connections) if (!connection.isUp) connection.up()
  }

  /** The next event of this name is carried out, and the connection breaks before its reply. */
  loseReply(event: string): void {
    this.#lost.add(event)
  }

  /** So many of the next events of sessions get lost on the way, as no real connection loses them. */
  loseMessages(count: number): void {
    this.#losing = count
  }

  /** The next event of this name, or join of this topic, is refused. */
  refuse(what: string, code: string, details: Json = {}): void {
    this.#refusals.set(what, new BridgeError(code, `refused by the test: ${code}`, details))
  }

  /** The token does not count any more. */
  refuseToken(): void {
    for (const connection of this.#connections) connection.refuse(new BridgeError("unauthorized", "refused by the test"))
  }

  // --- inside -----------------------------------------------------------------------------------------

  #farEnd(): FarEnd {
    return {
      connected: (connection) => {
        this.#connections.add(connection)
        if (this.#isUp) connection.up()
      },
      closed: (connection) => void this.#connections.delete(connection),
      left: () => undefined,
      join: (connection, topic, payload, reply) => this.#join(connection, topic, payload as Json, reply),
      push: (connection, topic, event, payload, reply) => {
        const refusal = this.#refusals.get(event)
        if (refusal) {
          this.#refusals.delete(event)
          return reply(refused(refusal))
        }
        if (!this.#lost.delete(event)) return this.#push(topic, event, payload, reply)
        this.#push(topic, event, payload, () => undefined)
        connection.cut(`the reply to ${event} was lost`)
        if (this.#isUp) connection.up()
      },
    }
  }

  #join(connection: FakeConnection, topic: string, payload: Json, reply: Respond): void {
    const refusal = this.#refusals.get(topic)
    if (refusal) {
      this.#refusals.delete(topic)
      return reply(refused(refusal))
    }
    const [kind, name = ""] = topic.split(":")
    if (kind === "sessions") {
      return reply(ok({node: "test", version: "test", sessions: [...this.#sessions.values()].map((s) => s.info)}))
    }
    if (kind === "terminal") return reply(ok(this.#screen(name).picture))
    if (kind === "pool") return reply(ok({size: 1, idle: 1, busy: 0, waiting: 0}))
    const {start, after, turns = 20} = payload as {start?: StartOptions, after?: Cursor, turns?: number}
    if (!this.#sessions.has(name) && start === undefined) {
      return reply(refused(new BridgeError("session_not_found", `There is no session ${name}.`)))
    }
    const {reply: said, missed} = this.session(name).join(after, turns)
    reply(ok(said))
    const meta = {phx_ref: `ref-${++this.#refs}`, transport: "websocket", joined_at: said.session.started_at}
    connection.message(topic, "presence_state", {})
    for (const event of missed) connection.message(topic, event.event, payloadOf(event))
    this.#broadcast(topic, "presence_diff", {joins: {owner: {metas: [meta]}}, leaves: {}})
  }

  #push(topic: string, event: string, payload: Payload, reply: Respond): void {
    const [kind, name = ""] = topic.split(":")
    if (kind === "session") return this.#asked(this.session(name), event, payload as Json, reply)
    if (kind === "terminal" && event === "input") {
      this.#screen(name).typed.push(payload as Uint8Array)
      return reply(ok({}))
    }
    if (kind === "terminal" && event === "resize") {
      this.screen(name, payload as Partial<Picture>)
      return reply(ok(payload))
    }
    if (kind === "pool" && event === "ask") return this.#question(topic, payload as Json, reply)
    if (kind === "sessions") return this.#managed(event, payload as Json, reply)
    reply(refused(new BridgeError("invalid_payload", `${topic} takes no ${event}.`, {field: "event"})))
  }

  #managed(event: string, payload: Json, reply: Respond): void {
    const name = String(payload["name"])
    if (event === "list") return reply(ok({sessions: [...this.#sessions.values()].map((s) => s.info)}))
    if (event === "start") return reply(ok({session: this.session(name).info}))
    if (!this.#sessions.has(name)) return reply(refused(new BridgeError("session_not_found", `There is no session ${name}.`)))
    if (event === "delete") this.delete(name)
    if (event === "stop") this.session(name).change({state: "stopped"})
    reply(ok(event === "stop" ? {session: this.session(name).info} : {}))
  }

  #asked(session: FakeSession, event: string, payload: Json, reply: Respond): void {
    switch (event) {
      case "submit":
        return this.#submitted(session, payload, reply)
      case "interrupt": {
        const open = session.open
        reply(ok({turn: open?.id ?? null}))
        if (open) session.finish(open.id, "interrupted", open.text)
        return
      }
      case "cancel": {
        const turn = session.queue.find((t) => t.id === payload["turn"])
        if (!turn) return reply(refused(new BridgeError("turn_not_found", "There is no such queued turn.", {turn: payload["turn"]})))
        reply(ok({}))
        return session.finish(turn.id, "cancelled", "")
      }
      case "answer": {
        const {request, ...answer} = payload as unknown as Answer & {request: string}
        const closed = session.closed(request)
        if (closed !== undefined) {
          return reply(refused(new BridgeError("request_closed", "It is not open.", {request, ...closed})))
        }
        reply(ok({}))
        session.close(request, answer.decision === "allow" ? "allowed" : "denied", "owner")
        return this.#answered.get(`${session.name}/${request}`)?.(answer)
      }
      case "history":
        return reply(ok({turns: session.history(payload["before"] as string | undefined, (payload["limit"] as number | undefined) ?? 50)}))
      case "configure":
        session.change(payload)
        return reply(ok({}))
      default:
        return reply(ok({}))
    }
  }

  #submitted(session: FakeSession, payload: Json, reply: Respond): void {
    const prompt = String(payload["prompt"] ?? payload["command"] ?? "")
    const key = (payload["id"] as string | undefined) ?? null
    if (prompt === "") return reply(refused(new BridgeError("prompt_empty", "The prompt has no text.")))
    const accepted = session.submit(prompt, key)
    if (accepted === "differs") {
      return reply(refused(new BridgeError("invalid_payload", "This id was used for another prompt.", {field: "id"})))
    }
    reply(ok(accepted))
    if (accepted.duplicate) return
    session.queued(accepted.turn, key, prompt, "owner", accepted.position)
    this.#meet(new Submitted(session, accepted.turn, prompt, key, payload))
  }

  /** A pool's worker is a session that nobody sees; its events go out without numbers. */
  #question(topic: string, payload: Json, reply: Respond): void {
    const prompt = String(payload["prompt"])
    const key = (payload["id"] as string | undefined) ?? null
    const worker = this.#worker(topic)
    const accepted = worker.submit(prompt, key)
    if (accepted === "differs") return reply(refused(new BridgeError("invalid_payload", "Another prompt.", {field: "id"})))
    const known = worker.turn(accepted.turn) as Turn | undefined
    reply(ok({turn: known?.finished_at ? known : accepted.turn}))
    if (accepted.duplicate) {
      for (const event of worker.join({epoch: "epoch-1", seq: 0}, 0).missed) this.#tellPool(topic, event)
      return
    }
    worker.queued(accepted.turn, key, prompt, "owner", accepted.position)
    this.#meet(new Submitted(worker, accepted.turn, prompt, key, payload))
  }

  readonly #workers = new Map<string, FakeSession>()

  #worker(topic: string): FakeSession {
    const worker = this.#workers.get(topic) ?? new FakeSession(topic, (event) => this.#tellPool(topic, event))
    this.#workers.set(topic, worker)
    return worker
  }

  #tellPool(topic: string, event: SessionEvent): void {
    if (!["delta", "discard", "block", "turn_finished"].includes(event.event)) return
    const {seq: _, ...payload} = payloadOf(event)
    this.#broadcast(topic, event.event, payload)
  }

  #meet(submitted: Submitted): void {
    const met = this.#expected.findIndex((e) => e.matches(submitted))
    if (met === -1) this.#unexpected.push(submitted)
    else this.#expected.splice(met, 1)[0]?.met(submitted)
  }

  #screen(name: string): {picture: Picture, typed: Uint8Array[]} {
    const known = this.#screens.get(name) ?? {picture: {cols: 80, rows: 24, screen: ""}, typed: []}
    this.#screens.set(name, known)
    return known
  }

  #tell(name: string, event: SessionEvent): void {
    if (this.#losing > 0) return void this.#losing--
    this.#broadcast(`session:${name}`, event.event, payloadOf(event))
    if (event.event === "session_changed") this.#broadcast("sessions", "session_changed", {session: event.session})
  }

  #broadcast(topic: string, event: string, payload: unknown): void {
    for (const connection of this.#connections) connection.message(topic, event, payload)
  }
}

function ok(response: unknown): Reply {
  return {status: "ok", response}
}

function refused(error: BridgeError): Reply {
  return {status: "error", response: {reason: error.code, message: error.message, ...error.details}}
}
