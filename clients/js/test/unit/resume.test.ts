import {expect, test} from "vitest"
import type {Session, SessionEventName, SessionState} from "../../src/index.js"
import {FakeBridge, type Submitted} from "../../src/testing.js"
import {settled} from "../support/wire.js"

/** Everything that can happen in a turn, one step after the other. */
const STEPS: ((fake: FakeBridge, turn: Submitted) => void)[] = [
  (_, turn) => turn.delta("A note, ", "thinking"),
  (_, turn) => turn.delta("then.", "thinking"),
  (_, turn) => turn.block("A note, then.", "thinking"),
  (_, turn) => turn.delta("Let me"),
  (_, turn) => turn.discard(),
  (_, turn) => turn.delta("I will write it."),
  (_, turn) => turn.block("I will write it."),
  (fake) => void fake.openRequest("demo", {id: "asked", tool: "Write", input: {file_path: "note"}}),
  (fake) => fake.closeRequest("demo", "asked", "allowed", "somebody"),
  (_, turn) => turn.tool("Write", {file_path: "note"}, "written"),
  (fake) => fake.session("demo").change({model: "another"}),
  (_, turn) => turn.delta("Do"),
  (_, turn) => turn.delta("ne."),
  (_, turn) => turn.block("Done. "),
  (_, turn) => turn.finish(),
]
const NAMES: SessionEventName[] = [
  "turn_queued", "turn_started", "delta", "discard", "block", "tool_started", "tool_finished", "request_opened",
  "request_closed", "turn_finished", "session_changed",
]

interface Outcome {
  readonly state: SessionState
  readonly text: string
  /** What was told by number, and what a loop over the turn came to show. */
  readonly numbers: number[]
  readonly shown: Map<number, string>
  readonly looped: string[]
  readonly recoveries: boolean[]
}

async function play(breakAfter: number | null, recovered: boolean): Promise<Outcome> {
  const fake = new FakeBridge()
  const bridge = fake.connect()
  const session = bridge.session("demo", {start: {}})
  const recoveries: boolean[] = []
  session.on("joined", (joined) => recoveries.push(joined.recovered))
  await session.ready()
  const numbers: number[] = []
  for (const name of NAMES) session.on(name, ({seq}) => numbers.push(seq))
  const turn = await session.submit("Write a note", {id: "note-1"})
  const submitted = await fake.expectSubmit()
  const shown = new Map<number, string>()
  const looped: string[] = []
  const loop = (async () => {
    for await (const event of turn) {
      looped.push(event.event)
      if (event.event === "snapshot") {
        shown.clear()
        for (const b of event.turn.blocks) if (b.kind !== "tool") shown.set(b.block, b.text)
      } else if (event.event === "delta") shown.set(event.block, (shown.get(event.block) ?? "") + event.text)
      else if (event.event === "block") shown.set(event.block, event.text)
      else if (event.event === "discard") shown.delete(event.block)
    }
  })()
  for (const [index, step] of STEPS.entries()) {
    await settled()
    if (index === breakAfter) fake.disconnect()
    // The first of what follows happens while the client is away.
    step(fake, submitted)
    if (index === breakAfter) {
      await settled()
      expect(session.state.status).toBe("reconnecting")
      fake.reconnect({recovered})
    }
  }
  const text = await turn.text()
  await loop
  await settled()
  const {state} = session
  bridge.close()
  return {state: {...state, presence: {}}, text, numbers, shown, looped, recoveries}
}

const undisturbed = await play(null, true)

test("the turn without a break is as it was played", () => {
  expect(undisturbed.text).toBe("Done.")
  expect([...undisturbed.shown]).toEqual([[0, "A note, then."], [1, "I will write it."], [3, "Done. "]])
  expect(undisturbed.state.turns[0]?.blocks.map((b) => b.kind)).toEqual(["thinking", "text", "tool", "text"])
  expect(undisturbed.state.session?.model).toBe("another")
  expect(undisturbed.numbers).toEqual(undisturbed.numbers.map((_, i) => i + 1))
  expect(undisturbed.looped.at(-1)).toBe("turn_finished")
})

test.each(STEPS.map((_, i) => i))("a break at step %i that is recovered from costs nothing", async (at) => {
  const {recoveries, ...outcome} = await play(at, true)
  const {recoveries: _, ...expected} = undisturbed
  expect(outcome).toEqual(expected)
  expect(recoveries).toEqual([false, true])
})

test.each(STEPS.map((_, i) => i))("a break at step %i after which the numbers begin again ends the same", async (at) => {
  const {state, text, shown, looped, recoveries} = await play(at, false)
  expect({...state, turns: state.turns.map(timeless)}).toEqual(
    {...undisturbed.state, turns: undisturbed.state.turns.map(timeless)},
  )
  expect(text).toBe("Done.")
  expect(shown).toEqual(undisturbed.shown)
  expect(looped).toContain("snapshot")
  expect(looped.filter((name) => name === "turn_finished")).toHaveLength(1)
  expect(recoveries).toEqual([false, false])
})

test("a gap in the numbers is made good by joining again", async () => {
  const {bridge, fake, session, numbers} = await talking()
  const submitted = await fake.expectSubmit()
  const real = fake.session("demo")
  await settled()
  const joins: boolean[] = []
  session.on("joined", ({recovered}) => joins.push(recovered))
  fake.loseMessages(1)
  submitted.delta("lost ")
  submitted.delta("and found")
  await settled()
  expect(joins).toEqual([true])
  expect(session.state.open?.text).toBe("lost and found")
  expect(numbers).toEqual(numbers.map((_, i) => i + 1))
  expect(session.cursor?.seq).toBe(real.seq)
  bridge.close()
})

async function talking(): Promise<{bridge: ReturnType<FakeBridge["connect"]>, fake: FakeBridge, session: Session, numbers: number[]}> {
  const fake = new FakeBridge()
  const bridge = fake.connect()
  const session = bridge.session("demo", {start: {}})
  const numbers: number[] = []
  for (const name of NAMES) session.on(name, ({seq}) => numbers.push(seq))
  await session.submit("Write a note")
  return {bridge, fake, session, numbers}
}

/** The fake's clock is its count of events, which begins again. */
function timeless({queued_at: _, started_at: __, finished_at: ___, ...turn}: SessionState["turns"][number]): object {
  return turn
}
