import {useEffect, useState} from "react"
import type {Bridge} from "claude-bridge-client"
import {LinkProvider, openBridge, readToken} from "./link.js"
import {Shell} from "./shell.js"
import {SignIn} from "./signin.js"

/** Signed in or not; everything else is the shell's. */
export function App() {
  const [bridge, setBridge] = useState<Bridge | null>(() => (readToken() === null ? null : openBridge()))
  useEffect(() => () => bridge?.close(), [bridge])

  if (bridge === null) return <SignIn onToken={() => setBridge(openBridge())} />
  return (
    <LinkProvider value={bridge}>
      <Shell onSignOut={() => setBridge(null)} />
    </LinkProvider>
  )
}
