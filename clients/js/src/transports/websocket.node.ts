/** Node's own WebSocket is missing in Node 20; `ws` is the same in all of them. */
import WebSocket from "ws"

export const PlatformWebSocket: unknown = WebSocket
