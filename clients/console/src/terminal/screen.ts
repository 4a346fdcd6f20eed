/** xterm.js as this page uses it; a chunk of its own, loaded when a terminal is first shown. */

import "@xterm/xterm/css/xterm.css"
import {Terminal as Emulator, type IDisposable} from "@xterm/xterm"
import type {Picture} from "claude-bridge-client"
import {adoptingCreate, whileCreating, type Create, type Styled} from "./adopted.js"
import {Batch} from "./batch.js"
import {paletteNow} from "./palette.js"
import {fittingFont, LARGEST_PX, sizeFor, SMALLEST_PX, type Box, type Size} from "./sizes.js"

export interface ScreenOptions {
  readonly typed: (what: string | Uint8Array) => void
  readonly leave: () => void
  /** Whether all of it is in view. */
  readonly fits: (all: boolean) => void
}

/** As pane.css has it. */
const PADDING = {across: 16, down: 12}

export class Screen {
  readonly #emulator: Emulator
  readonly #batch: Batch
  readonly #host: HTMLElement
  readonly #observer: ResizeObserver
  readonly #fits: (all: boolean) => void
  #frame = 0

  constructor(host: HTMLElement, {typed, leave, fits}: ScreenOptions) {
    this.#host = host
    this.#fits = fits
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
  room(): Size | null {
    const font = this.#font
    this.#font = LARGEST_PX
    const [room, screen] = [this.#room, this.#drawn]
    this.#font = font
    return room.width <= 0 || screen.width <= 0 ? null : sizeFor(room, screen, this.#emulator)
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
    this.#font = LARGEST_PX
    let font = fittingFont(LARGEST_PX, this.#drawn, this.#room)
    this.#font = font
    // Heights of lines are whole pixels, and so do not shrink as letters do.
    while (font > SMALLEST_PX && this.#drawn.height > this.#room.height) this.#font = font -= 0.5
    this.#fits(this.#drawn.width <= this.#room.width + 1)
  }

  get #font(): number {
    return this.#emulator.options.fontSize ?? LARGEST_PX
  }

  set #font(px: number) {
    if (px !== this.#font) this.#emulator.options.fontSize = px
  }

  get #drawn(): Box {
    const screen = this.#host.querySelector<HTMLElement>(".xterm-screen")
    return {width: screen?.offsetWidth ?? 0, height: screen?.offsetHeight ?? 0}
  }

  get #room(): Box {
    return {width: this.#host.clientWidth - PADDING.across, height: this.#host.clientHeight - PADDING.down}
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
