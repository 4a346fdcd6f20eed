// The official phoenix.js's side of `bench.elixir`: `node phoenix_js_client.mjs URL TOKEN`. It says a line of JSON when
// it is up, and one for each line that it is asked. The packages are those of the tests.

import {createRequire} from "node:module"
import {createInterface} from "node:readline"

const require = createRequire(new URL("../tests/js/driver.mjs", import.meta.url))
const {Socket} = require("phoenix")
const WebSocket = require("ws")

class Transport extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols, {perMessageDeflate: false})
  }
}

const [url, token] = process.argv.slice(2)
const socket = new Socket(`${url.replace("http", "ws")}/socket`, {params: {token}, transport: Transport, timeout: 60_000})
const say = (values) => process.stdout.write(JSON.stringify(values) + "\n")
const answered = (push) =>
  new Promise((done, failed) => {
    push.receive("ok", done)
    for (const status of ["error", "timeout"]) push.receive(status, (why) => failed(new Error(`${status}: ${JSON.stringify(why)}`)))
  })

let lobby
let session
let heard

async function echo(trips) {
  const took = []
  for (let i = 0; i < trips; i++) {
    const began = process.hrtime.bigint()
    await answered(lobby.push("list", {}))
    took.push(Number(process.hrtime.bigint() - began) / 1000)
  }
  return {took}
}

async function begin() {
  session = socket.channel("session:phoenix", {start: {}})
  session.on("delta", ({kind, text}) => {
    if (kind === "text") heard.bytes += Buffer.byteLength(text)
  })
  session.on("turn_finished", () => heard.finished())
  await answered(session.join())
}

async function turn(prompt) {
  if (session === undefined) await begin()
  const began = process.hrtime.bigint()
  const finished = new Promise((done) => (heard = {bytes: 0, finished: done}))
  await answered(session.push("submit", {prompt}))
  await finished
  return {took_s: Number(process.hrtime.bigint() - began) / 1e9, bytes: heard.bytes}
}

socket.connect()
lobby = socket.channel("sessions", {})
await answered(lobby.join())
say({up: true})
for await (const line of createInterface({input: process.stdin})) {
  const command = JSON.parse(line)
  say(command.do === "echo" ? await echo(command.trips) : await turn(command.prompt))
}
process.exit(0)
