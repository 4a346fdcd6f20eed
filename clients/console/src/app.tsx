import {useEffect, useState} from "react"
import type {Bridge} from "claude-bridge-client"
import {LinkProvider, openBridge, useConnection, useLobby} from "./link.js"
import {Shell} from "./shell.js"
import {SignIn} from "./signin.js"
import {keepToken, readToken, takeToken} from "./token.js"

/** Signed in or not; everything else is the shell's. */
export function App() {
  const [bridge, setBridge] = useState<Bridge | null>(() => (readToken() === null ? null : openBridge()))

  // Another token came with the address while the page was open: it takes over.
  useEffect(() => {
    const changed = (): void => {
      if (!takeToken()) return
      if (bridge === null) setBridge(openBridge())
      else bridge.reconnect()
    }
    addEventListener("hashchange", changed)
    return () => removeEventListener("hashchange", changed)
  }, [bridge])

  const signIn = (token: string): void => {
    keepToken(token)
    if (bridge === null) setBridge(openBridge())
    else bridge.reconnect()
  }
  const signOut = (): void => {
    keepToken(null)
    bridge?.close()
    setBridge(null)
  }

  if (bridge === null) return <SignIn onToken={signIn} />
  return (
    <LinkProvider value={bridge}>
      <SignedIn onToken={signIn} onSignOut={signOut} />
    </LinkProvider>
  )
}

/** A token that never counted is asked for anew; where it once did, what is on the screen stays readable. */
function SignedIn({onToken, onSignOut}: {onToken: (token: string) => void, onSignOut: () => void}) {
  const {status, reason} = useConnection()
  const {node} = useLobby()
  if (status === "refused" && node === null) return <SignIn onToken={onToken} refused={reason ?? "The bridge refused the token."} />
  return <Shell onToken={onToken} onSignOut={onSignOut} />
}
