import {afterEach, beforeEach, describe, expect, test, vi} from "vitest"
import type {Bridge, Session} from "../../src/index.js"
import {FakeBridge} from "../../src/testing.js"
import {settled} from "../support/wire.js"

/** Whatever was to happen at once, by a timer, has happened. */
const timers = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0))

let fake: FakeBridge
let bridge: Bridge
let session: Session

beforeEach(() => {
  fake = new FakeBridge()
  bridge = fake.connect({timeoutMs: 10_000})
  session = bridge.session("demo", {start: {}})
})
afterEach(() => bridge.close())

describe("what is asked for", () => {
  test("is submitted once, though its answer was lost and it was sent again", async () => {
    fake.loseReply("submit")
    const turn = await session.submit("Once")
    ;(await fake.expectSubmit()).replyWith("Yes.")
    expect(await turn.text()).toBe("Yes.")
    expect(session.state.turns).toHaveLength(1)
    await expect(fake.expectSubmit({timeoutMs: 20})).rejects.toThrow("submitted was: nothing")
  })

  test("is not sent twice where that could do harm", async () => {
    await session.submit("Go on")
    fake.loseReply("interrupt")
    await expect(session.interrupt()).rejects.toMatchObject({code: "disconnected", retryable: true})
    fake.loseReply("fork")
    await expect(bridge.sessions.fork("copy", "demo")).rejects.toMatchObject({code: "disconnected"})
  })

  test("is not kept for later where it would mean something else then", async () => {
    const turn = await session.submit("Go on")
    await settled()
    fake.disconnect()
    await settled()
    await expect(turn.stop()).rejects.toMatchObject({code: "disconnected"})
    fake.reconnect()
    await settled()
    expect(session.state.open?.id).toBe(turn.id)
  })

  test("is answered though it was carried out before the answer was lost", async () => {
    await session.submit("First")
    const queued = await session.submit("Second")
    await settled()
    fake.loseReply("cancel")
    await session.cancel(queued)
    expect((await queued.finished()).status).toBe("cancelled")
  })

  test("waits for the connection, and no longer than was said", async () => {
    await session.ready()
    fake.disconnect()
    await settled()
    const waiting = session.history()
    await expect(session.history({timeoutMs: 10})).rejects.toMatchObject({code: "timeout"})
    fake.reconnect()
    expect(await waiting).toEqual([])
  })

  test("can be given up by a signal", async () => {
    await session.ready()
    fake.disconnect()
    const abort = new AbortController()
    const submitted = session.submit("Never mind", {signal: abort.signal})
    abort.abort(new Error("enough"))
    await expect(submitted).rejects.toThrow("enough")
    fake.reconnect()
    await expect(fake.expectSubmit({timeoutMs: 20})).rejects.toThrow()
    await expect(session.submit("Nor this", {signal: abort.signal})).rejects.toThrow("enough")
  })

  test("fails with the bridge's code and details", async () => {
    fake.refuse("submit", "queue_full", {limit: 3})
    await expect(session.submit("Too much")).rejects.toMatchObject({code: "queue_full", details: {limit: 3}, retryable: true})
    await expect(session.submit("")).rejects.toMatchObject({code: "prompt_empty"})
    await session.submit("One", {id: "same"})
    await expect(session.submit("Two", {id: "same"})).rejects.toMatchObject({code: "invalid_payload"})
  })

  test("carries files as base64", async () => {
    await session.submit("Look", {attachments: [{name: "a", media_type: "text/plain", data: new Uint8Array([104, 105])}]})
    expect((await fake.expectSubmit()).payload["attachments"]).toEqual([{name: "a", media_type: "text/plain", data: "aGk="}])
  })
})

