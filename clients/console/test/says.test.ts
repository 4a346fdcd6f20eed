import {expect, test} from "vitest"
import {ago, budgetOf, count, evidenceOf, lasting, money, shortModel, shortPath, tokensOf} from "../src/sessions/says.js"
import {sessionOf} from "./samples.js"

test("a state is said with by what it is known and how old that is, counted on from when it was told", () => {
  expect(evidenceOf(sessionOf("a", {state: "busy", evidence: {signal: "hook:Stop", age_ms: 300}}), 0))
    .toBe("busy, told by Claude's hook Stop 0.3 s ago")
  expect(evidenceOf(sessionOf("a", {evidence: {signal: "something_new", age_ms: 0}}), 61_000))
    .toBe("idle, told by something_new 61 s ago")
})

test("times, costs and counts are short", () => {
  expect([0, 9940, 12_000, 240_000, 7_200_000, 259_200_000].map(lasting)).toEqual(["0.0 s", "9.9 s", "12 s", "4 min", "2 h", "3 d"])
  expect([59_000, 61_000, 99_000, 101_000].map(ago)).toEqual(["now", "1 min", "1 min", "2 min"])
  expect([null, 0, 0.001, 1.239].map(money)).toEqual([null, "$0", "< 1 ¢", "$1.24"])
  expect([7, 1200, 12_345, 999_499, 1_200_000].map(count)).toEqual(["7", "1.2k", "12k", "999k", "1.2M"])
  expect(shortModel("claude-opus-4-1-20250805")).toBe("opus-4-1")
  expect(shortPath("/srv/ada/code/bridge")).toBe("…/code/bridge")
  expect(shortPath("/srv/x")).toBe("/srv/x")
})

test("tokens in are all that went in, cached or not", () => {
  const usage = {input_tokens: 1, output_tokens: 2, cache_creation_input_tokens: 3, cache_read_input_tokens: 4}
  expect(tokensOf(usage)).toEqual({into: 8, out: 2})
})

test("a budget is said in what it limits", () => {
  expect(budgetOf(sessionOf("a"))).toBeNull()
  const ofMoney = {spent_usd: 1.2, limit_usd: 5, spent_tokens: 9, limit_tokens: null, state: "warned"}
  expect(budgetOf(sessionOf("a", {budget: ofMoney}))).toEqual({text: "$1.20 of $5.00", state: "warned"})
  const ofTokens = {spent_usd: 0, limit_usd: null, spent_tokens: 900, limit_tokens: 2000, state: "ok"}
  expect(budgetOf(sessionOf("a", {budget: ofTokens}))).toEqual({text: "900 of 2.0k tokens", state: "ok"})
})
