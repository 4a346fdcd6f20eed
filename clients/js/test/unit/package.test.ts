import {execFileSync} from "node:child_process"
import {readFileSync} from "node:fs"
import {fileURLToPath} from "node:url"
import {expect, test} from "vitest"

const ROOT = fileURLToPath(new URL("../../", import.meta.url))

function node(...words: string[]): string {
  return execFileSync(process.execPath, words, {cwd: ROOT, encoding: "utf8", timeout: 30_000})
}

test("the built package works in Node by each of its entries, and leaves nothing that keeps it alive", () => {
  const said = node("--input-type=module", "-e", `
    import {connect, BridgeError} from "claude-bridge-client"
    import {connect as socketio} from "claude-bridge-client/socketio"
    import {FakeBridge} from "claude-bridge-client/testing"
    const bridges = [connect, socketio].map((each) => each("http://127.0.0.1:9", {token: "none"}))
    const refused = bridges.map((bridge) => bridge.session("x").submit("hi").catch((e) => e instanceof BridgeError && e.code))
    for (const bridge of bridges) bridge.close()
    const fake = new FakeBridge()
    const bridge = fake.connect()
    const turn = await bridge.session("x", {start: {}}).submit("hi")
    ;(await fake.expectSubmit()).replyWith("there")
    console.log(await turn.text(), ...(await Promise.all(refused)))
    bridge.close()
  `)
  expect(said).toBe("there closed closed\n")
})

test("the README tells the true size", () => {
  const sizes = JSON.parse(node("scripts/size.mjs")) as Record<string, {gzip: number}>
  const readme = readFileSync(`${ROOT}README.md`, "utf8")
  for (const entry of ["claude-bridge-client", "claude-bridge-client/socketio"]) {
    const stated = new RegExp(`\\| \`${entry}\` \\| (\\d+) KB \\|`).exec(readme)
    const kilobytes = (sizes[entry]?.gzip ?? 0) / 1024
    expect(Math.abs(Number(stated?.[1]) - kilobytes), `${entry}: ${kilobytes.toFixed(1)} KB`).toBeLessThan(1)
  }
})
