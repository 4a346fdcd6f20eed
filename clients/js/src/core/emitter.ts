/** Listeners that can all be removed, and one that throws disturbs nobody else. */

export type Unsubscribe = () => void

/** Told to whoever asked, without letting their exceptions in. */
export function tell<A extends unknown[]>(listener: (...told: A) => void, ...told: A): void {
  try {
    listener(...told)
  } catch (error) {
    // Reported as uncaught, as an event target does it: the listener's mistake is not lost, and not ours.
    if (typeof reportError === "function") reportError(error)
    else queueMicrotask(() => { throw error })
  }
}

export class Emitter<Events extends object> {
  readonly #listeners = new Map<keyof Events, Set<(payload: never) => void>>()

  /** Returns what removes the listener; calling that again does nothing. */
  on<N extends keyof Events>(event: N, listener: (payload: Events[N]) => void): Unsubscribe {
    const listeners = this.#listeners.get(event) ?? new Set()
    this.#listeners.set(event, listeners)
    // A wrapper, so that the same function given twice is two listeners.
    const entry = (payload: Events[N]): void => listener(payload)
    listeners.add(entry)
    return () => void listeners.delete(entry)
  }

  emit<N extends keyof Events>(event: N, payload: Events[N]): void {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) {
      tell(listener as (payload: Events[N]) => void, payload)
    }
  }

  clear(): void {
    for (const listeners of this.#listeners.values()) listeners.clear()
  }
}

/**
 * A value that is replaced and never changed, for `useSyncExternalStore` and its like: `subscribe` and
 * `getSnapshot` may be passed around alone.
 */
export class Store<T> {
  #value: T
  readonly #listeners = new Set<() => void>()

  constructor(value: T) {
    this.#value = value
  }

  readonly getSnapshot = (): T => this.#value

  readonly subscribe = (listener: () => void): Unsubscribe => {
    const entry = (): void => listener()
    this.#listeners.add(entry)
    return () => void this.#listeners.delete(entry)
  }

  set(value: T): void {
    if (Object.is(value, this.#value)) return
    this.#value = value
    for (const listener of [...this.#listeners]) tell(listener)
  }

  clear(): void {
    this.#listeners.clear()
  }
}
