/** Light, dark, or as the system prefers it: on the root, so that the tokens follow, and kept for the next time. */

import {Observed} from "./observed.js"

export type Theme = "system" | "light" | "dark"

const KEPT = "claude-bridge.theme"
const ORDER: readonly Theme[] = ["system", "light", "dark"]

export const theme = new Observed<Theme>("system")

export function readTheme(storage: Pick<Storage, "getItem">): Theme {
  const kept = storage.getItem(KEPT)
  return ORDER.find((each) => each === kept) ?? "system"
}

/** Before the first paint. */
export function applyTheme(chosen: Theme): void {
  const root = document.documentElement
  if (chosen === "system") delete root.dataset["theme"]
  else root.dataset["theme"] = chosen
  theme.set(chosen)
}

export function chooseTheme(chosen: Theme): void {
  localStorage.setItem(KEPT, chosen)
  applyTheme(chosen)
}

export function themeAfter(chosen: Theme): Theme {
  return ORDER[(ORDER.indexOf(chosen) + 1) % ORDER.length] ?? "system"
}
