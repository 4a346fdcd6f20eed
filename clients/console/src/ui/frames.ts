/** What comes hundreds of times a second, given on at most once a frame. */

export type Schedule = (run: () => void) => () => void

/** A frame, or a while where the page is hidden and has no frames. */
export const nextFrame: Schedule = (run) => {
  let done = false
  const once = (): void => {
    if (done) return
    done = true
    cancel()
    run()
  }
  const frame = requestAnimationFrame(once)
  const timer = setTimeout(once, 250)
  const cancel = (): void => {
    cancelAnimationFrame(frame)
    clearTimeout(timer)
  }
  return () => {
    done = true
    cancel()
  }
}

export interface Source<T> {
  readonly subscribe: (listener: () => void) => () => void
  readonly getSnapshot: () => T
}

/**
 * A store for `useSyncExternalStore`, whose value stays the same between two frames. React renders what a store tells at
 * once, before anything else: told of every delta, a page that is behind never gets to the rest, and React gives up (its
 * error 185).
 */
export class Framed<T> implements Source<T> {
  readonly #listeners = new Set<() => void>()
  #value: T
  #off: (() => void) | undefined
  #cancel: (() => void) | undefined

  constructor(private readonly source: Source<T>, private readonly schedule: Schedule = nextFrame) {
    this.#value = source.getSnapshot()
  }

  readonly getSnapshot = (): T => {
    if (this.#listeners.size === 0) this.#value = this.source.getSnapshot()
    return this.#value
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    const entry = (): void => listener()
    if (this.#listeners.size === 0) {
      this.#value = this.source.getSnapshot()
      this.#off = this.source.subscribe(() => (this.#cancel ??= this.schedule(this.#tell)))
    }
    this.#listeners.add(entry)
    return () => {
      this.#listeners.delete(entry)
      if (this.#listeners.size > 0) return
      this.#off?.()
      this.#cancel?.()
      this.#off = this.#cancel = undefined
    }
  }

  readonly #tell = (): void => {
    this.#cancel = undefined
    this.#value = this.source.getSnapshot()
    for (const listener of [...this.#listeners]) listener()
  }
}
