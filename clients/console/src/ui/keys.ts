/** Which key does what, in one table: the page acts by it, and the dialog of all keys shows it. Pure. */

export type Action = "keys" | "switch" | "start" | "previous" | "next" | "terminal" | "list"

export interface Pressed {
  readonly key: string
  readonly ctrlKey: boolean
  readonly metaKey: boolean
  readonly altKey: boolean
  /** Where letters are text: in a field, or in the terminal. */
  readonly typing: boolean
  readonly inTerminal: boolean
}

export interface Shown {
  readonly keys: readonly string[]
  readonly does: string
}

export const SECTIONS: readonly {readonly title: string, readonly keys: readonly Shown[]}[] = [
  {
    title: "Everywhere",
    keys: [
      {keys: ["?"], does: "Show these keys"},
      {keys: ["g", "Ctrl K"], does: "Go to a session: type its name"},
      {keys: ["n"], does: "Start a new session"},
      {keys: ["[", "]"], does: "Previous, next session"},
      {keys: ["l"], does: "Focus the list of sessions"},
      {keys: ["t"], does: "Focus the terminal"},
      {keys: ["F6"], does: "Out of the terminal, and into it"},
      {keys: ["Esc"], does: "Close what is open"},
    ],
  },
  {
    title: "In the list",
    keys: [
      {keys: ["↑", "↓"], does: "Move"},
      {keys: ["Enter"], does: "Open the session"},
    ],
  },
  {
    title: "In the conversation",
    keys: [
      {keys: ["Enter"], does: "Send"},
      {keys: ["Shift Enter"], does: "New line"},
      {keys: ["Esc"], does: "Interrupt the turn that runs, where the box is empty"},
      {keys: ["/", "Ctrl F"], does: "Search the history"},
      {keys: ["a", "d"], does: "Allow or deny, on a request"},
    ],
  },
]

const PLAIN: Readonly<Record<string, Action>> = {
  "?": "keys", "g": "switch", "n": "start", "[": "previous", "]": "next", "t": "terminal", "l": "list",
}

/** What a key does now; null leaves it to whatever has the focus. */
export function actionOf({key, ctrlKey, metaKey, altKey, typing, inTerminal}: Pressed): Action | null {
  if (key === "F6") return "terminal"
  // Ctrl K is the program's while one types into its terminal; the Mac's command key never is.
  if (key.toLowerCase() === "k" && !altKey && (metaKey || (ctrlKey && !inTerminal))) return "switch"
  if (typing || ctrlKey || metaKey || altKey) return null
  return PLAIN[key] ?? null
}
