import "./styles/base.css"
import {StrictMode} from "react"
import {createRoot} from "react-dom/client"
import {App} from "./app.js"
import {applyTheme, readTheme} from "./ui/theme.js"

applyTheme(readTheme(localStorage))

createRoot(document.getElementById("root") as HTMLElement).render(
  <StrictMode>
    <App />
  </StrictMode>,
)
