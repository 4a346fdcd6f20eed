/** The platform's own WebSocket. */
export const PlatformWebSocket: unknown = globalThis.WebSocket