describe("a join", () => {
  test("that is refused for good ends the session, and a new one may begin", async () => {
    const other = bridge.session("nowhere")
    await expect(other.ready()).rejects.toMatchObject({code: "session_not_found"})
    await expect(other.submit("Hello")).rejects.toMatchObject({code: "session_not_found"})
    expect(bridge.session("nowhere", {start: {}})).not.toBe(other)
  })

  test("that is refused for now is tried again, when the bridge says", async () => {
    fake.refuse("session:busy", "rate_limited", {retry_after_s: 0.01})
    const busy = bridge.session("busy", {start: {}})
    expect((await busy.ready()).status).toBe("live")
  })

  test("is one for all who ask for the name, until they let go", async () => {
    expect(bridge.session("demo")).toBe(session)
    const [one, other] = [session.retain(), session.retain()]
    one()
    one()
    await timers()
    expect(session.state.status).toBe("live")
    other()
    const again = session.retain()
    await timers()
    expect(session.state.status).toBe("live")
    again()
    await timers()
    expect(session.state.status).toBe("ended")
  })
})

describe("a turn", () => {
  test("is told from its beginning to the first loop, and as it is to a later one", async () => {
    const turn = await session.submit("Speak")
    ;(await fake.expectSubmit()).delta("One ").delta("two")
    await settled()
    const first = turn[Symbol.asyncIterator]()
    expect((await first.next()).value).toMatchObject({event: "turn_queued"})
    const second = turn[Symbol.asyncIterator]()
    expect((await second.next()).value).toMatchObject({event: "snapshot", turn: {text: "One two", status: "running"}})
  })

  test("that nobody loops over costs no more than its text", async () => {
    const turn = await session.submit("Much")
    const submitted = await fake.expectSubmit()
    for (let i = 0; i < 5000; i++) submitted.delta("x")
    submitted.finish()
    await turn.finished()
    const told = []
    for await (const event of turn) told.push(event)
    expect(told.length).toBeLessThan(2100)
    expect(told[0]).toMatchObject({event: "snapshot"})
    expect(told.at(-1)).toMatchObject({event: "turn_finished", turn: {text: "x".repeat(5000)}})
  })

  test("can be left in the middle, and its loop can be aborted", async () => {
    const turn = await session.submit("Speak")
    for await (const event of turn) if (event.event === "turn_started") break
    const abort = new AbortController()
    const loop = (async () => {
      for await (const _ of turn.events({signal: abort.signal})) abort.abort(new Error("enough"))
    })()
    await expect(loop).rejects.toThrow("enough")
    ;(await fake.expectSubmit()).replyWith("All the same.")
    expect(await turn.text()).toBe("All the same.")
  })

  test.each(["failed", "unknown"] as const)("that ends as %s has no text to give, but what was said", async (status) => {
    const turn = await session.submit("Try")
    const submitted = await fake.expectSubmit()
    submitted.delta("As far as").finish(status, undefined, {code: "overloaded", message: "Too much."})
    await expect(turn.text()).rejects.toMatchObject({
      name: "TurnError", code: `turn_${status}`, turn: {text: "As far as", error: {code: "overloaded"}},
    })
    expect((await turn.finished()).status).toBe(status)
  })

  test("is taken back where it waits, and broken off where it runs", async () => {
    const first = await session.submit("First")
    const second = await session.submit("Second")
    await second.stop()
    expect((await second.finished()).status).toBe("cancelled")
    await first.stop()
    expect((await first.finished()).status).toBe("interrupted")
    await first.stop()
  })

  test("that ended long ago, while this client was away, is found in the history", async () => {
    const turn = await session.submit("Long ago")
    const submitted = await fake.expectSubmit()
    await settled()
    fake.disconnect()
    submitted.replyWith("I was there.")
    for (let i = 0; i < 30; i++) {
      const {turn: id, position} = fake.session("demo").submit(`p${i}`, null) as {turn: string, position: number}
      fake.session("demo").queued(id, null, `p${i}`, null, position)
      fake.session("demo").finish(id, "completed", "…")
    }
    fake.reconnect({recovered: false})
    expect(await turn.text()).toBe("I was there.")
    expect(session.state.turns.some((t) => t.id === turn.id)).toBe(false)
  })

  test("of long ago can be followed, and is what the same key gives again", async () => {
    const turn = await session.submit("Long ago", {id: "long-ago"})
    ;(await fake.expectSubmit()).replyWith("I was there.")
    for (const prompt of ["Then", "Now"]) {
      await session.submit(prompt)
      ;(await fake.expectSubmit()).replyWith("…")
    }
    const other = fake.connect()
    const later = other.session("demo", {turns: 1})
    expect((await later.ready()).turns.map((t) => t.prompt)).toEqual(["Now"])
    expect(await later.follow(turn.id).text()).toBe("I was there.")
    expect(await (await later.submit("Long ago", {id: "long-ago"})).text()).toBe("I was there.")
    await expect(later.follow("never").text()).rejects.toMatchObject({code: "turn_not_found"})
    other.close()
  })

  test("fails where its session is deleted, once its events are told", async () => {
    const turn = await session.submit("Gone")
    const waiting = turn.text()
    fake.delete("demo")
    await expect(waiting).rejects.toMatchObject({code: "closed"})
    const names: string[] = []
    const loop = (async () => {
      for await (const {event} of turn) names.push(event)
    })()
    await expect(loop).rejects.toMatchObject({code: "closed"})
    expect(names).toEqual(["turn_queued", "turn_started"])
  })

  test("of somebody else can be followed", async () => {
    const other = fake.connect()
    const theirs = await other.session("demo").submit("Theirs")
    await settled()
    const mine = session.follow(theirs.id)
    ;(await fake.expectSubmit()).replyWith("For all.")
    expect(await mine.text()).toBe("For all.")
    other.close()
  })
})

