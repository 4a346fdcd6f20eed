import {expect, test} from "vitest"
import {Framed} from "../src/ui/frames.js"
import {Observed} from "../src/ui/observed.js"
import {frames} from "./support/frames.js"

function made() {
  const source = new Observed(0)
  const {schedule, next, count} = frames()
  const framed = new Framed({subscribe: source.subscribe, getSnapshot: source.get}, schedule)
  const told: number[] = []
  const listen = (): (() => void) => framed.subscribe(() => told.push(framed.getSnapshot()))
  return {source, framed, next, count, told, listen}
}

test("many changes are told once a frame, and the value stays the same until then", () => {
  const {source, framed, next, count, told, listen} = made()
  listen()
  for (let n = 1; n <= 100; n += 1) source.set(n)
  expect(framed.getSnapshot()).toBe(0)
  expect(told).toEqual([])
  next()
  expect(told).toEqual([100])
  expect(count()).toBe(1)
  source.set(101)
  next()
  expect(told).toEqual([100, 101])
})

test("what changed before anybody listened is there at once", () => {
  const {source, framed, listen} = made()
  source.set(1)
  expect(framed.getSnapshot()).toBe(1)
  source.set(2)
  listen()
  expect(framed.getSnapshot()).toBe(2)
})

test("all that listen are told the same, and nobody who has left", () => {
  const {source, next, told, listen} = made()
  const leave = listen()
  const leaveToo = listen()
  source.set(1)
  next()
  expect(told).toEqual([1, 1])
  leave()
  leave()
  source.set(2)
  leaveToo()
  next()
  expect(told).toEqual([1, 1])
})
