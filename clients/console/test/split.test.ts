import {describe, expect, it} from "vitest"
import {codeOf, NOTHING, splitMarkdown, type Split} from "../src/conversation/markdown/split.js"

const REPLY = `# Title
A paragraph
of two lines.

- one
- two

  still two

- three

1. first

Then code:

\`\`\`python
def f():

    return 1
\`\`\`
after it

> quoted
> more

| a | b |
|---|---|
| 1 | 2 |

~~~
\`\`\`
~~~

See [there][x] and the end.

[x]: https://example.org/x
`

const sources = (split: Split): string[] => split.pieces.map((p) => (p.kind === "code" ? `code:${p.source}` : p.source))

describe("splitMarkdown", () => {
  it("cuts where a paragraph ends, and nowhere within a list or code", () => {
    expect(sources(splitMarkdown(REPLY))).toEqual([
      "# Title\nA paragraph\nof two lines.",
      "- one\n- two\n\n  still two\n\n- three\n\n1. first",
      "Then code:",
      "code:def f():\n\n    return 1",
      "after it",
      "> quoted\n> more",
      "| a | b |\n|---|---|\n| 1 | 2 |",
      "code:```",
      "See [there][x] and the end.",
      "[x]: https://example.org/x",
    ])
  })

  it("gives the same pieces however the text came", () => {
    const whole = splitMarkdown(REPLY)
    for (const size of [1, 2, 3, 5, 7, 11, 50]) {
      let grown = NOTHING
      for (let end = size; end < REPLY.length + size; end += size) grown = splitMarkdown(REPLY.slice(0, end), grown)
      expect(grown).toEqual(whole)
    }
  })

  it("keeps the pieces that are complete, as the same objects", () => {
    const before = splitMarkdown("one\n\ntwo\n\nthr")
    const after = splitMarkdown("one\n\ntwo\n\nthree\n\nfour", before)
    expect(after.pieces[0]).toBe(before.pieces[0])
    expect(after.pieces[1]).toBe(before.pieces[1])
    expect(after.pieces).toHaveLength(4)
  })

  it("reads a growing reply once, and not again with every word", () => {
    let split = NOTHING
    let text = ""
    const made = new Set<unknown>()
    for (let i = 0; i < 2000; i++) {
      text += `Paragraph ${i} of it.\n\n`
      split = splitMarkdown(text, split)
      for (const piece of split.pieces) made.add(piece)
    }
    expect(split.pieces).toHaveLength(2000)
    expect(made.size).toBeLessThan(4100)
  })

  it("cuts long paragraphs, lists and code, and says that they go on", () => {
    const lines = Array.from({length: 1000}, (_, i) => `word${i} and more`)
    const paragraph = splitMarkdown(lines.join("\n"))
    expect(paragraph.pieces.length).toBeGreaterThan(10)
    expect(paragraph.pieces.map((p) => p.source).join("\n")).toBe(lines.join("\n"))
    expect(paragraph.pieces.map((p) => p.continues)).toEqual(paragraph.pieces.map((_, i) => i > 0))

    const code = splitMarkdown("```js\n" + lines.join("\n") + "\n```\nend")
    expect(code.pieces.filter((p) => p.kind === "code").length).toBeGreaterThan(5)
    expect(codeOf(code.pieces, code.pieces[2]!)).toBe(lines.join("\n"))
    expect(code.pieces.at(-1)?.source).toBe("end")

    const list = splitMarkdown(lines.map((line) => `- ${line}`).join("\n"))
    expect(list.pieces.length).toBeGreaterThan(10)
    expect(list.pieces.every((p) => p.source.startsWith("- "))).toBe(true)
  })

  it("gives the same pieces of a long text however it came", () => {
    const text = Array.from({length: 400}, (_, i) => (i % 90 === 0 ? "```sh" : i % 90 === 30 ? "```" : `line ${i} |`)).join("\n")
    let grown = NOTHING
    for (let end = 13; end < text.length + 13; end += 13) grown = splitMarkdown(text.slice(0, end), grown)
    expect(grown).toEqual(splitMarkdown(text))
  })

  it("begins anew where the text is another", () => {
    expect(sources(splitMarkdown("other\n\nwords", splitMarkdown("one\n\ntwo")))).toEqual(["other", "words"])
  })

  it("collects the definitions of links", () => {
    expect(splitMarkdown(REPLY).definitions).toBe("[x]: https://example.org/x\n")
  })
})
