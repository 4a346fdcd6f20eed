import {afterEach, expect, test} from "vitest"
import {connect, type Answer, type Bridge, type Session} from "../../src/index.js"
import {golden, settled, Wire, type Golden} from "../support/wire.js"

const SERVER = golden("v2_server")
const CLIENT = golden("v2_client")
const TERMINAL = golden("v2_terminal")

const frame = (name: string): Golden => {
  const found = [...SERVER, ...CLIENT, ...TERMINAL].find((f) => f.name === name)
  if (!found) throw new Error(`no golden frame: ${name}`)
  return found
}

let bridge: Bridge
afterEach(() => bridge.close())

async function connected(): Promise<Wire> {
  bridge = connect("ws://bridge.test/socket", {token: "secret", WebSocket: Wire})
  await settled()
  return Wire.latest
}

async function joined(): Promise<{wire: Wire, session: Session, joinRef: string}> {
  const wire = await connected()
  const session = bridge.session("demo", {start: {cwd: "/home/someone"}})
  await settled()
  expect(wire.last).toMatchObject({topic: "session:demo", event: "phx_join", payload: frame("join a session, starting it").decoded.payload})
  const joinRef = wire.last.ref as string
  expect(wire.last.join_ref).toBe(joinRef)
  wire.tellGolden(frame("session joined"), joinRef, joinRef)
  await settled()
  return {wire, session, joinRef}
}

test("the token goes where no proxy logs it", async () => {
  const wire = await connected()
  expect(wire.protocols).toEqual(["phoenix", `base64url.bearer.phx.${btoa("secret").replace(/=/g, "")}`])
  expect(wire.url).not.toContain("secret")
})

test("a token that a browser could not send as a sub-protocol is a parameter", async () => {
  bridge = connect("http://bridge.test", {token: "~~~???", WebSocket: Wire})
  await settled()
  expect(Wire.latest.protocols).toBeUndefined()
  expect(new URL(Wire.latest.url).searchParams.get("token")).toBe("~~~???")
})

test("the join's reply becomes the state", async () => {
  const {session} = await joined()
  const {response} = frame("session joined").decoded.payload as {response: Record<string, unknown>}
  expect(session.state).toMatchObject({
    status: "live", session: response["session"], turns: response["turns"], open: response["open_turn"],
    queue: response["queue"], requests: response["requests"],
  })
  expect(session.cursor).toEqual({epoch: response["epoch"], seq: response["seq"]})
})

test.each(SERVER.filter((f) => f.name.startsWith("event ") && f.decoded.topic === "session:demo").map((f) => f.name))(
  "%s is told as it came, and once",
  async (name) => {
    const {wire, session} = await joined()
    const {event, payload} = frame(name).decoded as {event: "delta", payload: {seq: number, first_seq?: number}}
    // The golden frames count from one: this client stands just before the frame.
    const reply = structuredClone(frame("session joined").decoded.payload) as {response: {seq: number}}
    reply.response.seq = (payload.first_seq ?? payload.seq) - 1
    session.close()
    const again = bridge.session("demo")
    await settled()
    const ref = wire.last.ref as string
    wire.tell(JSON.stringify([ref, ref, "session:demo", "phx_reply", reply]))
    const told: unknown[] = []
    again.on(event, (said) => told.push(said))
    wire.tellGolden(frame(name), ref, null)
    wire.tellGolden(frame(name), ref, null) // and only once, whatever happens on the way
    expect(told).toEqual([payload])
    expect(again.cursor?.seq).toBe(payload.seq)
    expect(again.state.status).toBe("live")
  },
)

test.each(["session not joined", "unmatched topic"])("a refused join, %s, ends the session with its code", async (name) => {
  const wire = await connected()
  const session = bridge.session("demo")
  await settled()
  const {response} = frame(name).decoded.payload as {response: {reason: string}}
  wire.tell(JSON.stringify([null, wire.last.ref, "session:demo", "phx_reply", {status: "error", response}]))
  await expect(session.ready()).rejects.toMatchObject({code: response.reason})
})