describe("requests", () => {
  test("are open until somebody answers", async () => {
    await session.submit("Ask me")
    const {request, answered} = fake.openRequest("demo", {tool: "Write", input: {file_path: "x"}})
    await settled()
    expect(session.requests).toEqual([request])
    fake.loseReply("answer")
    // Sent again, it is refused as closed; what was asked for has been done.
    const done = session.answer(request, {decision: "allow"})
    expect(await answered).toEqual({decision: "allow"})
    await done
    expect(session.requests).toEqual([])
  })

  test("that somebody else has closed are refused", async () => {
    await session.submit("Ask me")
    const {request} = fake.openRequest("demo")
    fake.closeRequest("demo", request.id, "denied", "somebody")
    await expect(session.answer(request, {decision: "allow"})).rejects.toMatchObject({code: "request_closed"})
  })
})

describe("listeners", () => {
  test("are removed, and one that throws disturbs nobody", async () => {
    const reported = vi.fn()
    vi.stubGlobal("reportError", reported)
    const [thrower, off, on] = [vi.fn(() => { throw new Error("mine") }), vi.fn(), vi.fn()]
    session.on("turn_started", thrower)
    session.on("turn_started", on)
    session.on("turn_started", off)()
    const turn = await session.submit("Tell")
    ;(await fake.expectSubmit()).replyWith("Told.")
    expect(await turn.text()).toBe("Told.")
    expect(on).toHaveBeenCalledOnce()
    expect(off).not.toHaveBeenCalled()
    expect(reported).toHaveBeenCalledWith(new Error("mine"))
    vi.unstubAllGlobals()
  })

  test("of the state are told of new objects, and never of changed ones", async () => {
    await session.ready()
    const states = new Set([session.getSnapshot()])
    const {subscribe, getSnapshot} = session
    subscribe(() => states.add(getSnapshot()))
    const frozen = [...states].map((s) => JSON.stringify(s))
    await session.submit("Change")
    ;(await fake.expectSubmit()).replyWith("Changed.")
    await settled()
    expect(states.size).toBeGreaterThan(4)
    expect(JSON.stringify([...states][0])).toBe(frozen[0])
  })
})

