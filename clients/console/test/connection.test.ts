import {describe, expect, test} from "vitest"
import type {Connection} from "claude-bridge-client"
import {connected, GOOD_NEWS_MS, rejoined, sentenceOf, UNBROKEN, type Break} from "../src/ui/connection.js"

const lost: Connection = {status: "reconnecting", since: 1000, reason: "closed with 1006"}
const open = (since: number): Connection => ({status: "open", since})

const wasOpen = connected(UNBROKEN, open(500))

function afterBreak(ms: number): Break {
  return connected(connected(wasOpen, lost), open(1000 + ms))
}

test("nothing is said of a connection that was never lost", () => {
  expect(sentenceOf(open(500), wasOpen, 600)).toBeNull()
})

test("a first connection gets a moment before it is worth a word", () => {
  const connecting: Connection = {status: "connecting", since: 0}
  expect(sentenceOf(connecting, UNBROKEN, 900)).toBeNull()
  expect(sentenceOf(connecting, UNBROKEN, 1100)?.said).toBe("Connecting to the bridge.")
})

test("while it is lost the time runs on the screen, and what is read out stays", () => {
  const known = connected(wasOpen, lost)
  const [first, later] = [sentenceOf(lost, known, 4000), sentenceOf(lost, known, 9000)]
  expect(first?.shown).toBe("Connection lost 3 s ago; trying again. What is shown is how it was.")
  expect(later?.shown).toContain("8 s ago")
  expect(later?.said).toBe(first?.said)
})

test("the break began when the connection was first lost, whatever is tried meanwhile", () => {
  const known = connected(connected(wasOpen, lost), {...lost, since: 5000, reason: "another"})
  expect(known.lostAt).toBe(1000)
})

describe("after it", () => {
  test("nothing missed", () => {
    const known = rejoined(afterBreak(3000), true, true)
    expect(sentenceOf(open(4000), known, 4100)).toMatchObject({tone: "good", said: "Back after 3 s, nothing missed."})
  })
  test("a restart of the bridge", () => {
    const known = rejoined(afterBreak(40_000), false, false)
    expect(sentenceOf(open(41_000), known, 41_000)?.said).toBe("Back after 40 s; the bridge was restarted, shown anew.")
  })
  test("too much for the bridge to tell", () => {
    const known = rejoined(afterBreak(40_000), false, true)
    expect(sentenceOf(open(41_000), known, 41_000)?.said).toBe("Back after 40 s; much happened meanwhile, shown anew.")
  })
  test("no more than that, where no session is open or it has not said", () => {
    expect(sentenceOf(open(4000), afterBreak(3000), 4100)?.said).toBe("Back after 3 s.")
  })
  test("for five seconds", () => {
    expect(sentenceOf(open(4000), afterBreak(3000), 4000 + GOOD_NEWS_MS)).toBeNull()
  })
  test("and then a next break is one of its own", () => {
    const again = connected(rejoined(afterBreak(3000), true, true), {...lost, since: 9000})
    expect(again).toEqual({wasOpen: true, lostAt: 9000, backAt: null, missed: null})
  })
})

test("what never was open was not lost: a refused token and then another is a beginning", () => {
  const known = connected(connected(UNBROKEN, lost), open(3000))
  expect(known.lostAt).toBeNull()
  expect(sentenceOf(lost, UNBROKEN, 3000)?.said).toBe("Connecting to the bridge.")
})

test("a join that follows no break says nothing", () => {
  expect(rejoined(UNBROKEN, false, true)).toBe(UNBROKEN)
})

test("a refusal is said in the bridge's words", () => {
  expect(sentenceOf({status: "refused", since: 0, reason: "This token was revoked."}, UNBROKEN, 0)?.said)
    .toBe("The bridge refuses the token: This token was revoked.")
})
