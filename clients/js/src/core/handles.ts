/** Who waits for which turn of a session, and what they are told when they missed something. */

import {BridgeError} from "./errors.js"
import {hasFinished, TurnHandle, type TurnEvent, type TurnHome} from "./turn.js"
import type {Turn} from "./wire.js"

/** How far back a turn is looked for that ended while this client was away. */
const PAGES = 25
const PAGE = 200

export class Handles {
  readonly #waiting = new Map<string, Set<TurnHandle>>()

  constructor(
    private readonly home: TurnHome,
    private readonly history: (before: string | undefined, limit: number) => Promise<readonly Turn[]>,
  ) {}

  /** `old`: the turn is there already, so that one which is not among those known has to be looked for. */
  make(id: string, key: string | undefined, old: boolean): TurnHandle {
    const handle = new TurnHandle(this.home, id, key)
    const handles = this.#waiting.get(id) ?? new Set()
    this.#waiting.set(id, handles.add(handle))
    const known = this.home.turn(id)
    if (hasFinished(known)) this.finish(known)
    else if (!known && old) void this.#find(id)
    return handle
  }

  take(id: string, event: TurnEvent): void {
    for (const handle of this.#waiting.get(id) ?? []) handle.take(event)
  }

  finish(turn: Turn): void {
    const handles = this.#waiting.get(turn.id) ?? []
    this.#waiting.delete(turn.id)
    for (const handle of handles) handle.finish(turn)
  }

  /** The state was replaced: each turn goes on from what is known now, or has ended in the meantime. */
  restore(): void {
    for (const [id, handles] of [...this.#waiting]) {
      const known = this.home.turn(id)
      if (known) for (const handle of handles) handle.replace()
      if (hasFinished(known)) this.finish(known)
      else if (!known) void this.#find(id)
    }
  }

  fail(error: unknown): void {
    for (const id of [...this.#waiting.keys()]) this.#lose(id, error)
  }

  /** Look for a turn that ended unseen, and is not among the latest. */
  async #find(id: string): Promise<void> {
    try {
      let before: string | undefined
      for (let page = 0; page < PAGES; page++) {
        const turns = await this.history(before, PAGE)
        const found = turns.find((t) => t.id === id) ?? this.home.turn(id)
        if (hasFinished(found)) return this.finish(found)
        if (found) return
        before = turns[0]?.id
        if (before === undefined) break
      }
      this.#lose(id, new BridgeError("turn_not_found", `The history does not have the turn ${id} any more.`, {turn: id}))
    } catch (error) {
      this.#lose(id, error)
    }
  }

  #lose(id: string, error: unknown): void {
    const handles = this.#waiting.get(id) ?? []
    this.#waiting.delete(id)
    for (const handle of handles) handle.fail(error)
  }
}
