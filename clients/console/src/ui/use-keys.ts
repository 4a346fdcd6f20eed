import {useEffect, useRef} from "react"
import {actionOf, type Action} from "./keys.js"

/** Acts on the page's keys while it is shown; not while a dialog is open, which has its own. */
export function useKeys(act: (action: Action) => boolean): void {
  const latest = useRef(act)
  useEffect(() => {
    latest.current = act
  })
  useEffect(() => {
    const pressed = (event: KeyboardEvent): void => {
      if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return
      const target = event.target instanceof Element ? event.target : null
      const inTerminal = target?.closest(".xterm") != null
      const typing = target?.closest("input, textarea, select, [contenteditable=true]") != null
      const {key, ctrlKey, metaKey, altKey} = event
      const action = actionOf({key, ctrlKey, metaKey, altKey, typing, inTerminal})
      if (action !== null && latest.current(action)) event.preventDefault()
    }
    addEventListener("keydown", pressed)
    return () => removeEventListener("keydown", pressed)
  }, [])
}
