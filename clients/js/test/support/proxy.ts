/** A network that can go away: what runs through it breaks without a word, and is let through again at once. */

import {connect as dial, createServer, type AddressInfo, type Server, type Socket} from "node:net"

export class Proxy {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  #open = true

  private constructor(private readonly target: () => number) {
    this.#server = createServer((near) => this.#through(near))
  }

  static async to(target: () => number): Promise<Proxy> {
    const made = new Proxy(target)
    await new Promise<void>((resolve) => made.#server.listen(0, "127.0.0.1", resolve))
    return made
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** Every connection breaks; with `away` nothing gets through until `back`. */
  cut({away = false} = {}): void {
    this.#open = !away
    for (const socket of this.#sockets) socket.resetAndDestroy()
  }

  back(): void {
    this.#open = true
  }

  async close(): Promise<void> {
    this.cut()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  #through(near: Socket): void {
    if (!this.#open) return void near.destroy()
    const far = dial(this.target(), "127.0.0.1")
    for (const [one, other] of [[near, far], [far, near]] as const) {
      this.#sockets.add(one)
      one.setNoDelay(true)
      one.pipe(other)
      one.on("error", () => undefined)
      one.on("close", () => {
        this.#sockets.delete(one)
        other.destroy()
      })
    }
  }
}