describe("a bridge", () => {
  test("that is closed fails what is outstanding and takes nothing more", async () => {
    await session.ready()
    fake.disconnect()
    const waiting = session.history()
    bridge.close()
    await expect(waiting).rejects.toMatchObject({code: "closed"})
    await expect(session.history()).rejects.toMatchObject({code: "closed"})
    expect(() => bridge.session("another")).toThrow("closed")
    expect(bridge.connection.status).toBe("closed")
    bridge.close()
  })

  test("whose token does not count any more says so, until it is tried again", async () => {
    await session.ready()
    fake.refuseToken()
    await settled()
    expect(bridge.connection.status).toBe("refused")
    await expect(session.history()).rejects.toMatchObject({code: "unauthorized"})
    await expect(bridge.session("another").ready({signal: AbortSignal.timeout(1000)})).rejects.toMatchObject({code: "unauthorized"})
    await settled()
    expect(bridge.session("another").state.error?.code).toBe("unauthorized")
    bridge.reconnect()
    expect(await session.history()).toEqual([])
  })

  test("lists its sessions", async () => {
    const {sessions} = bridge
    await sessions.start("another")
    await settled()
    expect([...sessions].map((s) => s.name)).toEqual(["another", "demo"])
    fake.session("another").change({state: "busy"})
    await settled()
    expect(sessions.get("another")?.state).toBe("busy")
    await sessions.delete("another")
    await settled()
    expect(sessions.list.map((s) => s.name)).toEqual(["demo"])
  })

  test("tells who is here", async () => {
    await settled()
    const other = fake.connect()
    other.session("demo")
    await settled()
    expect(session.presence["owner"]).toHaveLength(2)
    other.close()
  })
})

describe("a pool", () => {
  test("answers a question, through a break", async () => {
    const pool = bridge.pool()
    const asked = pool.ask("What is it?")
    const question = await fake.expectSubmit()
    const turn = await asked
    question.delta("It ")
    await settled()
    fake.disconnect()
    await settled()
    question.delta("is ")
    fake.reconnect()
    await settled()
    question.delta("so.").block("It is so.").finish()
    expect(await turn.text()).toBe("It is so.")
  })

  test("gives the answer that came while nobody was there", async () => {
    const asked = bridge.pool().ask("What is it?")
    const question = await fake.expectSubmit()
    const turn = await asked
    fake.disconnect()
    question.replyWith("So.")
    await settled()
    fake.reconnect()
    expect(await turn.text()).toBe("So.")
  })
})

describe("a terminal", () => {
  test("paints, types and takes its size", async () => {
    const terminal = bridge.terminal("demo")
    fake.screen("demo", {screen: "hello"})
    const reader = terminal.readable().getReader()
    const text = async (): Promise<string> => new TextDecoder().decode((await reader.read()).value)
    expect(await text()).toBe("hello")
    fake.output("demo", " world")
    expect(await text()).toBe(" world")
    await terminal.input("ls\r")
    const writer = terminal.writable().getWriter()
    await writer.write("pwd\r")
    expect(fake.typed("demo")).toBe("ls\rpwd\r")
    await terminal.resize(100, 30)
    await settled()
    expect(terminal.size).toEqual({cols: 100, rows: 30})
  })

  test("is painted anew behind what is being typed, which is not lost by that", async () => {
    const terminal = bridge.terminal("demo")
    await settled()
    let paints = 0
    terminal.on("screen", () => (paints += 1))
    const typed = [terminal.input("a"), terminal.input("b")]
    terminal.repaint()
    terminal.repaint()
    await Promise.all(typed)
    await settled()
    expect(fake.typed("demo")).toBe("ab")
    expect(paints).toBe(1)
  })

  test("gives a reader that fell behind the present picture", async () => {
    const terminal = bridge.terminal("demo")
    await settled()
    const reader = terminal.readable().getReader()
    await settled()
    for (let i = 0; i < 6; i++) fake.output("demo", new Uint8Array(1024 * 1024))
    fake.screen("demo", {screen: "the end"})
    await settled()
    let read = 0
    let text = ""
    while (!text.includes("the end")) {
      const {value} = await reader.read()
      read += value?.byteLength ?? 0
      text = new TextDecoder().decode(value)
    }
    expect(read).toBeLessThan(6 * 1024 * 1024)
  })
})
