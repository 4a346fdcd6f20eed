import {describe, expect, it} from "vitest"
import {hitsIn, occurrences, search, step} from "../src/conversation/search/search.js"
import {RowModel} from "../src/conversation/transcript/rows.js"
import {text, tool, turn} from "./support/turns.js"

const rows = new RowModel().build([
  turn("t1", {prompt: "Find the Needle", blocks: [
    text(0, "A **nee**dle, and a needle.\n\n```sh\necho needle\n```"),
    tool(1, "Bash", {input: {command: "grep needle"}, output: "\u001b[31mneedle\u001b[0m found"}),
  ]}),
], null, [], () => false, 0)
const forever = new AbortController().signal

describe("search", () => {
  it("finds in prompts, replies without their marks, code, and tools' input and output, in their order", async () => {
    const hits = await search(rows, "NEEDLE", forever)
    expect(hits?.map((h) => `${h.key}#${h.nth}`)).toEqual([
      "t1/prompt#0", "t1/0/0#0", "t1/0/0#1", "t1/0/1#0", "t1/1#0", "t1/1#1",
    ])
  })

  it("finds nothing where nothing is asked for", async () => {
    expect(await search(rows, "", forever)).toEqual([])
    expect(occurrences("aaaa", "aa")).toEqual([0, 2])
  })

  it("gives nothing where it was given up", async () => {
    const stop = new AbortController()
    stop.abort()
    expect(await search(rows, "needle", stop.signal)).toBeNull()
  })

  it("steps around, from the last", async () => {
    const hits = hitsIn(rows[1]!, "needle")
    expect(step(hits, null, -1)).toBe(hits[1])
    expect(step(hits, hits[1]!, 1)).toBe(hits[0])
    expect(step(hits, hits[0]!, -1)).toBe(hits[1])
    expect(step([], null, 1)).toBeNull()
  })

  it("stays at its hit where older ones come before it", () => {
    const hits = [{key: "old", nth: 0}, {key: "a", nth: 0}, {key: "a", nth: 1}]
    expect(step(hits, {key: "a", nth: 0}, 1)).toEqual({key: "a", nth: 1})
  })
})
