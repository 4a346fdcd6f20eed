/** What is used of npm `phoenix`, which comes without types. */

declare module "phoenix" {
  interface Message {
    topic: string
    event: string
    payload: unknown
    ref: string | null
    join_ref: string | null
  }

  interface SocketOptions {
    params?: () => object
    authToken?: () => string
    transport?: unknown
    longPollFallbackMs?: number
    heartbeatIntervalMs?: number
    reconnectAfterMs?: (tries: number) => number
  }

  class Socket {
    constructor(url: string, options: SocketOptions)
    connect(): void
    disconnect(callback?: () => void): void
    isConnected(): boolean
    makeRef(): string
    push(message: Message): void
    onOpen(callback: () => void): string
    onClose(callback: (event: {code?: number, reason?: string} | undefined) => void): string
    onError(callback: (error: unknown) => void): string
    onMessage(callback: (message: Message) => void): string
  }

  const LongPoll: unknown
}
