// One official socket.io-client with one topic, told what to do line by line: {emit: [...]} (with an ack),
// {cut} (the WebSocket breaks), {again} (the client closes it, to come back), {leave}, {close}, and saying what happens. Resumes as a front end should: it
// joins again at every connect, with the last {epoch, seq} it saw. Bytes are {base64} in either direction.
// usage: node socketio.mjs URL TOKEN TRANSPORTS TOPIC    (TRANSPORTS: websocket, polling or polling,websocket)

import {createInterface} from "node:readline"
import {io} from "socket.io-client"

const [url, token, transports, topic] = process.argv.slice(2)
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n")

const socket = io(url, {
  auth: {token},
  transports: transports.split(","),
  reconnectionDelay: 50,
  reconnectionDelayMax: 200,
})
let last = null

socket.io.on("open", () => {
  say({opened: socket.io.engine.transport.name})
  socket.io.engine.once("upgrade", (transport) => say({upgraded: transport.name}))
})
socket.on("connect", () => {
  socket.emit("join", topic, last ? {after: last} : {}, ({status, response}) => {
    if (status !== "ok") return say({refused: response.reason})
    if (response.epoch && !response.recovered) last = {epoch: response.epoch, seq: response.seq}
    say({joined: response.seq ?? null, recovered: response.recovered ?? null})
  })
})
socket.on("connect_error", (e) => say({failed: e.data?.reason ?? null}))
socket.on("disconnect", (reason, details) => {
  const why = typeof details?.description === "number" ? details.description : details?.context?.code
  say({disconnected: reason, code: why ?? null})
})
socket.on("message", (topic, event, payload) => {
  if (event.startsWith("presence_")) return
  if (typeof payload?.seq === "number") last = {...last, seq: payload.seq}
  say({event, payload: Buffer.isBuffer(payload) ? {base64: payload.toString("base64")} : payload})
})

const bytes = (value) => (typeof value?.base64 === "string" ? Buffer.from(value.base64, "base64") : value)

createInterface({input: process.stdin}).on("line", (line) => {
  const {emit, cut, again, leave, close} = JSON.parse(line)
  if (emit) socket.emit(...emit.map(bytes), ({status, response}) => say({[status]: response}))
  if (leave) socket.emit("leave", topic, ({status}) => say({left: status}))
  if (again) socket.io.engine.close()
  if (cut) socket.io.engine.transport.ws.terminate()
  if (close) socket.disconnect()
})
