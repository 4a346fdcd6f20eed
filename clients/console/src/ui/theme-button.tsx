import {useSyncExternalStore} from "react"
import {chooseTheme, theme, themeAfter} from "./theme.js"

const WORDS = {system: "as the system", light: "light", dark: "dark"}

export function ThemeButton() {
  const chosen = useSyncExternalStore(theme.subscribe, theme.get)
  return (
    <button
      className="quiet icon" aria-label={`Theme: ${WORDS[chosen]}`} title={`Theme: ${WORDS[chosen]}`}
      onClick={() => chooseTheme(themeAfter(chosen))}
    >
      <svg viewBox="0 0 16 16" aria-hidden="true">
        {chosen === "light" && <path d="M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM8 1v1.500M8 13.500V15M1 8h1.500M13.500 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1" />}
        {chosen === "dark" && <path d="M13.500 9.500A6 6 0 0 1 6.500 2.500a6 6 0 1 0 7 7z" />}
        {chosen === "system" && <><path d="M8 2a6 6 0 1 0 0 12a6 6 0 1 0 0-12z" /><path d="M8 2a6 6 0 0 0 0 12z" className="half" /></>}
      </svg>
    </button>
  )
}
