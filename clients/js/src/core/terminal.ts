/** The live screen of a session, as bytes in both directions. */

import {Emitter, type Unsubscribe} from "./emitter.js"
import {BridgeError} from "./errors.js"
import type {Hub} from "./hub.js"
import type {Asking} from "./session.js"
import {Topic} from "./topic.js"
import type {Json, Picture} from "./wire.js"

export interface TerminalSignals {
  /** Repaint: at each join, and in place of whatever was missed. Resize the emulator, reset it, write `screen`. */
  screen: Picture
  /** What the process wrote, from that picture on. */
  output: Uint8Array
  /** Not connected; a `screen` follows when it is again. */
  lost: undefined
  ended: BridgeError
}

/** What a reader may be behind before it is given the present picture instead: a few screens of a fast process. */
const BEHIND_BYTES = 4 * 1024 * 1024
/** The bridge takes so much at once. */
const INPUT_BYTES = 64 * 1024

export class Terminal {
  readonly name: string
  readonly #signals = new Emitter<TerminalSignals>()
  readonly #topic: Topic
  #picture: Picture | undefined
  #error: BridgeError | undefined

  /** @internal */
  constructor(hub: Hub, name: string, forget: () => void) {
    this.name = name
    this.#topic = hub.topic(`terminal:${name}`, {
      payload: () => ({}),
      joined: (reply) => this.#painted(reply as Picture),
      heard: (event, payload) => {
        if (event === "screen") this.#painted(payload as Picture)
        else if (event === "output" && payload instanceof Uint8Array) this.#signals.emit("output", payload)
      },
      lost: () => this.#signals.emit("lost", undefined),
      refused: () => undefined,
      ended: (error) => {
        this.#error = error
        forget()
        this.#signals.emit("ended", error)
      },
    })
  }

  /** The size, as far as it is known. */
  get size(): {readonly cols: number, readonly rows: number} | undefined {
    return this.#picture && {cols: this.#picture.cols, rows: this.#picture.rows}
  }

  /** A listener for `screen` that comes late is not told the last one: see `repaint`. */
  on<N extends keyof TerminalSignals>(event: N, listener: (payload: TerminalSignals[N]) => void): Unsubscribe {
    return this.#signals.on(event, listener)
  }

  /** Ask for the present picture. */
  repaint(): void {
    this.#topic.rejoin()
  }

  /** To the process, as it is; needs the scope `control`. Never sent twice or later: rejects with `disconnected` instead. */
  async input(typed: string | Uint8Array, {signal, timeoutMs}: Asking = {}): Promise<void> {
    const bytes = typeof typed === "string" ? new TextEncoder().encode(typed) : typed
    for (let at = 0; at < bytes.length; at += INPUT_BYTES) {
      await this.#topic.push("input", bytes.subarray(at, at + INPUT_BYTES), {again: false, now: true, signal, timeoutMs})
    }
  }

  /** 20 to 500 columns and 5 to 300 rows. The last resize wins, whoever's it was. */
  async resize(cols: number, rows: number, {signal, timeoutMs}: Asking = {}): Promise<void> {
    await this.#topic.push("resize", {cols, rows} satisfies Json, {again: true, signal, timeoutMs})
  }

  /**
   * The output as a stream that paints any terminal of that size: pictures as bytes, then what follows them. A reader
   * that falls behind is given the present picture instead. Cancelling it only ends the reading.
   */
  readable(): ReadableStream<Uint8Array> {
    const encoder = new TextEncoder()
    let offs: Unsubscribe[] = []
    let stale = false
    const done = (): void => {
      for (const off of offs) off()
      offs = []
    }
    return new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          if (this.#error) return controller.error(this.#error)
          offs = [
            this.on("screen", ({screen}) => {
              stale = false
              controller.enqueue(encoder.encode(screen))
            }),
            this.on("output", (bytes) => {
              if (stale) return
              if ((controller.desiredSize ?? 0) > 0) controller.enqueue(bytes)
              else stale = true
            }),
            this.on("ended", (error) => {
              done()
              if (error.code === "closed") controller.close()
              else controller.error(error)
            }),
          ]
          if (this.#picture) this.repaint()
        },
        pull: () => {
          if (stale) this.repaint()
        },
        cancel: done,
      },
      {highWaterMark: BEHIND_BYTES, size: (chunk) => chunk?.byteLength ?? 0},
    )
  }

  /** What is written is typed, one piece after the other. */
  writable(): WritableStream<string | Uint8Array> {
    return new WritableStream({write: (typed) => this.input(typed)})
  }

  /** Leave; the process goes on. Safe to repeat. */
  close(): void {
    this.#topic.end(new BridgeError("closed", `terminal:${this.name} was left.`))
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #painted(picture: Picture): void {
    this.#picture = picture
    this.#signals.emit("screen", picture)
  }
}
