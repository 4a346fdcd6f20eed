/** What the tab says: how many sessions wait for a person, and which one is open. */
export function titleOf(asks: number, session: string | null): string {
  const where = session === null ? "claude-bridge" : `${session} · claude-bridge`
  return asks === 0 ? where : `(${asks} ${asks === 1 ? "asks" : "ask"}) ${where}`
}
