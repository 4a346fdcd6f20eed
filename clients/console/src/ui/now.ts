import {useSyncExternalStore} from "react"

/** The time, anew every `ms`; one timer for each step, while anything shows it. */
export function useNow(ms: number): number {
  const clock = clockOf(ms)
  return useSyncExternalStore(clock.subscribe, clock.get)
}

interface Clock {
  readonly get: () => number
  readonly subscribe: (listener: () => void) => () => void
}

const clocks = new Map<number, Clock>()

function clockOf(ms: number): Clock {
  const known = clocks.get(ms)
  if (known) return known
  const listeners = new Set<() => void>()
  let now = Date.now()
  let timer: ReturnType<typeof setInterval> | undefined
  const tick = (): void => {
    now = Date.now()
    for (const listener of [...listeners]) listener()
  }
  const made: Clock = {
    get: () => now,
    subscribe(listener) {
      listeners.add(listener)
      if (timer === undefined) {
        now = Date.now()
        timer = setInterval(tick, ms)
      }
      return () => {
        listeners.delete(listener)
        if (listeners.size > 0) return
        clearInterval(timer)
        timer = undefined
      }
    },
  }
  clocks.set(ms, made)
  return made
}
