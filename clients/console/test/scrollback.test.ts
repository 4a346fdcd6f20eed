import {describe, expect, it} from "vitest"
import type {Turn} from "claude-bridge-client"
import {joinTurns, Scrollback} from "../src/conversation/transcript/scrollback.js"
import {turn} from "./support/turns.js"

const turns = (from: number, to: number): Turn[] => Array.from({length: to - from}, (_, i) => turn(`t${from + i}`))
const ids = (of: readonly Turn[]): string[] => of.map((t) => t.id)

/** A session whose history has `all`. */
const historyOf = (all: readonly Turn[]) => ({
  history: ({before, limit = 50}: {before?: string | undefined, limit?: number | undefined} = {}) => {
    const end = all.findIndex((t) => t.id === before)
    return Promise.resolve(all.slice(Math.max(0, end - limit), end))
  },
})

describe("joinTurns", () => {
  it("keeps the older ones that the state has let go of", () => {
    expect(ids(joinTurns(turns(0, 4), turns(2, 6)))).toEqual(["t0", "t1", "t2", "t3", "t4", "t5"])
  })

  it("shows no turns beside each other between which others are missing", () => {
    expect(ids(joinTurns(turns(0, 3), turns(5, 7)))).toEqual(["t5", "t6"])
    expect(joinTurns(turns(0, 3), [])).toEqual([])
  })
})

describe("Scrollback", () => {
  it("fetches older turns until there are none", async () => {
    const all = turns(0, 70)
    const scrollback = new Scrollback(historyOf(all))
    const latest = all.slice(-10)
    expect(scrollback.turns(latest)).toHaveLength(10)
    expect(await scrollback.load()).toBe(true)
    expect(ids(scrollback.turns(latest))).toEqual(ids(all.slice(10)))
    await scrollback.load()
    expect(scrollback.older).toBe("more")
    expect(await scrollback.load()).toBe(false)
    expect(scrollback.older).toBe("none")
    expect(ids(scrollback.turns(latest))).toEqual(ids(all))
  })

  it("asks once at a time, and says why it failed", async () => {
    let asked = 0
    const scrollback = new Scrollback({
      history: () => {
        asked += 1
        return Promise.reject(new Error("The bridge is gone."))
      },
    })
    scrollback.turns(turns(0, 2))
    await Promise.all([scrollback.load(), scrollback.load()])
    expect(asked).toBe(1)
    expect([scrollback.older, scrollback.error]).toEqual(["failed", "The bridge is gone."])
  })

  it("lets go of what is far above the end, and can fetch it again", async () => {
    const all = turns(0, 500)
    const scrollback = new Scrollback(historyOf(all))
    scrollback.turns(all)
    scrollback.trim()
    expect(scrollback.turns(all)).toHaveLength(200)
    await scrollback.load()
    expect(scrollback.turns(all)[0]?.id).toBe("t250")
  })
})
