import {expect, test} from "vitest"
import {FakeBridge} from "claude-bridge-client/testing"

test("a prompt is answered", async () => {
  const fake = new FakeBridge()
  const bridge = fake.connect()
  const session = bridge.session("research", {start: {}})
  const turn = await session.submit("What is new?")
  ;(await fake.expectSubmit()).replyWith("Nothing at all.")
  const seen: string[] = []
  for await (const event of turn) seen.push(event.event)
  expect(seen).toEqual(["turn_queued", "turn_started", "delta", "delta", "delta", "block", "turn_finished"])
  expect(await turn.text()).toBe("Nothing at all.")
  expect(session.state.turns.map((t) => t.text)).toEqual(["Nothing at all."])
  bridge.close()
})
