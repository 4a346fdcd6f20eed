import {describe, expect, it} from "vitest"
import {duration, ending, figures, money} from "../src/conversation/words.js"
import {standing} from "../src/conversation/status.js"
import {colour} from "../src/conversation/markdown/languages.js"
import type {Span} from "../src/conversation/markdown/highlight.js"
import {BridgeError, type SessionInfo} from "claude-bridge-client"
import {turn} from "./support/turns.js"

describe("a turn's end in words", () => {
  it("has what is known, and nothing else", () => {
    const usage = {input_tokens: 100, output_tokens: 20, cache_creation_input_tokens: 0, cache_read_input_tokens: 20_000}
    const of = turn("t", {started_at: "2026-01-01T00:00:00.000Z", finished_at: "2026-01-01T00:01:05.000Z", cost_usd: 0.004, usage})
    expect(figures(of)).toEqual(["1 min 5 s", "$0.0040", "20k in, 20 out tokens"])
    expect(figures(turn("t"))).toEqual([])
    expect([duration(950), duration(1500), duration(3_660_000), money(1.5), money(0)]).toEqual(["950 ms", "1.5 s", "1 h 1 min", "$1.50", "$0"])
  })

  it("says what went wrong with its code, and what unknown means", () => {
    expect(ending(turn("t"))).toBeNull()
    expect(ending(turn("t", {status: "failed", error: {code: "overloaded_error", message: "Overloaded.", status: 529}}))).toMatchObject({
      tone: "bad", says: "Failed", because: "Overloaded.", code: "overloaded_error 529",
    })
    expect(ending(turn("t", {status: "unknown"}))?.because).toMatch(/not sent again/)
  })
})

describe("what stands in the way", () => {
  const session = (more: Partial<SessionInfo>) => ({status: "live", error: null, session: {state: "idle", ...more} as SessionInfo}) as const
  const at = new Date("2026-01-01T10:00:00")

  it("is said with the bridge's own reason", () => {
    expect(standing(session({}), at)).toBeNull()
    expect(standing(session({state: "failed", reason: "it crashed"}), at)?.text).toBe("The session has failed: it crashed")
    expect(standing({...session({}), status: "reconnecting"}, at)?.text).toMatch(/This is how it was at/)
    const ended = {...session({}), status: "ended", error: new BridgeError("session_not_found", "There is no session x.")} as const
    expect(standing(ended, at)?.text).toMatch(/There is no session x\.$/)
  })
})

describe("colours of code", () => {
  const said = (spans: readonly Span[]): string => spans.map((s) => (typeof s === "string" ? s : said(s.children))).join("")

  it.each([
    ["ts", "export function f(a: number, {b = 1}: O = {}): string {\n  return `x${a + b}` // no\n}"],
    ["python", "def f(a, *b):\n    '''doc'''\n    return {**a, 'x': f\"{b!r}\"}"],
    ["html", "<p class=\"a\">x<script>if (a < b) c()</script><style>p { color: red }</style></p>"],
    ["sh", "echo \"$HOME\" | sed 's/a/b/' # x"],
    ["json", "{\"a\": [1, true, null]}"],
  ])("leave the text of %s as it is", (lang, source) => {
    const spans = colour(source, lang)
    expect(said(spans ?? [])).toBe(source)
    expect(spans?.some((s) => typeof s !== "string")).toBe(true)
  })

  it("are none of a language that is not known", () => {
    expect(colour("x", "brainfuck")).toBeNull()
  })
})
