import type {ITheme} from "@xterm/xterm"

/** Both have a contrast of 4.5 : 1 at least for every colour but the one that is the ground itself. */
export const PALETTES: Readonly<Record<"light" | "dark", ITheme>> = {
  light: {
    background: "#ffffff", foreground: "#1d1c1a", cursor: "#a8481f", cursorAccent: "#ffffff",
    selectionBackground: "#cfe0f7", selectionInactiveBackground: "#e4e2de",
    black: "#1d1c1a", red: "#b3261e", green: "#1d6f3f", yellow: "#855400",
    blue: "#1f5fbf", magenta: "#8a3a93", cyan: "#0b6b78", white: "#6b6963",
    brightBlack: "#5c5a55", brightRed: "#c4322a", brightGreen: "#237a47", brightYellow: "#8f5b00",
    brightBlue: "#2a6acb", brightMagenta: "#9a45a3", brightCyan: "#117684", brightWhite: "#1d1c1a",
  },
  dark: {
    background: "#131314", foreground: "#e9e8e6", cursor: "#e08a5f", cursorAccent: "#131314",
    selectionBackground: "#2f4868", selectionInactiveBackground: "#33333a",
    black: "#131314", red: "#f28b82", green: "#6cc78f", yellow: "#e0b25c",
    blue: "#8ab4f8", magenta: "#d7a3e0", cyan: "#74c7d4", white: "#cfcdc9",
    brightBlack: "#8d8b86", brightRed: "#f6a59e", brightGreen: "#8bd6a8", brightYellow: "#eac57f",
    brightBlue: "#a8c7fa", brightMagenta: "#e3bbea", brightCyan: "#93d6e0", brightWhite: "#ffffff",
  },
}

/** What is on the page now: what was chosen, else what the system prefers. */
export function paletteNow(): ITheme {
  const chosen = document.documentElement.dataset["theme"]
  if (chosen === "light" || chosen === "dark") return PALETTES[chosen]
  return PALETTES[matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"]
}
