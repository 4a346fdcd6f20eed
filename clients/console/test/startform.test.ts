import {expect, test} from "vitest"
import {FIRST, nameProblem, optionsOf, remember, remembered} from "../src/sessions/startform.js"

test("a name is what the bridge takes", () => {
  for (const name of ["a", "9", "A-b_9", "x".repeat(64)]) expect(nameProblem(name)).toBeNull()
  for (const name of ["", "-a", "_a", "a b", "ä", "a/b", "x".repeat(65)]) expect(nameProblem(name)).not.toBeNull()
})

test("what is left empty is not said", () => {
  expect(optionsOf({...FIRST, name: "a"})).toEqual({backend: "headless"})
  expect(optionsOf({name: "a", backend: "tmux", cwd: " /w ", model: " opus ", mode: "plan"}))
    .toEqual({backend: "tmux", cwd: "/w", model: "opus", permission_mode: "plan"})
})

test("the api takes no folder and no mode, even where they are remembered", () => {
  expect(optionsOf({name: "a", backend: "api", cwd: "/w", model: "opus", mode: "plan"})).toEqual({backend: "api", model: "opus"})
})

test("the last choices come back, without the name, and nonsense does not", () => {
  let kept = ""
  const storage = {getItem: () => kept, setItem: (_: string, value: string) => void (kept = value)}
  remember({name: "secret", backend: "tmux", cwd: "/w", model: "opus", mode: "plan"}, storage)
  expect(kept).not.toContain("secret")
  expect(remembered(storage)).toEqual({name: "", backend: "tmux", cwd: "/w", model: "opus", mode: "plan"})
  for (kept of ["{", "null", '{"backend":"gone","cwd":7}']) expect(remembered(storage)).toEqual(FIRST)
})