test.each(["forbidden", "queue full", "invalid payload"])("%s is an error with its details", async (name) => {
  const {wire, session, joinRef} = await joined()
  const submitted = session.submit("Hello")
  wire.tellGolden(frame(name), joinRef, wire.last.ref)
  const {reason, message, ...details} = (frame(name).decoded.payload as {response: Record<string, unknown>}).response
  await expect(submitted).rejects.toMatchObject({name: "BridgeError", code: reason, message, details})
})

test("a session that is closed by the bridge stays closed, one that crashed is joined again", async () => {
  const {wire, session, joinRef} = await joined()
  wire.tellGolden(frame("crashed"), joinRef, joinRef)
  expect(session.state.status).toBe("reconnecting")
  await expect.poll(() => wire.last).toMatchObject({event: "phx_join", payload: {after: session.cursor}})
  const ref = wire.last.ref as string
  wire.tellGolden(frame("session joined"), ref, ref)
  wire.tellGolden(frame("closed"), ref, ref)
  expect(session.state).toMatchObject({status: "ended", error: {code: "closed"}})
})

test("the close of an earlier join, which follows the answer to the new one, closes nothing", async () => {
  const {wire, session, joinRef} = await joined()
  const {seq} = session.cursor!
  wire.tell(JSON.stringify([null, null, "session:demo", "discard", {turn: "x", block: 0, seq: seq + 5, at: ""}]))
  expect(wire.last).toMatchObject({event: "phx_join", payload: {after: session.cursor}})
  const ref = wire.last.ref as string
  expect(ref).not.toBe(joinRef)
  wire.tellGolden(frame("session joined"), ref, ref)
  wire.tellGolden(frame("closed"), joinRef, joinRef)
  expect(session.state.status).toBe("live")
})

const said: Record<string, (session: Session) => Promise<unknown>> = {
  "submit": (s) => s.submit("Grüße, 世界 🎉", {id: "note-1"}),
  "interrupt": (s) => s.interrupt(),
  "cancel": (s) => s.cancel("018f3c1e-0000-4000-8000-000000000002"),
  "allow": (s) => s.answer("req-1", {decision: "allow", suggestions: [0]}),
  "deny": (s) => s.answer("req-1", {decision: "deny", message: "Not there", interrupt: true}),
  "answer a question": (s) => s.answer("req-2", {decision: "allow", input: {answers: {"Which one?": "The first"}}} satisfies Answer),
  "history": (s) => s.history({before: "018f3c1e-0000-4000-8000-000000000001", limit: 10}),
  "configure": (s) => s.configure({model: "opus"}),
  "restart": (s) => s.restart(),
  "stop": (s) => s.stop(),
}

test.each(Object.keys(said))("%s is said as the golden frame says it", async (name) => {
  const {wire, session, joinRef} = await joined()
  said[name]!(session).catch(() => undefined)
  const {topic, event, payload} = frame(name).decoded
  expect(wire.last).toMatchObject({join_ref: joinRef, topic, event})
  expect(wire.last.payload).toEqual(payload)
})

test("a screen's bytes go and come as the golden frames have them", async () => {
  const wire = await connected()
  const terminal = bridge.terminal("demo")
  await settled()
  const joinRef = wire.last.ref as string
  expect(joinRef).toHaveLength(1)
  const told: unknown[] = []
  terminal.on("screen", (picture) => told.push(picture))
  terminal.on("output", (bytes) => told.push(Buffer.from(bytes).toString("hex")))
  wire.tellGolden(frame("screen joined"), joinRef, joinRef)
  wire.tellGolden(frame("output"), joinRef, null)
  wire.tellGolden(frame("screen after a client fell behind"), joinRef, null)
  const {response} = frame("screen joined").decoded.payload as {response: unknown}
  expect(told).toEqual([response, frame("output").decoded.payload, frame("screen after a client fell behind").decoded.payload])

  const {payload} = frame("input in bytes").decoded
  terminal.input(new Uint8Array(Buffer.from(payload as string, "hex"))).catch(() => undefined)
  const bytes = Buffer.from(wire.said.at(-1) as ArrayBuffer)
  const expected = Buffer.from(frame("input in bytes").wire, "hex")
  expected[5] = bytes[5]!
  expected[6] = bytes[6]!
  expect(bytes.toString("hex")).toBe(expected.toString("hex"))
})
