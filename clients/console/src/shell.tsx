import "./shell.css"
import {useEffect, useMemo, useRef, useState} from "react"
import {useConnection, useLobby} from "./link.js"
import {go, useRoute} from "./route.js"
import {Empty, Welcome} from "./sessions/empty.js"
import {SessionList} from "./sessions/list.js"
import {asking, beside, listed} from "./sessions/order.js"
import {loadConversation, SessionPage} from "./sessions/page.js"
import {StartDialog} from "./sessions/start.js"
import {Switcher} from "./sessions/switcher.js"
import {Mark} from "./signin.js"
import {ConnectionLine} from "./ui/connection-line.js"
import {KeysDialog} from "./ui/keys-dialog.js"
import {useMedia} from "./ui/media.js"
import {Notices} from "./ui/notices.js"
import {ThemeButton} from "./ui/theme-button.js"
import {titleOf} from "./ui/title.js"
import {useKeys} from "./ui/use-keys.js"

interface Props {
  readonly onToken: (token: string) => void
  readonly onSignOut: () => void
}

const PRELOAD_MS = 100

type Open = {readonly what: "keys" | "switch"} | {readonly what: "start", readonly name: string}

export function Shell({onToken, onSignOut}: Props) {
  const name = useRoute()
  const lobby = useLobby()
  const connection = useConnection()
  const isPhone = useMedia("(width < 720px)")
  const [filter, setFilter] = useState("")
  const [open, setOpen] = useState<Open | null>(null)
  const nav = useRef<HTMLElement>(null)
  const sessions = useMemo(() => listed(lobby.list, filter), [lobby.list, filter])
  const asks = asking(lobby.list)
  const start = (called = ""): void => setOpen({what: "start", name: called})
  const close = (): void => setOpen(null)

  useEffect(() => {
    document.title = titleOf(asks, name)
  }, [asks, name])

  useEffect(() => {
    // Behind the first paint; a session that is opened later waits for nothing.
    const timer = setTimeout(() => void loadConversation().catch(() => undefined), PRELOAD_MS)
    return () => clearTimeout(timer)
  }, [])

  useKeys((action) => {
    switch (action) {
      case "keys":
      case "switch":
        setOpen({what: action})
        return true
      case "start":
        start()
        return true
      case "previous":
      case "next": {
        const to = beside(sessions, name, action === "next" ? 1 : -1)
        if (to !== null) go(to, "heading")
        return true
      }
      case "list":
        nav.current?.querySelector<HTMLElement>("a.session-row[tabindex='0']")?.focus()
        return true
      default:
        return false
    }
  })

  const isEmpty = lobby.status === "live" && lobby.list.length === 0
  // On a phone the list is a page of its own, and then it is what the page is about.
  const isAlone = isPhone && name === null && !isEmpty
  return (
    <div className="shell" data-page={name === null ? "list" : "session"} data-empty={isEmpty}>
      <button className="skip" onClick={() => document.querySelector<HTMLElement>("main h1")?.focus()}>Skip to the session</button>
      <div className="shell-top">
        <ConnectionLine onToken={onToken} />
        <Notices />
      </div>
      <div className="side" role={isAlone ? "main" : undefined}>
        <nav ref={nav} className="sessions" aria-label="Sessions">
          <header className="sessions-head">
            <Mark />
            <span className="sessions-title" role={isAlone ? "heading" : undefined} aria-level={isAlone ? 1 : undefined}>claude-bridge</span>
            <ThemeButton />
            <button className="quiet icon" aria-label="Keys" title="Keys (?)" onClick={() => setOpen({what: "keys"})}>
              <svg viewBox="0 0 16 16" aria-hidden="true"><path d="M1.500 4h13v8h-13zM4 6.500h.01M6.500 6.500h.01M9 6.500h.01M11.500 6.500h.01M4.500 9.500h7" /></svg>
            </button>
          </header>
          <div className="sessions-tools">
            <input
              type="search" aria-label="Filter sessions" placeholder="Filter" value={filter} spellCheck={false}
              onChange={(event) => setFilter(event.target.value)}
              onKeyDown={(event) => {
                if (event.key === "Escape") setFilter("")
                if (event.key === "ArrowDown" || event.key === "Enter") {
                  event.preventDefault()
                  const first = nav.current?.querySelector<HTMLElement>("a.session-row")
                  if (event.key === "Enter") first?.click()
                  else first?.focus()
                }
              }}
            />
            <button className="primary" title="Start a session (n)" onClick={() => start()}>New</button>
          </div>
          {asks > 0 && <p className="asks" role="status">{asks === 1 ? "1 session asks you." : `${asks} sessions ask you.`}</p>}
          <SessionList sessions={sessions} current={name} />
          {lobby.error !== null && connection.status !== "refused" && (
            <p className="sessions-note failure" role="alert">{lobby.error.message}</p>
          )}
          {lobby.status === "joining" && lobby.error === null && <p className="sessions-note">Loading…</p>}
          {sessions.length === 0 && lobby.list.length > 0 && <p className="sessions-note" role="status">No session is like that.</p>}
          <footer className="sessions-foot">
            <Where />
            <button className="quiet" onClick={onSignOut}>Sign out</button>
          </footer>
        </nav>
      </div>
      <main>
        {name !== null ? <SessionPage key={name} name={name} onStart={start} />
          : isEmpty ? <Empty onStart={() => start()} /> : <Welcome asks={asks} />}
      </main>
      {open?.what === "keys" && <KeysDialog onClose={close} />}
      {open?.what === "switch" && <Switcher sessions={lobby.list} onClose={close} />}
      {open?.what === "start" && <StartDialog name={open.name} onClose={close} />}
    </div>
  )
}

function Where() {
  const {status} = useConnection()
  const {version, node} = useLobby()
  return (
    <span className="where" title={node === null ? undefined : `Bridge ${node}, version ${version}`}>
      {status === "open" ? "Connected" : status === "reconnecting" ? "Reconnecting…" : status === "connecting" ? "Connecting…" : "Not connected"}
    </span>
  )
}
