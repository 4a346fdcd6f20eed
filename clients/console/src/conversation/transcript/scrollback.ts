/** The finished turns that are shown: those of the session's state, and the older ones that were fetched. */

import type {Session, Turn} from "claude-bridge-client"

/** Turns of one request for older ones. */
const PAGE = 50
/** Turns that are let go of again, oldest first, while nobody looks at them. */
const MOST = 400

export type Older = "more" | "loading" | "none" | "failed"

export class Scrollback {
  older: Older = "more"
  /** Why the last request for older turns failed. */
  error = ""
  #shown: readonly Turn[] = []
  #from: readonly Turn[] | null = null
  readonly #listeners = new Set<() => void>()
  #version = 0

  constructor(private readonly session: Pick<Session, "history">) {}

  /** What to show, where the state has `turns`. The same array as long as nothing is another. */
  turns(turns: readonly Turn[]): readonly Turn[] {
    if (turns !== this.#from) {
      this.#from = turns
      this.#shown = joinTurns(this.#shown, turns)
    }
    return this.#shown
  }

  /** Resolves to whether there were older ones. */
  async load(): Promise<boolean> {
    const [first] = this.#shown
    if (first === undefined || this.older === "loading" || this.older === "none") return false
    this.#become("loading")
    try {
      const found = await this.session.history({before: first.id, limit: PAGE})
      // What is shown may be another by now.
      if (this.#shown[0]?.id !== first.id) return this.#become("more"), true
      this.#shown = [...found, ...this.#shown]
      this.#become(found.length === 0 ? "none" : "more")
      return found.length > 0
    } catch (error) {
      this.error = error instanceof Error ? error.message : String(error)
      this.#become("failed")
      return false
    }
  }

  /** The end is looked at: what is far above it need not be kept. */
  trim(): void {
    if (this.#shown.length <= MOST) return
    this.#shown = this.#shown.slice(-MOST / 2)
    this.#become("more")
  }

  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  version = (): number => this.#version

  #become(older: Older): void {
    this.older = older
    this.#version += 1
    for (const listener of [...this.#listeners]) listener()
  }
}

/**
 * `turns`, the latest, after those of `shown` that are before them. Where they do not meet, something between them was
 * not told (the bridge was restarted, or the page was away for long), and only `turns` are shown.
 */
export function joinTurns(shown: readonly Turn[], turns: readonly Turn[]): readonly Turn[] {
  const [first] = turns
  if (first === undefined) return turns
  const at = shown.findIndex((t) => t.id === first.id)
  return at <= 0 ? turns : [...shown.slice(0, at), ...turns]
}
