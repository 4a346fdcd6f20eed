import {describe, expect, it} from "vitest"
import type {ToolBlock} from "claude-bridge-client"
import {changesOf, diffRows, tally} from "../src/conversation/tools/diffs.js"
import {toolLine, toolState, todosOf} from "../src/conversation/tools/says.js"
import {plainOutput, visible} from "../src/conversation/tools/text.js"
import {tool} from "./support/turns.js"

describe("a tool card's line", () => {
  it.each([
    ["Bash", {command: "npm test\nnpm run lint", description: "Run"}, "Bash", "npm test …"],
    ["Read", {file_path: "/home/me/p/src/a.ts"}, "Read", "src/a.ts"],
    ["Edit", {file_path: "/etc/hosts", old_string: "a", new_string: "b"}, "Edit", "/etc/hosts"],
    ["Grep", {pattern: "x+", path: "/home/me/p/src"}, "Grep", "x+ in src"],
    ["Task", {subagent_type: "explorer", description: "Look around"}, "Task", "explorer: Look around"],
    ["TodoWrite", {todos: [{content: "a", status: "completed"}, {content: "b", status: "pending"}]}, "TodoWrite", "1 of 2 done"],
    ["mcp__github__list_issues", {repo: "a/b"}, "github: list_issues", "a/b"],
    ["WebFetch", {prompt: "sum up", url: "https://example.org"}, "WebFetch", "https://example.org"],
    ["Unheard", null, "Unheard", ""],
    ["Bash", {command: 5}, "Bash", ""],
  ])("of %s says what matters", (name, input, shown, about) => {
    expect(toolLine(name, input, "/home/me/p")).toMatchObject({name: shown, about})
  })

  it("says whether it runs, is done or has failed, and how much came of it", () => {
    const state = (more: object, runs = true) => toolState(tool(0, "Bash", more) as ToolBlock, runs)
    expect(state({})).toEqual({state: "running", says: "running"})
    expect(state({}, false)).toEqual({state: "unanswered", says: "no result"})
    expect(state({output: ""})).toEqual({state: "done", says: "done"})
    expect(state({output: "a\nb\n"})).toEqual({state: "done", says: "2 lines"})
    expect(state({output: "a", is_error: true})).toEqual({state: "failed", says: "failed, 1 line"})
    expect(state({output: "a\nb", truncated: true})).toEqual({state: "done", says: "2 lines, cut"})
  })

  it("reads a list of things to do, also one that is none", () => {
    expect(todosOf({todos: [{content: "a", status: "completed"}, null]})).toEqual([
      {content: "a", status: "completed"}, {content: "", status: "pending"},
    ])
    expect(todosOf("x")).toEqual([])
  })
})

describe("diffRows", () => {
  it("shows what is added and removed among what stays", () => {
    const rows = diffRows("a\nb\nc\n", "a\nB\nc\nd\n")
    expect(rows.map((r) => r.sign + r.text)).toEqual([" a", "-b", "+B", " c", "+d"])
    expect(tally(rows)).toEqual({added: 2, removed: 1})
  })

  it("leaves out what is far from a change", () => {
    const lines = Array.from({length: 40}, (_, i) => `${i}`)
    const rows = diffRows(lines.join("\n"), lines.map((l) => (l === "5" || l === "35" ? `${l}!` : l)).join("\n"))
    expect(rows.filter((r) => r.sign === "@")).toHaveLength(1)
    expect(rows.length).toBeLessThan(20)
  })

  it("says nothing of an end of line that is missing", () => {
    expect(diffRows("a", "b").map((r) => r.sign + r.text)).toEqual(["-a", "+b"])
  })

  it("adds all of a new file, and removes all of what is taken away", () => {
    expect(diffRows("", "a\nb\n")).toEqual([{sign: "+", text: "a"}, {sign: "+", text: "b"}])
    expect(diffRows("a\n", "")).toEqual([{sign: "-", text: "a"}])
  })

  it("is made of every tool that changes a file", () => {
    expect(changesOf("MultiEdit", {file_path: "f", edits: [{old_string: "a", new_string: "b", replace_all: true}, null]})).toEqual([
      {path: "f", before: "a", after: "b", everywhere: true, whole: false},
      {path: "f", before: "", after: "", everywhere: false, whole: false},
    ])
    expect(changesOf("Write", {file_path: "f", content: "x"})).toMatchObject([{after: "x", whole: true}])
    expect(changesOf("Bash", {command: "x"})).toEqual([])
  })
})

describe("text of tools", () => {
  it("loses its colours, and what was written over", () => {
    expect(plainOutput("\u001b[1;31mred\u001b[0m \u001b]8;;https://x\u0007link\u001b]8;;\u0007")).toBe("red link")
    expect(plainOutput("10%\r50%\r100%\r\ndone\r\n")).toBe("100%\ndone\n")
    expect(plainOutput("plain")).toBe("plain")
  })

  it("shows what a screen would hide, where somebody has to allow it", () => {
    expect(visible("rm \u202e fr- \u200b\u0007x\ttab\nline")).toBe("rm \\u{202e} fr- \\u{200b}\\u{7}x\ttab\nline")
    expect(visible("a\rb")).toBe("a\\u{d}b")
    expect(visible("ümläut 日本")).toBe("ümläut 日本")
  })
})
