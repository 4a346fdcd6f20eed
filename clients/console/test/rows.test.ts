import {describe, expect, it} from "vitest"
import type {Turn} from "claude-bridge-client"
import {RowModel, type Row} from "../src/conversation/transcript/rows.js"
import {text, tool, turn} from "./support/turns.js"

const folded = (): boolean => false
const kinds = (rows: readonly Row[]): string[] => rows.map((row) => row.kind)

const OPEN = turn("t2", {
  status: "running",
  blocks: [{block: 0, kind: "thinking", text: "Hm."}, text(1, "One.\n\nTwo.\n\nThr"), tool(2, "Bash")],
})

describe("RowModel", () => {
  it("makes rows of a prompt, of each piece of each block, and of the end", () => {
    const rows = new RowModel().build([turn("t1", {blocks: [text(0, "Yes.")]})], OPEN, [], folded, 0)
    expect(kinds(rows)).toEqual(["prompt", "text", "end", "prompt", "thinking", "text", "text", "text", "tool", "end"])
    expect(new Set(rows.map((row) => row.key)).size).toBe(rows.length)
  })

  it("keeps every row that says what it said, while a block grows", () => {
    const model = new RowModel()
    const t1 = turn("t1", {blocks: [text(0, "Yes.")]})
    const before = model.build([t1], OPEN, [], folded, 0)
    const [thinking, said, called] = OPEN.blocks as [Turn["blocks"][0], Turn["blocks"][0], Turn["blocks"][0]]
    const grown = {...OPEN, blocks: [thinking, {...said, text: "One.\n\nTwo.\n\nThree."}, called]} as Turn
    const after = model.build([t1], grown, [], folded, 0)
    const changed = after.filter((row, i) => row !== before[i])
    expect(changed.map((row) => row.key)).toEqual(["t2/1/2"])
  })

  it("keeps the rows of a turn that ends, but for its end and what ran", () => {
    const model = new RowModel()
    const before = model.build([], OPEN, [], folded, 0)
    const ended = {...OPEN, status: "completed" as const, text: "Thr", finished_at: "2026-01-01T00:00:09.000Z"}
    const after = model.build([ended], null, [], folded, 0)
    expect(after.map((row) => row.key)).toEqual(before.map((row) => row.key))
    expect(after.filter((row, i) => row !== before[i]).map((row) => row.kind)).toEqual(["tool", "end"])
  })

  it("forgets the preview of a block that is begun again", () => {
    const model = new RowModel()
    model.build([], OPEN, [], folded, 0)
    const again = model.build([], {...OPEN, blocks: [text(1, "Other")]}, [], folded, 0)
    expect(again.map((row) => (row.kind === "text" ? row.piece.source : row.kind))).toEqual(["prompt", "Other", "end"])
  })

  it("puts a sub-agent's blocks below its tool, where that is unfolded", () => {
    const nested = turn("t1", {
      blocks: [tool(0, "Task"), text(1, "inner", "tool-0"), tool(2, "Task", {parent: "tool-0"}), text(3, "innermost", "tool-2"), text(4, "outer")],
    })
    const model = new RowModel()
    const open = new Set<string>()
    const build = (version: number) => model.build([nested], null, [], (key) => open.has(key), version)
    expect(kinds(build(0))).toEqual(["prompt", "tool", "text", "end"])
    open.add("t1/0/inner")
    const rows = build(1)
    expect(rows.map((row) => (row.kind === "notice" ? -1 : row.depth))).toEqual([0, 0, 1, 1, 0, 0])
    expect(rows[1]).toMatchObject({inner: 2})
    open.add("t1/2/inner")
    expect(kinds(build(2))).toEqual(["prompt", "tool", "text", "tool", "text", "text", "end"])
  })

  it("leaves nothing out whose tool is not known", () => {
    const rows = new RowModel().build([turn("t1", {blocks: [text(0, "orphan", "gone")]})], null, [], folded, 0)
    expect(kinds(rows)).toEqual(["prompt", "text", "end"])
  })

  it("shows the text of a turn that has no blocks, as of a command", () => {
    const rows = new RowModel().build([turn("t1", {text: "Compacted."})], null, [], folded, 0)
    expect(rows[1]).toMatchObject({kind: "text", piece: {source: "Compacted."}})
  })

  it("says where the state was told anew", () => {
    const notices = [{after: "t1", says: "anew"}, {after: null, says: "first"}]
    expect(kinds(new RowModel().build([turn("t1"), turn("t2")], null, notices, folded, 0)))
      .toEqual(["notice", "prompt", "end", "notice", "prompt", "end"])
  })

  it("makes many small rows of ten thousand lines", () => {
    const lines = Array.from({length: 10_000}, (_, i) => `line ${i}`).join("\n")
    const rows = new RowModel().build([turn("t1", {blocks: [text(0, lines)]})], null, [], folded, 0)
    expect(rows.length).toBeGreaterThan(150)
    expect(Math.max(...rows.map((row) => (row.kind === "text" ? row.piece.source.split("\n").length : 0)))).toBeLessThan(70)
  })
})
