import {expect, test} from "vitest"
import {hrefOf, routeOf} from "../src/route.js"

test("a session's address leads back to it", () => {
  for (const name of ["research", "a-b_c", "9"]) expect(routeOf(hrefOf(name))).toBe(name)
})

test("everything else is the list", () => {
  for (const hash of ["", "#", "#/", "#token=x", "#/%E0%A4%A"]) expect(routeOf(hash)).toBeNull()
})
