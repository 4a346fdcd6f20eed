import {afterEach, expect, test, vi} from "vitest"
import {connect} from "../../src/index.js"
import {settled, Wire} from "../support/wire.js"

/** A bridge that lets nobody in, as a browser sees it: the connection closes, and that is all. */
class Refusing extends Wire {
  protected override begin(): void {
    this.close(1006)
  }
}

afterEach(() => vi.unstubAllGlobals())

function answers(): ((status: number) => void)[] {
  const asked: ((status: number) => void)[] = []
  vi.stubGlobal("fetch", () => new Promise<Response>((resolve) => {
    asked.push((status) => resolve(Response.json({reason: "unauthorized", message: "No."}, {status})))
  }))
  return asked
}

async function until(condition: () => boolean): Promise<void> {
  await expect.poll(condition).toBe(true)
}

test("why a connection was refused is asked once, and its answer is not taken for that of the next token", async () => {
  const asked = answers()
  const bridge = connect("http://bridge.test", {token: "old", WebSocket: Refusing, reconnectAfterMs: () => 0})
  await until(() => asked.length === 1)
  bridge.reconnect()
  await until(() => asked.length === 2)
  asked[0]!(401)
  await settled()
  expect(bridge.connection.status).toBe("connecting")
  asked[1]!(401)
  await until(() => bridge.connection.status === "refused")
  expect(asked).toHaveLength(2)
  bridge.close()
})

test("a bridge that is only away is tried on, and what is known of why is told", async () => {
  const asked = answers()
  const bridge = connect("http://bridge.test", {token: "good", WebSocket: Refusing, reconnectAfterMs: () => 0})
  await until(() => asked.length === 1)
  asked[0]!(503)
  await until(() => asked.length === 2)
  expect(bridge.connection).toMatchObject({status: "connecting", reason: "closed with 1006"})
  bridge.close()
})
