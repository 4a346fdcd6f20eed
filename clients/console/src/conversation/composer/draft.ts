/** What is being written to each session: kept through errors, through looking at another one, and, the text, a reload. */

import type {Picked} from "./files.js"

export interface Draft {
  readonly text: string
  readonly files: readonly Picked[]
}

interface Attempt {
  readonly id: string
  readonly draft: Draft
}

const EMPTY: Draft = {text: "", files: []}

export class Drafts {
  readonly #files = new Map<string, readonly Picked[]>()
  readonly #attempts = new Map<string, Attempt>()

  constructor(private readonly storage: Pick<Storage, "getItem" | "setItem" | "removeItem">) {}

  get(session: string): Draft {
    return {text: this.storage.getItem(place(session)) ?? "", files: this.#files.get(session) ?? []}
  }

  set(session: string, {text, files}: Draft): void {
    try {
      if (text === "") this.storage.removeItem(place(session))
      else this.storage.setItem(place(session), text)
    } catch {
      // The storage is full: the text is in the page, and only a reload would lose it.
    }
    this.#files.set(session, files)
  }

  /** The key under which this draft is submitted: the same until it has been taken, so that it is run once. */
  key(session: string, draft: Draft): string {
    const before = this.#attempts.get(session)
    if (before !== undefined && before.draft.text === draft.text && sameFiles(before.draft.files, draft.files)) return before.id
    const id = newKey()
    this.#attempts.set(session, {id, draft})
    return id
  }

  /** It was taken, or refused for good: the same text again is another prompt. */
  settled(session: string): void {
    this.#attempts.delete(session)
  }

  taken(session: string): Draft {
    this.settled(session)
    this.set(session, EMPTY)
    return EMPTY
  }
}

export const isEmpty = ({text, files}: Draft): boolean => text.trim() === "" && files.length === 0

function place(session: string): string {
  return `claude-bridge.draft.${session}`
}

function sameFiles(a: readonly Picked[], b: readonly Picked[]): boolean {
  return a.length === b.length && a.every((file, i) => file === b[i])
}

function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("")
}
