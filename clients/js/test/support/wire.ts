/** The far end of a WebSocket without a network: what phoenix.js says is read frame by frame, and answered by hand. */

import {readFileSync} from "node:fs"

export interface Decoded {
  readonly join_ref: string | null
  readonly ref: string | null
  readonly topic: string
  readonly event: string
  readonly payload: unknown
}

export interface Golden {
  readonly name: string
  readonly direction: "client" | "server"
  readonly wire: string
  readonly opcode?: "text" | "binary"
  readonly decoded: Decoded
}

export function golden(file: string): Golden[] {
  return JSON.parse(readFileSync(new URL(`../../../../spec/frames/${file}.json`, import.meta.url), "utf8")) as Golden[]
}

export class Wire {
  static latest: Wire
  readonly said: (string | ArrayBuffer)[] = []
  readyState = 0
  binaryType = ""
  bufferedAmount = 0
  onopen: () => void = () => undefined
  onclose: (event: {code: number}) => void = () => undefined
  onerror: (error: unknown) => void = () => undefined
  onmessage: (event: {data: string | ArrayBuffer}) => void = () => undefined

  constructor(readonly url: string, readonly protocols: string[] | undefined) {
    Wire.latest = this
    queueMicrotask(() => this.begin())
  }

  protected begin(): void {
    this.readyState = 1
    this.onopen()
  }

  send(frame: string | ArrayBuffer): void {
    this.said.push(frame)
  }

  close(code = 1000): void {
    this.readyState = 3
    this.onclose({code})
  }

  tell(frame: string | ArrayBuffer): void {
    this.onmessage({data: frame})
  }

  /** A golden frame, with the references that this client happens to use in place of its own. */
  tellGolden({wire, opcode}: Golden, joinRef: string, ref: string | null): void {
    if (opcode === "binary") {
      const bytes = Buffer.from(wire, "hex")
      // One byte for each reference, here as there.
      bytes[4] = joinRef.charCodeAt(0)
      return this.tell(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength))
    }
    const [theirJoin, theirRef, ...rest] = JSON.parse(wire) as [string | null, string | null, ...unknown[]]
    this.tell(JSON.stringify([theirJoin && joinRef, theirRef && ref, ...rest]))
  }

  /** The latest text frame. */
  get last(): Decoded {
    const text = this.said.filter((s): s is string => typeof s === "string").at(-1) ?? "[]"
    const [join_ref, ref, topic, event, payload] = JSON.parse(text) as [string, string, string, string, unknown]
    return {join_ref, ref, topic, event, payload}
  }
}

/** Lets everything that is on its way in this process arrive. */
export function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
