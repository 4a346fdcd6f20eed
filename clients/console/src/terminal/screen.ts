/** xterm.js as this page uses it; a chunk of its own, loaded when a terminal is first shown. */

import "@xterm/xterm/css/xterm.css"
import {FitAddon} from "@xterm/addon-fit"
import {Terminal as Emulator, type IDisposable} from "@xterm/xterm"
import type {Picture} from "claude-bridge-client"
import {adoptingCreate, whileCreating, type Create, type Styled} from "./adopted.js"
import {Batch} from "./batch.js"
import {paletteNow} from "./palette.js"
import {allowedSize, fittingFont, LARGEST_PX} from "./sizes.js"

export interface ScreenOptions {
  readonly typed: (what: string | Uint8Array) => void
  readonly leave: () => void
}

export class Screen {
  readonly #emulator: Emulator
  readonly #fit = new FitAddon()
  readonly #batch: Batch
  readonly #host: HTMLElement
  readonly #observer: ResizeObserver
  #frame = 0

  constructor(host: HTMLElement, {typed, leave}: ScreenOptions) {
    this.#host = host
    const real = document as unknown as Styled<CSSStyleSheet>
    const create = adoptingCreate(real, () => new CSSStyleSheet())
    this.#emulator = new Emulator({
      cursorBlink: false,
      fontFamily: getComputedStyle(document.documentElement).getPropertyValue("--mono").trim(),
      fontSize: LARGEST_PX,
      minimumContrastRatio: 4.5,
      scrollback: 2000,
      theme: paletteNow(),
    })
    this.#batch = new Batch((bytes) => this.#emulator.write(bytes))
    this.#emulator.loadAddon(this.#fit)
    whileCreating(real, create, () => this.#emulator.open(host))
    makeRowsWith(this.#emulator, create)
    answersNothing(this.#emulator)
    this.#emulator.onData(typed)
    this.#emulator.onBinary((data) => typed(Uint8Array.from(data, (c) => c.charCodeAt(0))))
    this.#emulator.attachCustomKeyEventHandler((event) => {
      const leaves = event.key === "F6" || (event.key === "Escape" && event.ctrlKey && event.shiftKey)
      if (!leaves) return true
      event.preventDefault()
      event.stopPropagation()
      if (event.type === "keydown") leave()
      return false
    })
    this.#observer = new ResizeObserver(() => this.#scaleSoon())
    this.#observer.observe(host)
  }

  paint({cols, rows, screen}: Picture): void {
    this.#batch.drop()
    // Behind what is being parsed, so that it is written to a screen of its own size.
    this.#emulator.write("", () => {
      this.#emulator.resize(cols, rows)
      this.#emulator.reset()
      this.#emulator.write(screen)
      this.#scaleSoon()
    })
  }

  output(bytes: Uint8Array): void {
    this.#batch.add(bytes)
  }

  /** How many columns and rows there would be room for, with letters of the usual size. */
  room(): {readonly cols: number, readonly rows: number} | null {
    const font = this.#emulator.options.fontSize
    this.#emulator.options.fontSize = LARGEST_PX
    const proposed = this.#fit.proposeDimensions()
    this.#emulator.options.fontSize = font ?? LARGEST_PX
    return proposed === undefined || Number.isNaN(proposed.cols) ? null : allowedSize(proposed.cols, proposed.rows)
  }

  readOnly(is: boolean): void {
    this.#emulator.options.disableStdin = is
  }

  readAloud(is: boolean): void {
    this.#emulator.options.screenReaderMode = is
  }

  themed(): void {
    this.#emulator.options.theme = paletteNow()
  }

  focus(): void {
    this.#emulator.focus()
  }

  close(): void {
    cancelAnimationFrame(this.#frame)
    this.#observer.disconnect()
    this.#batch.drop()
    this.#emulator.dispose()
  }

  #scaleSoon(): void {
    cancelAnimationFrame(this.#frame)
    this.#frame = requestAnimationFrame(() => this.#scale())
  }

  /** The process keeps its size; the letters are made to fit. */
  #scale(): void {
    const screen = this.#host.querySelector<HTMLElement>(".xterm-screen")
    if (!screen) return
    const font = this.#emulator.options.fontSize ?? LARGEST_PX
    const room = {width: this.#host.clientWidth - 16, height: this.#host.clientHeight - 12}
    const fitting = fittingFont(font, {width: screen.offsetWidth, height: screen.offsetHeight}, room)
    if (fitting !== font) this.#emulator.options.fontSize = fitting
  }
}

/** Rows are made anew all the time, and by whoever was asked for it when the terminal was opened. */
function makeRowsWith(emulator: Emulator, createElement: Create): void {
  const {_core} = emulator as unknown as {_core?: {_renderService?: {_renderer?: {value?: {_rowFactory?: {_document: unknown}}}}}}
  const rows = _core?._renderService?._renderer?.value?._rowFactory
  if (rows === undefined) throw new Error("This version of xterm.js keeps its rows elsewhere.")
  rows._document = {createElement}
}

/**
 * A program asks its terminal what it is, where its cursor is, which colours it has. tmux answers for the pane;
 * an answer of every page that looks on would be typed into the program.
 */
function answersNothing({parser}: Emulator): IDisposable[] {
  const swallow = (): boolean => true
  const asks = (data: string): boolean => data.includes("?")
  return [
    parser.registerCsiHandler({final: "c"}, swallow),
    parser.registerCsiHandler({prefix: ">", final: "c"}, swallow),
    parser.registerCsiHandler({prefix: "=", final: "c"}, swallow),
    parser.registerCsiHandler({final: "n"}, swallow),
    parser.registerCsiHandler({prefix: "?", final: "n"}, swallow),
    parser.registerCsiHandler({prefix: ">", final: "q"}, swallow),
    parser.registerCsiHandler({prefix: "?", final: "u"}, swallow),
    parser.registerCsiHandler({intermediates: "$", final: "p"}, swallow),
    parser.registerCsiHandler({prefix: "?", intermediates: "$", final: "p"}, swallow),
    parser.registerCsiHandler({final: "t"}, swallow),
    parser.registerDcsHandler({intermediates: "$", final: "q"}, swallow),
    parser.registerDcsHandler({intermediates: "+", final: "q"}, swallow),
    ...[4, 10, 11, 12].map((code) => parser.registerOscHandler(code, asks)),
  ]
}
