// One official Phoenix client with one channel, told what to do line by line: {push, payload}, {leave},
// {garble} (a frame that is no JSON), {again} (a second channel of the same topic), and saying what happens.
// usage: node scenario.mjs URL TOKEN params|authToken TOPIC

import {createInterface} from "node:readline"
import {Socket} from "phoenix"
import WebSocket from "ws"

const [url, token, via, topic] = process.argv.slice(2)
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n")
const soon = () => 50

const socket = new Socket(url, {
  transport: WebSocket,
  reconnectAfterMs: soon,
  rejoinAfterMs: soon,
  ...(via === "authToken" ? {authToken: token} : {params: {token}}),
})
socket.onOpen(() => say({open: true}))
socket.onClose((event) => say({close: event.code}))
socket.connect()

let last = null // {epoch, seq} of what was heard last, for coming back

function join() {
  const channel = socket.channel(topic, () => (last ? {after: last} : {}))
  channel.onClose(() => say({closed: true}))
  channel.onError((reason) => say({errored: reason ?? null}))
  channel.onMessage = (event, payload) => {
    if (payload && payload.seq && !event.startsWith("phx_") && !event.startsWith("chan_reply")) {
      last = {...last, seq: payload.seq}
      say({event, payload})
    }
    return payload
  }
  channel
    .join()
    .receive("ok", ({epoch, seq, recovered}) => {
      last = recovered ? last : {epoch, seq}
      say({joined: seq, recovered})
    })
    .receive("error", (reason) => say({refused: reason.reason}))
  return channel
}

let channel = join()

createInterface({input: process.stdin}).on("line", (line) => {
  const {push, payload, leave, garble, again} = JSON.parse(line)
  if (push) {
    channel
      .push(push, payload)
      .receive("ok", (response) => say({ok: response}))
      .receive("error", (response) => say({error: response.reason}))
  }
  if (leave) channel.leave().receive("ok", () => say({left: true}))
  if (garble) socket.conn.send("this is no JSON")
  if (again) channel = join()
})
