import type {Unsubscribe} from "../../src/index.js"

const PATIENCE_MS = 50_000

/** What `find` finds, looked for again whenever `subscribe` says that something changed. */
export function until<T>(
  subscribe: (listener: () => void) => Unsubscribe,
  find: () => T | undefined | null | false,
  what: string,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const look = (): void => {
      const found = find()
      if (found === undefined || found === null || found === false) return
      off()
      clearTimeout(timer)
      resolve(found)
    }
    const off = subscribe(look)
    const timer = setTimeout(() => {
      off()
      reject(new Error(`${PATIENCE_MS} ms passed without ${what}`))
    }, PATIENCE_MS)
    look()
  })
}
