import {expect, test} from "vitest"
import {asking, beside, listed} from "../src/sessions/order.js"
import {sessionOf} from "./samples.js"

const names = (sessions: readonly {name: string}[]): string[] => sessions.map((s) => s.name)

test("what waits for a person comes first, what failed next, what is stopped last; else by name, numbers as numbers", () => {
  const sessions = [
    sessionOf("run-10"), sessionOf("run-2", {state: "busy"}), sessionOf("a-stopped", {state: "stopped"}),
    sessionOf("z-asks", {state: "waiting"}), sessionOf("m-failed", {state: "failed"}),
  ]
  expect(names(listed(sessions, ""))).toEqual(["z-asks", "m-failed", "run-2", "run-10", "a-stopped"])
  expect(asking(sessions)).toBe(1)
})

test("the filter takes words in any order, of name, state, backend, model and folder", () => {
  const sessions = [sessionOf("alpha", {backend: "tmux"}), sessionOf("beta", {cwd: "/srv/alpha"}), sessionOf("gamma")]
  expect(names(listed(sessions, "ALPHA"))).toEqual(["alpha", "beta"])
  expect(names(listed(sessions, "tmux  alp"))).toEqual(["alpha"])
  expect(names(listed(sessions, "nothing"))).toEqual([])
})

test("previous and next go around, and begin at an end where none is open", () => {
  const sessions = [sessionOf("a"), sessionOf("b")]
  expect(beside(sessions, "b", 1)).toBe("a")
  expect(beside(sessions, "a", -1)).toBe("b")
  expect(beside(sessions, null, 1)).toBe("a")
  expect(beside(sessions, null, -1)).toBe("b")
  expect(beside([], "a", 1)).toBeNull()
})
