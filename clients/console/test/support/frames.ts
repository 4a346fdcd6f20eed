import type {Schedule} from "../../src/ui/frames.js"

/** Frames that come when a test says so. */
export function frames(): {schedule: Schedule, next: () => void, count: () => number} {
  let waiting: (() => void)[] = []
  let asked = 0
  return {
    schedule: (run) => {
      asked += 1
      waiting.push(run)
      return () => void (waiting = waiting.filter((each) => each !== run))
    },
    next: () => {
      const due = waiting
      waiting = []
      for (const run of due) run()
    },
    count: () => asked,
  }
}
