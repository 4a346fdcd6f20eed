/** Who is here, out of `presence_state` and `presence_diff` as Phoenix.Presence sends them. */

import type {Meta} from "./wire.js"

/** By name, each of their connections; a name without one is left out. */
export type Presence = Readonly<Record<string, readonly Meta[]>>

type State = Record<string, {readonly metas: readonly Meta[]}>
interface Diff {readonly joins: State, readonly leaves: State}

export class PresenceTracker {
  #pending: Diff[] | null = []
  #present: Presence = {}

  get present(): Presence {
    return this.#present
  }

  /** The connection is a new one: what is told before its state belongs on top of that. */
  begin(): void {
    this.#pending = []
  }

  state(state: State): void {
    const pending = this.#pending ?? []
    this.#pending = null
    this.#present = Object.fromEntries(Object.entries(state).map(([name, {metas}]) => [name, metas]))
    for (const diff of pending) this.#apply(diff)
  }

  diff(diff: Diff): void {
    if (this.#pending) this.#pending.push(diff)
    else this.#apply(diff)
  }

  #apply({joins, leaves}: Diff): void {
    const present: Record<string, readonly Meta[]> = {...this.#present}
    for (const [name, {metas}] of Object.entries(joins)) {
      const known = (present[name] ?? []).filter((m) => !metas.some((n) => n.phx_ref === m.phx_ref))
      present[name] = [...known, ...metas]
    }
    for (const [name, {metas}] of Object.entries(leaves)) {
      const left = (present[name] ?? []).filter((m) => !metas.some((n) => n.phx_ref === m.phx_ref))
      if (left.length > 0) present[name] = left
      else delete present[name]
    }
    this.#present = present
  }
}
