// One official Phoenix client with one channel and its presence, told what to do line by line: {push, payload,
// timeout?}, {leave}, {garble} (a frame that is no JSON), {again} (a second channel of the same topic),
// {disconnect}, {connect}; and saying what happens.
// usage: node scenario.mjs URL OPTIONS, where OPTIONS is JSON: {token, via: "params"|"authToken", topic,
// transport: "websocket"|"longpoll", heartbeatMs?, fallbackMs?, presence?}

import {createInterface} from "node:readline"
import {LongPoll, Presence, Socket} from "phoenix"
import WebSocket from "ws"

const url = process.argv[2]
const {token, via, topic, transport, heartbeatMs, fallbackMs, presence} = JSON.parse(process.argv[3])
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n")
const soon = () => 50

const socket = new Socket(url, {
  transport: transport === "longpoll" ? LongPoll : WebSocket,
  reconnectAfterMs: soon,
  rejoinAfterMs: soon,
  heartbeatIntervalMs: heartbeatMs,
  longPollFallbackMs: fallbackMs,
  logger: () => {}, // with one, a frame whose payload is null throws
  ...(via === "authToken" ? {authToken: token} : {params: {token}}),
})
socket.onOpen(() => say({open: true, transport: socket.transport === LongPoll ? "longpoll" : "websocket"}))
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
  if (presence) watch(new Presence(channel))
  channel
    .join()
    .receive("ok", ({epoch, seq, recovered}) => {
      last = recovered ? last : {epoch, seq}
      say({joined: seq, recovered})
    })
    .receive("error", (reason) => say({refused: reason.reason}))
  return channel
}

function watch(present) {
  const metas = (presence) => presence.metas
  present.onJoin((key, current, entry) => say({came: key, before: current?.metas ?? [], metas: entry.metas}))
  present.onLeave((key, current, entry) => say({went: key, left: current.metas, metas: entry.metas}))
  present.onSync(() => say({present: Object.fromEntries(present.list((key, entry) => [key, metas(entry)]))}))
}

let channel = join()

createInterface({input: process.stdin}).on("line", (line) => {
  const {push, payload, timeout, leave, garble, again, disconnect, connect} = JSON.parse(line)
  if (push) {
    channel
      .push(push, payload, timeout)
      .receive("ok", (response) => say({ok: response}))
      .receive("error", (response) => say({error: response.reason}))
      .receive("timeout", () => say({timeout: push}))
  }
  if (leave) channel.leave().receive("ok", () => say({left: true}))
  if (garble) socket.conn.send("this is no JSON")
  if (again) channel = join()
  if (disconnect) socket.disconnect()
  if (connect) socket.connect()
})
