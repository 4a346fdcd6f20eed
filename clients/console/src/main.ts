/** What is there at once: the look, and the name in its place. All else is read while that is on the screen. */

import "./styles/base.css"
import "./opening.css"
import {applyTheme, readTheme} from "./ui/theme.js"

/** A page in the background paints nothing, and is not to wait for that. */
const PAINTED_MS = 100

applyTheme(readTheme(localStorage))

let begun = false
const start = (): void => {
  if (begun) return
  begun = true
  import("./start.js").catch((error: unknown) => {
    const opening = document.querySelector(".opening")
    if (opening !== null) opening.textContent = `The console could not be loaded; reload the page. (${String(error)})`
  })
}

requestAnimationFrame(() => setTimeout(start))
setTimeout(start, PAINTED_MS)
