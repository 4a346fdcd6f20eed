/** A real bridge on the simulator, with the real CLI in real tmux; gone when the tests are, however they end. */

import {spawn, type ChildProcess} from "node:child_process"
import {createInterface} from "node:readline"
import {fileURLToPath} from "node:url"

const ROOT = fileURLToPath(new URL("../../../../", import.meta.url))

export class RealBridge {
  readonly #process: ChildProcess
  readonly #answers: AsyncIterator<string>
  #where: {url: string, token: string} = {url: "", token: ""}

  private constructor(process: ChildProcess) {
    this.#process = process
    this.#answers = createInterface({input: process.stdout as NodeJS.ReadableStream})[Symbol.asyncIterator]()
  }

  static async start(): Promise<RealBridge> {
    const python = process.env["BRIDGE_PYTHON"] ?? `${ROOT}.venv/bin/python`
    const made = new RealBridge(
      spawn(python, ["-m", "tests.fakes.bridge_by_pipe"], {cwd: ROOT, stdio: ["pipe", "pipe", "inherit"]}),
    )
    await made.#answer()
    return made
  }

  get url(): string {
    return this.#where.url
  }

  get port(): number {
    return Number(new URL(this.url).port)
  }

  get token(): string {
    return this.#where.token
  }

  /** `kill`: as the kernel does it. `start`: on the same folder and port. */
  async say(command: "kill" | "stop" | "start"): Promise<void> {
    this.#process.stdin?.write(`${command}\n`)
    await this.#answer()
  }

  async remove(): Promise<void> {
    const ended = new Promise<number | null>((resolve) => this.#process.once("exit", resolve))
    this.#process.stdin?.end()
    const status = await ended
    if (status !== 0) throw new Error(`the bridge's end went wrong: ${status}`)
  }

  async #answer(): Promise<void> {
    const {value, done} = await this.#answers.next()
    if (done) throw new Error("the bridge did not start")
    this.#where = {...this.#where, ...(JSON.parse(value) as object)}
  }
}

/** A prompt that tells the simulator what to answer. */
export function sim(directive: object, prompt = ""): string {
  return `${prompt}[[sim ${JSON.stringify(directive)}]]`
}
