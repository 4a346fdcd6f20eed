/** What arrives between two frames is given on at once, in order, so that a fast process costs one write a frame. */

import {nextFrame, type Schedule} from "../ui/frames.js"

export class Batch {
  #pieces: Uint8Array[] = []
  #cancel: (() => void) | undefined

  constructor(private readonly write: (bytes: Uint8Array) => void, private readonly schedule: Schedule = nextFrame) {}

  add(bytes: Uint8Array): void {
    if (bytes.length === 0) return
    this.#pieces.push(bytes)
    this.#cancel ??= this.schedule(() => this.#flush())
  }

  /** Forget what was not written yet: a picture replaces it. */
  drop(): void {
    this.#cancel?.()
    this.#cancel = undefined
    this.#pieces = []
  }

  #flush(): void {
    this.#cancel = undefined
    const pieces = this.#pieces
    this.#pieces = []
    if (pieces.length > 0) this.write(joined(pieces))
  }
}

function joined(pieces: readonly Uint8Array[]): Uint8Array {
  if (pieces.length === 1) return pieces[0] as Uint8Array
  const all = new Uint8Array(pieces.reduce((length, piece) => length + piece.length, 0))
  let at = 0
  for (const piece of pieces) {
    all.set(piece, at)
    at += piece.length
  }
  return all
}
