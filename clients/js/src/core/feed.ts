/** What is told to a `for await` loop: a queue with a bound, and with something to say in place of what overflows. */

export class Feed<T> implements AsyncIterableIterator<T> {
  #queue: T[]
  #ended = false
  #error: unknown
  #waiting: {resolve(result: IteratorResult<T>): void, reject(error: unknown): void}[] = []

  /**
   * @param first What the loop is told at once.
   * @param limit How many may wait. When more come, all of them are replaced by what `instead` says.
   * @param left Called once, when the loop is left or the feed has ended.
   */
  constructor(
    first: readonly T[],
    private readonly limit: number,
    private readonly instead: () => T[],
    private readonly left: (feed: Feed<T>) => void,
  ) {
    this.#queue = [...first]
  }

  push(value: T): void {
    if (this.#ended) return
    const waiting = this.#waiting.shift()
    if (waiting) waiting.resolve({done: false, value})
    else if (this.#queue.length < this.limit) this.#queue.push(value)
    else this.#queue = this.instead()
  }

  /** What waits is still told, then the loop ends, or throws `error`. */
  end(error?: unknown): void {
    if (this.#ended) return
    this.#ended = true
    this.#error = error
    this.left(this)
    for (const {resolve, reject} of this.#waiting.splice(0)) {
      if (error === undefined) resolve({done: true, value: undefined})
      else reject(error)
    }
  }

  next(): Promise<IteratorResult<T>> {
    if (this.#queue.length > 0) return Promise.resolve({done: false, value: this.#queue.shift() as T})
    if (this.#ended) {
      const error = this.#error
      this.#error = undefined
      return error === undefined ? Promise.resolve({done: true, value: undefined}) : Promise.reject(error as Error)
    }
    return new Promise((resolve, reject) => this.#waiting.push({resolve, reject}))
  }

  return(): Promise<IteratorResult<T>> {
    this.#queue = []
    this.end()
    return Promise.resolve({done: true, value: undefined})
  }

  [Symbol.asyncIterator](): this {
    return this
  }
}

/** The promise, or the signal's reason where that comes first. */
export function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise
  if (signal.aborted) return Promise.reject(signal.reason as Error)
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason as Error)
    signal.addEventListener("abort", abort, {once: true})
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort))
  })
}
