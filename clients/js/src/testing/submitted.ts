/** A prompt that came in, and the turn that it became: for the test to play. */

import type {FinalStatus, Json, SessionEventName, TurnFailure} from "../core/wire.js"
import type {FakeSession, Unnumbered} from "./conversation.js"

export interface ReplyOptions {
  /** Into how many deltas the text is cut; one for each word where nothing is said. */
  readonly deltas?: number
  readonly thinking?: string
}

/** A prompt that a client has submitted, and the turn that it became: play it. */
export class Submitted {
  #blocks = 0

  /** @internal */
  constructor(
    private readonly fake: FakeSession,
    /** The turn's id. */
    readonly turn: string,
    readonly prompt: string,
    /** The client's key. */
    readonly id: string | null,
    /** The whole payload, with `mode`, `attachments` and `command`. */
    readonly payload: Json,
  ) {}

  /** The name of the session. */
  get session(): string {
    return this.fake.name
  }

  /** One delta of the block that is being written. */
  delta(text: string, kind: "text" | "thinking" = "text"): this {
    return this.#emit("delta", {turn: this.turn, block: this.#blocks, kind, text})
  }

  /** The upstream begins the block again. */
  discard(): this {
    return this.#emit("discard", {turn: this.turn, block: this.#blocks})
  }

  /** The final text of the block that is being written. */
  block(text: string, kind: "text" | "thinking" = "text"): this {
    return this.#emit("block", {turn: this.turn, block: this.#blocks++, kind, text})
  }

  /** A tool that is called and answers. */
  tool(name: string, input: unknown, output: string, isError = false): this {
    const tool = `tool-${this.turn}-${this.#blocks}`
    this.#emit("tool_started", {turn: this.turn, block: this.#blocks++, tool, name, input})
    return this.#emit("tool_finished", {turn: this.turn, tool, output, is_error: isError, truncated: false})
  }

  /** The whole reply: thinking, deltas, the block, and the end. */
  replyWith(text: string, {deltas, thinking}: ReplyOptions = {}): void {
    if (thinking !== undefined) this.delta(thinking, "thinking").block(thinking, "thinking")
    for (const piece of pieces(text, deltas)) this.delta(piece)
    if (text !== "") this.block(text)
    this.finish("completed", text)
  }

  /** The end; without `text`, what was said so far. */
  finish(status: FinalStatus = "completed", text?: string, error?: TurnFailure): void {
    this.#check()
    this.fake.finish(this.turn, status, (text ?? this.fake.turn(this.turn)?.text ?? "").trimEnd(), error)
  }

  fail(error: Partial<TurnFailure> = {}): void {
    this.finish("failed", undefined, {code: "api_error", message: "The API answered with an error.", ...error})
  }

  #emit<N extends SessionEventName>(event: N, payload: Unnumbered<N>): this {
    this.#check()
    this.fake.emit(event, payload)
    return this
  }

  #check(): void {
    if (this.fake.open?.id === this.turn) return
    throw new Error(`${this.turn} does not run: it is ${this.fake.turn(this.turn)?.status ?? "unknown"}`)
  }
}

function pieces(text: string, count: number | undefined): string[] {
  if (count === undefined) return text.match(/\S*\s*/g)?.filter((piece) => piece !== "") ?? []
  const size = Math.max(1, Math.ceil(text.length / count))
  return Array.from({length: Math.ceil(text.length / size)}, (_, i) => text.slice(i * size, (i + 1) * size))
}
