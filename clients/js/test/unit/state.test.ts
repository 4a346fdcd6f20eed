import {describe, expect, test} from "vitest"
import type {SessionEvent, Turn} from "../../src/index.js"
import {advance, textOf, type Conversation} from "../../src/core/state.js"

const EMPTY = {session: {}, turns: [], open: null, queue: [], requests: []} as unknown as Conversation
let seq = 0

function told(event: string, payload: object): SessionEvent {
  seq += 1
  return {event, seq, at: new Date(seq * 1000).toISOString(), ...payload} as unknown as SessionEvent
}

function after(...events: SessionEvent[]): Conversation {
  return events.reduce((state, event) => advance(state, event, 200), EMPTY)
}

const queued = (turn: string, position: number, more: object = {}): SessionEvent =>
  told("turn_queued", {turn, key: null, prompt: turn, author: "owner", position, ...more})
const started = (turn: string): SessionEvent => told("turn_started", {turn, prompt: turn, author: "owner", source: "client"})
const finished = (turn: string, status = "completed"): SessionEvent =>
  told("turn_finished", {turn, status, text: "", usage: null, cost_usd: null, duration_ms: 0})
const ids = (turns: readonly Turn[]): string[] => turns.map((t) => t.id)

describe("the queue", () => {
  test("has its turns in the order in which they come", () => {
    const state = after(queued("a", 0), started("a"), queued("b", 1), queued("c", 2))
    expect(state.open?.id).toBe("a")
    expect(ids(state.queue)).toEqual(["b", "c"])
  })

  test("takes a turn back that had started, before the others and as it was", () => {
    const state = after(queued("a", 0), started("a"), queued("b", 1), queued("a", 0, {reason: "a draft is in its way"}))
    expect(state.open).toBeNull()
    expect(ids(state.queue)).toEqual(["a", "b"])
    expect(state.queue[0]).toMatchObject({status: "queued", reason: "a draft is in its way"})
    expect(state.queue[0]).not.toHaveProperty("started_at")
    expect(advance(state, started("a"), 200).open).not.toHaveProperty("reason")
  })
})

test("a turn keeps what came with its prompt", () => {
  const attachments = [{name: "plan.png", media_type: "image/png", size: 3}]
  const state = after(queued("a", 0, {attachments}), started("a"))
  expect(state.open?.attachments).toEqual(attachments)
  expect(advance(state, finished("a"), 200).turns[0]?.attachments).toEqual(attachments)
})

describe("finished turns", () => {
  test("stand as they were accepted, whenever they ended", () => {
    const state = after(queued("a", 0), started("a"), queued("b", 1), queued("c", 2), finished("c", "cancelled"), finished("a"))
    expect(ids(state.turns)).toEqual(["a", "c"])
    expect(ids(after(queued("a", 0), queued("b", 1), queued("c", 2), finished("c"), finished("a"), finished("b")).turns))
      .toEqual(["a", "b", "c"])
  })

  test("are kept in bounds", () => {
    let state = EMPTY
    for (let i = 0; i < 9; i++) state = [queued(`t${i}`, 0), started(`t${i}`), finished(`t${i}`)].reduce((s, e) => advance(s, e, 3), state)
    expect(ids(state.turns)).toEqual(["t6", "t7", "t8"])
    expect(advance(state, finished("t9"), 0).turns).toEqual([])
  })

  test("are made even of what nothing was known", () => {
    expect(after(finished("unheard")).turns[0]).toMatchObject({id: "unheard", status: "completed"})
  })
})

describe("the text so far", () => {
  const text = (block: number, said: string, parent?: string) => ({block, kind: "text" as const, text: said, ...(parent && {parent})})
  const tool = (block: number, parent?: string) => ({
    block, kind: "tool" as const, tool: `t${block}`, name: "Bash", input: {}, output: null, is_error: false, truncated: false, ...(parent && {parent}),
  })
  const thinking = (block: number) => ({block, kind: "thinking" as const, text: "hm"})

  test.each([
    ["is that of the last message", [text(0, "I look. "), tool(1), thinking(2), text(3, "So "), text(4, "it is. ")], "So it is."],
    ["stays while the message's tools run", [thinking(0), text(1, "I look. "), tool(2), tool(3)], "I look."],
    ["has nothing of sub-agents", [text(0, "I ask. "), tool(1), text(2, "found", "t1"), tool(3, "t1")], "I ask."],
    ["is nothing while the next message only thinks", [text(0, "I look. "), tool(1), thinking(2)], ""],
  ] as const)("%s", (_, blocks, expected) => {
    expect(textOf(blocks)).toBe(expected)
  })
})

test("a preview that is discarded is forgotten, and replaced by the final text", () => {
  const delta = (text: string): SessionEvent => told("delta", {turn: "a", block: 0, kind: "text", text})
  const state = after(queued("a", 0), started("a"), delta("Let "), delta("me"))
  expect(state.open?.text).toBe("Let me")
  const discarded = advance(state, told("discard", {turn: "a", block: 0}), 200)
  expect(discarded.open).toMatchObject({text: "", blocks: []})
  const again = advance(discarded, delta("I will"), 200)
  expect(again.open?.blocks).toEqual([{block: 0, kind: "text", text: "I will"}])
  expect(advance(again, told("block", {turn: "a", block: 0, kind: "text", text: "I won't."}), 200).open?.text).toBe("I won't.")
})

test("an event from the future changes nothing", () => {
  const state = after(queued("a", 0))
  expect(advance(state, told("turn_praised", {turn: "a"}), 200)).toBe(state)
})
