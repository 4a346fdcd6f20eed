// The official Phoenix client at the end of a pipe: one JSON command a line in, one JSON line out for
// everything that happens, in the order in which it happens. Knows nothing of the bridge but how a client
// resumes: a channel joined with `resume` gives the last {epoch, seq} it saw when phoenix.js joins it again.
//
// in:  {id, op, socket, channel?, …}
// out: {id, result}                              the answer to a command
//      {socket, channel, event, payload}         a channel's message, `join_ok`, `join_error`, `closed`, `errored`
//      an ArrayBuffer is {base64} in either direction
//      {socket, lifecycle: "open"|"close"|"error", code?, message?}

import {createInterface} from "node:readline"
import {LongPoll, Socket} from "phoenix"
import WebSocket from "ws"

const REPLY_MS = 60_000 // longer than the tests' own patience, so that it is they who say what is missing
const sockets = new Map()
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n")

class Client {
  constructor(name, {url, token, via = "params", vsn = "2.0.0", headers = {}, transport = "websocket"}) {
    this.name = name
    this.channels = new Map()
    const options = {
      vsn,
      transport: transport === "longpoll" ? LongPoll : transportWith(headers),
      timeout: REPLY_MS,
      reconnectAfterMs: (tries) => Math.min(50 * tries, 500),
      rejoinAfterMs: (tries) => Math.min(50 * tries, 500),
    }
    if (via === "params") options.params = {token}
    if (via === "authToken") options.authToken = token
    this.socket = new Socket(url, options)
    this.socket.onOpen(() => say({socket: name, lifecycle: "open"}))
    this.socket.onClose((e) => say({socket: name, lifecycle: "close", code: e.code}))
    this.socket.onError((e) => say({socket: name, lifecycle: "error", message: e?.message ?? String(e)}))
  }

  join(id, key, {topic, payload, resume}) {
    const cursor = {epoch: null, seq: 0}
    const params = () => (resume && cursor.epoch ? {...payload, after: {...cursor}} : payload)
    const channel = this.socket.channel(topic, params)
    const heard = (event, what) => say({socket: this.name, channel: key, event, payload: what ?? null})
    channel.onMessage = (event, what) => {
      // A push that was never answered ends without an event.
      if (event === null || event.startsWith("phx_") || event.startsWith("chan_reply_")) return what
      if (what instanceof ArrayBuffer) {
        heard(event, {base64: Buffer.from(what).toString("base64")})
        return what
      }
      if (typeof what?.seq === "number") cursor.seq = what.seq
      heard(event, what)
      return what
    }
    channel.onClose((why) => heard("closed", {why}))
    channel.onError((why) => heard("errored", {why}))
    const answered = once((result) => say({id, result}))
    const push = channel.join(REPLY_MS)
    push.receive("ok", (response) => {
      if (response.epoch && !response.recovered) Object.assign(cursor, {epoch: response.epoch, seq: response.seq})
      heard("join_ok", response)
      answered({status: "ok", response})
    })
    push.receive("error", (response) => {
      heard("join_error", response)
      answered({status: "error", response})
    })
    push.receive("timeout", () => answered({status: "timeout", response: {}}))
    this.channels.set(key, channel)
  }

  push(id, key, {event, payload}) {
    const said = typeof payload?.base64 === "string" ? bytesOf(payload.base64) : payload
    const push = this.channels.get(key).push(event, said, REPLY_MS)
    for (const status of ["ok", "error", "timeout"]) {
      push.receive(status, (response) => say({id, result: {status, response: response ?? {}}}))
    }
  }
}

function bytesOf(base64) {
  return Uint8Array.from(Buffer.from(base64, "base64")).buffer
}

function transportWith(headers) {
  return class extends WebSocket {
    constructor(url, protocols) {
      super(url, protocols, {headers, maxPayload: 0, perMessageDeflate: false})
    }
  }
}

function once(f) {
  let done = false
  return (value) => {
    if (done) return
    done = true
    f(value)
  }
}

const operations = {
  connect(id, command) {
    const client = new Client(command.socket, command)
    sockets.set(command.socket, client)
    client.socket.connect()
    say({id, result: {}})
  },
  join: (id, command) => sockets.get(command.socket).join(id, command.channel, command),
  push: (id, command) => sockets.get(command.socket).push(id, command.channel, command),
  leave(id, {socket, channel}) {
    const push = sockets.get(socket).channels.get(channel).leave()
    push.receive("ok", (response) => say({id, result: {status: "ok", response}}))
  },
  // A network that goes away: the TCP connection ends without a close frame, and phoenix.js comes back.
  cut(id, {socket}) {
    const {conn} = sockets.get(socket).socket
    if (conn instanceof LongPoll) conn.closeAndRetry("cut", 1006, "", false) // ends its requests as well
    else conn.terminate()
    say({id, result: {}})
  },
  disconnect(id, {socket}) {
    sockets.get(socket).socket.disconnect(() => say({id, result: {}}))
  },
  connectAgain(id, {socket}) {
    sockets.get(socket).socket.connect()
    say({id, result: {}})
  },
}

createInterface({input: process.stdin}).on("line", (line) => {
  const command = JSON.parse(line)
  try {
    operations[command.op](command.id, command)
  } catch (e) {
    say({id: command.id, result: {status: "threw", response: {message: String(e?.stack ?? e)}}})
  }
}).on("close", () => process.exit(0))
