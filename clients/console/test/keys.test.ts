import {expect, test} from "vitest"
import {actionOf, type Pressed} from "../src/ui/keys.js"
import {titleOf} from "../src/ui/title.js"

const press = (key: string, changes: Partial<Pressed> = {}): ReturnType<typeof actionOf> =>
  actionOf({key, ctrlKey: false, metaKey: false, altKey: false, typing: false, inTerminal: false, ...changes})

test("letters act where they are not text", () => {
  expect(press("n")).toBe("start")
  expect(press("?")).toBe("keys")
  expect(press("n", {typing: true})).toBeNull()
  expect(press("n", {ctrlKey: true})).toBeNull()
  expect(press("x")).toBeNull()
})

test("Ctrl K goes to a session from a field too, but is the program's in the terminal; the Mac's key never is", () => {
  expect(press("k", {ctrlKey: true, typing: true})).toBe("switch")
  expect(press("k", {ctrlKey: true, typing: true, inTerminal: true})).toBeNull()
  expect(press("k", {metaKey: true, typing: true, inTerminal: true})).toBe("switch")
})

test("F6 is for the terminal from everywhere", () => {
  expect(press("F6", {typing: true})).toBe("terminal")
})

test("the tab says how many ask and which session is open", () => {
  expect(titleOf(0, null)).toBe("claude-bridge")
  expect(titleOf(1, "research")).toBe("(1 asks) research · claude-bridge")
  expect(titleOf(2, null)).toBe("(2 ask) claude-bridge")
})
