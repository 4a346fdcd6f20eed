/** The live terminal of a tmux session. */
export function TerminalPane({name}: {name: string}) {
  return <section aria-label={`Terminal ${name}`} />
}
