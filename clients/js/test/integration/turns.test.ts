import {afterAll, beforeAll, describe, expect, test} from "vitest"
import type {Bridge, Turn} from "../../src/index.js"
import {RealBridge, sim} from "../support/bridge.js"
import {TRANSPORTS} from "../support/clients.js"
import {until} from "../support/wait.js"

let real: RealBridge

beforeAll(async () => {
  real = await RealBridge.start()
})
afterAll(() => real.remove())

describe.each(Object.keys(TRANSPORTS))("over %s", (transport) => {
  let bridge: Bridge
  const name = "turns" // the same for all: a process takes its time to start

  beforeAll(() => {
    bridge = TRANSPORTS[transport]!(real.url, real.token)
  })
  afterAll(() => bridge.close())

  test("a prompt's reply streams and is there as a text", async () => {
    const session = bridge.session(name, {start: {}})
    const turn = await session.submit(sim({words: 12, thinking: "Well."}))
    let streamed = ""
    const names = []
    for await (const event of turn) {
      names.push(event.event)
      if (event.event === "delta" && event.kind === "text") streamed += event.text
    }
    expect(names[0]).toBe("turn_queued")
    expect(names.at(-1)).toBe("turn_finished")
    expect(streamed.trimEnd()).toBe(await turn.text())
    expect(session.state.turns.at(-1)?.blocks.map((b) => b.kind)).toEqual(["thinking", "text"])
  })

  test("what was followed is what a client sees that comes later", async () => {
    const session = bridge.session(name)
    const file_path = `${(await session.ready()).session?.cwd}/${transport}.txt`
    await session.submit(sim({tools: [["Write", {file_path, content: "x"}]], text: "Done."}, "With a tool. "))
    const request = await until(session.subscribe, () => session.requests[0], "a request")
    expect(request).toMatchObject({kind: "permission", tool: "Write", input: {file_path}})
    await session.answer(request, {decision: "allow"})
    await until(session.subscribe, () => session.requests.length === 0, "its end")
    await expect(session.answer(request, {decision: "deny"})).rejects.toMatchObject({
      code: "request_closed", details: {outcome: "allowed"}, retryable: false,
    })
    const long = await session.submit(sim({words: 400, gap_ms: 20}, "Long. "))
    const next = await session.submit("Next.")
    const taken = await session.submit("Not this.")
    await taken.stop()
    await until(session.subscribe, () => session.state.open?.id === long.id && session.state.open.text !== "", "the text")
    expect((await next.turn)?.status).toBe("queued")
    await long.stop()
    expect((await long.finished()).status).toBe("interrupted")
    await expect(long.text()).rejects.toMatchObject({code: "turn_interrupted", turn: {id: long.id}})
    await next.text()
    await expect(taken.text()).rejects.toMatchObject({code: "turn_cancelled"})

    const other = TRANSPORTS[transport]!(real.url, real.token)
    const later = await other.session(name).ready()
    const {turns, queue, open, requests} = session.state
    expect(JSON.parse(JSON.stringify({turns: turns.map(timeless), queue, open, requests}))).toEqual(
      {turns: later.turns.map(timeless), queue: later.queue, open: later.open, requests: later.requests},
    )
    expect(await session.history({limit: 2})).toHaveLength(2)
    other.close()
  })
})

test("the list of sessions stays true, and tells what cannot be", async () => {
  const bridge = TRANSPORTS["phoenix"]!(real.url, real.token)
  const {sessions} = bridge
  const started = await sessions.start("listed")
  await until(sessions.subscribe, () => sessions.get("listed"), "the session in the list")
  expect(started.name).toBe("listed")
  await expect(sessions.start("listed", {model: "another"})).rejects.toMatchObject({code: "session_exists"})
  await expect(sessions.start("no such name")).rejects.toMatchObject({code: "invalid_name"})
  const session = bridge.session("listed")
  await session.ready()
  await sessions.delete("listed")
  await until(sessions.subscribe, () => !sessions.get("listed"), "the session out of the list")
  await until(session.subscribe, () => session.state.status === "ended", "the session's end")
  await expect(session.submit("Anybody there?")).rejects.toMatchObject({code: "closed"})
  await expect(bridge.session("listed").ready()).rejects.toMatchObject({code: "session_not_found"})
  bridge.close()
})

test("two clients see each other, over whatever they are connected by", async () => {
  const [one, other] = ["phoenix", "socket.io"].map((each) => TRANSPORTS[each]!(real.url, real.token))
  const session = one!.session("turns", {start: {}})
  other!.session("turns", {start: {}})
  const by = (transport: string): number =>
    Object.values(session.presence).flat().filter((m) => m.transport === transport).length
  await until(session.subscribe, () => by("socketio") === 1 && by("websocket") === 1, "both in the presence")
  other!.close()
  await until(session.subscribe, () => by("socketio") === 0, "one less in the presence")
  expect(by("websocket")).toBe(1)
  one!.close()
})

describe.each(["phoenix", "socket.io"])("a screen over %s", (transport) => {
  test("is painted, is typed into, and takes its size", async () => {
    const bridge = TRANSPORTS[transport]!(real.url, real.token)
    const session = bridge.session("screen", {start: {backend: "tmux"}})
    await until(session.subscribe, () => session.state.session?.state === "idle", "an idle session")
    const terminal = bridge.terminal("screen")
    let picture = ""
    terminal.on("screen", ({screen}) => (picture = screen))
    const [{cols}] = await Promise.all([
      new Promise<{cols: number}>((resolve) => terminal.on("screen", resolve)),
      terminal.resize(100, transport === "phoenix" ? 30 : 31),
    ])
    expect(cols).toBeGreaterThan(0)
    const reader = terminal.readable().getReader()
    const typed = `by ${transport}`
    // What a TUI writes are differences: the whole line is only in a picture.
    const shown = until(
      (look) => {
        const offs = [terminal.on("screen", look), terminal.on("output", () => terminal.repaint())]
        return () => offs.forEach((off) => off())
      },
      () => picture.includes(typed),
      "the text on the screen",
    )
    await terminal.input(new TextEncoder().encode(typed))
    await shown
    expect((await reader.read()).value?.byteLength).toBeGreaterThan(0)
    await terminal.input("\u0015") // the line is taken back
    await reader.cancel()
    bridge.close()
  })
})

test("a screen is refused over long poll, with the code that says so", async () => {
  const bridge = TRANSPORTS["phoenix, long poll"]!(real.url, real.token)
  const ended = new Promise<unknown>((resolve) => bridge.terminal("turns").on("ended", resolve))
  expect(await ended).toMatchObject({code: "binary_not_supported"})
  bridge.close()
})

test.each(Object.keys(TRANSPORTS))("a token that does not count is told over %s, and another may follow", async (transport) => {
  let token = "no-such-token"
  const bridge = TRANSPORTS[transport]!(real.url, () => token)
  const session = bridge.session("turns", {start: {}})
  const refused = session.submit("Let me in.")
  await expect(session.ready()).rejects.toMatchObject({code: "unauthorized"})
  await expect(refused).rejects.toMatchObject({code: "unauthorized"})
  expect(bridge.connection.status).toBe("refused")
  token = real.token
  bridge.reconnect()
  expect((await session.ready()).session?.name).toBe("turns")
  bridge.close()
})

/** When an event was told is a little after what it tells of. */
function timeless({queued_at: _, started_at: __, finished_at: ___, ...turn}: Turn): object {
  return turn
}
