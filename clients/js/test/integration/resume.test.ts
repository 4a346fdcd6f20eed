import {afterAll, beforeAll, describe, expect, test} from "vitest"
import type {Bridge, Session, SessionEventName, SessionState} from "../../src/index.js"
import {RealBridge, sim} from "../support/bridge.js"
import {TRANSPORTS} from "../support/clients.js"
import {Proxy} from "../support/proxy.js"
import {until} from "../support/wait.js"

const NUMBERED: SessionEventName[] = [
  "turn_queued", "turn_started", "steered", "delta", "discard", "block", "tool_started", "tool_finished", "request_opened",
  "request_closed", "turn_finished", "session_changed",
]

let real: RealBridge
let proxy: Proxy

beforeAll(async () => {
  real = await RealBridge.start()
  proxy = await Proxy.to(() => real.port)
})
afterAll(async () => {
  await proxy.close()
  await real.remove()
})

describe.each(Object.keys(TRANSPORTS))("over %s", (transport) => {
  let bridge: Bridge
  let session: Session

  beforeAll(async () => {
    bridge = TRANSPORTS[transport]!(proxy.url, real.token)
    session = bridge.session("resumed", {start: {}}) // the same for all: a process takes its time to start
    await until(session.subscribe, () => session.state.session?.state === "idle", "an idle session")
  })
  afterAll(() => bridge.close())

  test("a connection that breaks at any event costs none and doubles none", async () => {
    const directive = {words: 4, gap_ms: 15}
    let boundaries = 1
    // Over long poll every step takes its time: every third has to do there.
    const step = transport.includes("poll") ? 3 : 1
    let turns = 0
    for (let at = 0; at <= boundaries; at += step) {
      const seen: string[] = []
      const numbers: number[] = []
      const recoveries: boolean[] = []
      let cut = false
      const offs = NUMBERED.map((name) => session.on(name, ({seq, first_seq = seq}) => {
        for (let n = first_seq; n <= seq; n++) numbers.push(n)
        seen.push(name)
        if (seen.length === at) {
          cut = true
          proxy.cut()
        }
      }))
      offs.push(session.on("joined", ({recovered}) => recoveries.push(recovered)))
      const began = session.cursor!.seq
      const turn = await session.submit(sim(directive, `${transport} ${at} `))
      let streamed = ""
      for await (const event of turn) {
        if (event.event === "snapshot") streamed = event.turn.text
        if (event.event === "delta" && event.kind === "text") streamed += event.text
      }
      await until(session.subscribe, () => session.state.session?.state === "idle", "an idle session")
      if (cut) await until(session.subscribe, () => recoveries.length > 0 && session.state.status === "live", "a rejoin")
      for (const off of offs) off()
      expect(await turn.text()).toBe("w0 w1 w2 w3")
      expect(streamed.trimEnd()).toBe("w0 w1 w2 w3")
      expect(numbers).toEqual(numbers.map((_, i) => began + 1 + i))
      expect(recoveries).toEqual(cut ? [true] : [])
      if (at === 0) boundaries = seen.length
      turns += 1
      expect(session.state.turns.filter((t) => t.prompt.startsWith(`${transport} `))).toHaveLength(turns)
    }
    expect(boundaries).toBeGreaterThan(5)
  })

  test("a prompt whose answer is lost with the connection is submitted once", async () => {
    const submitted = session.submit(sim({words: 3}, `${transport} lost `), {id: `lost ${transport}`})
    proxy.cut()
    const turn = await submitted
    expect(await turn.text()).toBe("w0 w1 w2")
    expect(session.state.turns.filter((t) => t.key === `lost ${transport}`)).toHaveLength(1)
  })
})

test("a bridge that is killed and started again in the middle of a reply loses nothing of it", async () => {
  const clients = ["phoenix", "socket.io"].map((transport) => TRANSPORTS[transport]!(real.url, real.token))
  const sessions = clients.map((bridge) => bridge.session("resumed", {start: {}}))
  const recoveries: boolean[][] = sessions.map(() => [])
  const statuses = sessions.map(() => new Set<SessionState["status"]>())
  await Promise.all(sessions.map((session) => session.ready()))
  sessions.forEach((session, i) => {
    session.on("joined", ({recovered}) => recoveries[i]!.push(recovered))
    session.on("state", ({status}) => statuses[i]!.add(status))
  })
  const [mine, other] = sessions as [Session, Session]
  const turn = await mine.submit(sim({words: 60, gap_ms: 30}, "killed "))
  await until(other.subscribe, () => (other.state.open?.text ?? "").includes("w3"), "the reply's beginning")
  const theirs = other.follow(turn.id)
  await real.say("kill")
  await real.say("start")
  const texts = await Promise.all([turn.text(), theirs.text()])
  for (const [i, text] of texts.entries()) {
    expect(text.split(/\s+/)).toEqual(Array.from({length: 60}, (_, n) => `w${n}`))
    expect(recoveries[i]).toEqual([false])
    expect([...statuses[i]!]).toContain("reconnecting")
    expect(sessions[i]!.turn(turn.id)?.status).toBe("completed")
  }
  for (const bridge of clients) bridge.close()
})
