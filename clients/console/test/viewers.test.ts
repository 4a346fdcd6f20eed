import {expect, test} from "vitest"
import {changed} from "../src/sessions/viewers.js"
import {sessionOf} from "./samples.js"

test("what was asked for anew is another map only where it differs", () => {
  const known = changed(new Map(), [sessionOf("a", {viewers: 1}), sessionOf("b")])
  expect([...known]).toEqual([["a", 1], ["b", 0]])
  expect(changed(known, [sessionOf("b"), sessionOf("a", {viewers: 1})])).toBe(known)
  expect([...changed(known, [sessionOf("a", {viewers: 2}), sessionOf("b")])]).toEqual([["a", 2], ["b", 0]])
  expect([...changed(known, [sessionOf("a", {viewers: 1})])]).toEqual([["a", 1]])
})
