/** What a test in a real browser has in its page: the client over both transports, and the React example. */

import {StrictMode} from "react"
import {createRoot} from "react-dom/client"
import {Conversation} from "../../examples/use-session.js"
import {connect as phoenix, type Bridge, type Session, type Terminal} from "../../src/index.js"
import {connect as socketio} from "../../src/socketio.js"

const page = {
  bridge: undefined as Bridge | undefined,
  session: undefined as Session | undefined,
  terminal: undefined as Terminal | undefined,
  told: [] as string[],
  bytes: [] as number[],

  connect(how: "phoenix" | "socketio", url: string, token: string, options: object): void {
    page.bridge = {phoenix, socketio}[how](url, {token, ...options})
    page.session = page.bridge.session("a")
    page.session.on("delta", ({text}) => page.told.push(text))
  },

  /** The text of a prompt's turn. */
  async ask(prompt: string): Promise<string> {
    const turn = await page.session!.submit(prompt)
    return turn.text()
  },

  /** The columns of the screen, once it is painted. */
  watch(): Promise<number> {
    page.terminal = page.bridge!.terminal("a")
    page.terminal.on("output", (output) => page.bytes.push(...output))
    return new Promise((resolve) => page.terminal!.on("screen", ({cols}) => resolve(cols)))
  },

  /** The example, in the page; returns what takes it away. */
  render(): void {
    const root = createRoot(document.body.appendChild(document.createElement("main")))
    root.render(<StrictMode><Conversation bridge={page.bridge!} name="a" /></StrictMode>)
    page.unmount = () => root.unmount()
  },
  unmount: (): void => undefined,

  /** As a person types and sends it. */
  type(prompt: string): void {
    const input = document.querySelector("input")!
    input.value = prompt
    input.form!.requestSubmit()
  },
}

Object.assign(window, {page})
