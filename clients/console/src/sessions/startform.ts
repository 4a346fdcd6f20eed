/** What the start dialog takes and remembers. Pure but for the storage that it is given. */

import type {StartOptions} from "claude-bridge-client"

export const BACKENDS = [
  {id: "headless", label: "Headless", good: "Claude Code without a screen. The default; starts fastest."},
  {id: "tmux", label: "Terminal", good: "Claude Code's own screen in tmux: watch it, type into it, attach to it."},
  {id: "api", label: "API", good: "The model alone, without tools or a folder. Needs an API key on the bridge."},
] as const

export type BackendId = (typeof BACKENDS)[number]["id"]

export const MODES = [
  {id: "default", label: "Ask before changes"},
  {id: "acceptEdits", label: "Accept edits, ask for the rest"},
  {id: "plan", label: "Plan only, change nothing"},
  {id: "auto", label: "Auto: Claude judges what is safe"},
  {id: "dontAsk", label: "Do not ask: refuse what is not allowed"},
  {id: "bypassPermissions", label: "Allow everything (token of scope admin)"},
] as const

export const MODELS = ["sonnet", "opus", "haiku"]

export interface Choices {
  readonly name: string
  readonly backend: BackendId
  readonly cwd: string
  readonly model: string
  readonly mode: string
}

export const FIRST: Choices = {name: "", backend: "headless", cwd: "", model: "", mode: ""}

/** What is wrong with a name, in the bridge's own rule; null where nothing is. */
export function nameProblem(name: string): string | null {
  if (name === "") return "A session needs a name."
  if (!/^[A-Za-z0-9]/.test(name)) return "A name begins with a letter or digit."
  if (!/^[A-Za-z0-9_-]+$/.test(name)) return "A name has letters, digits, “-” and “_” only."
  return name.length > 64 ? "A name has 64 characters at most." : null
}

/** Only what was chosen: what is left empty is the bridge's to decide. */
export function optionsOf({backend, cwd, model, mode}: Choices): StartOptions {
  const ofProcess = backend === "api" ? {} : {...(cwd.trim() && {cwd: cwd.trim()}), ...(mode && {permission_mode: mode})}
  return {backend, ...ofProcess, ...(model.trim() && {model: model.trim()})}
}

const KEPT = "claude-bridge.start"

export function remembered(storage: Pick<Storage, "getItem">): Choices {
  try {
    const kept = JSON.parse(storage.getItem(KEPT) ?? "{}") as Partial<Record<keyof Choices, unknown>>
    const text = (value: unknown): string => (typeof value === "string" ? value : "")
    const backend = BACKENDS.find((b) => b.id === kept.backend)?.id ?? FIRST.backend
    return {name: "", backend, cwd: text(kept.cwd), model: text(kept.model), mode: text(kept.mode)}
  } catch {
    return FIRST
  }
}

export function remember({name: _, ...choices}: Choices, storage: Pick<Storage, "setItem">): void {
  storage.setItem(KEPT, JSON.stringify(choices))
}
