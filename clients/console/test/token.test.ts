import {expect, test} from "vitest"
import {KEPT, keepToken, readToken, takeToken, type Place} from "../src/token.js"

function placeAt(hash: string, kept: Record<string, string> = {}): Place & {urls: string[], kept: Record<string, string>} {
  const urls: string[] = []
  const location = {hash, pathname: "/"}
  return {
    urls,
    kept,
    location,
    history: {
      state: null,
      replaceState: (_, __, url) => {
        urls.push(url)
        location.hash = ""
      },
    },
    storage: {
      getItem: (key) => kept[key] ?? null,
      setItem: (key, value) => void (kept[key] = value),
      removeItem: (key) => void delete kept[key],
    },
  }
}

test("a token in the address is kept, and the address cleared without a trace", () => {
  const place = placeAt("#token=a%2Bb.c")
  expect(readToken(place)).toBe("a+b.c")
  expect(place.urls).toEqual(["/"])
  expect(place.kept).toEqual({[KEPT]: "a+b.c"})
  expect(readToken(place)).toBe("a+b.c")
})

test("an address without one changes nothing", () => {
  const place = placeAt("#/research", {[KEPT]: "old"})
  expect(readToken(place)).toBe("old")
  expect(place.urls).toEqual([])
})

test("a new one takes over, an empty one does not", () => {
  const place = placeAt("#token=new", {[KEPT]: "old"})
  expect(takeToken(place)).toBe(true)
  expect(place.kept[KEPT]).toBe("new")
  const empty = placeAt("#token=", {[KEPT]: "old"})
  expect(takeToken(empty)).toBe(false)
  expect(empty.kept[KEPT]).toBe("old")
  expect(empty.urls).toEqual(["/"])
})

test("signing out forgets it", () => {
  const place = placeAt("", {[KEPT]: "old"})
  keepToken(null, place)
  expect(place.kept).toEqual({})
})
