import "./page.css"
import {lazy, Suspense, useCallback, useEffect, useRef, useState} from "react"
import type {BridgeError} from "claude-bridge-client"
import {useConnection, useLobby, useSession} from "../link.js"
import {hrefOf, takeLanding} from "../route.js"
import {TerminalPane} from "../terminal/pane.js"
import {isBoolean, isShare, useKept} from "../ui/kept.js"
import {useMedia} from "../ui/media.js"
import {Splitter} from "../ui/splitter.js"
import {useKeys} from "../ui/use-keys.js"
import {noteRejoin} from "../ui/connection-line.js"
import {SessionHeader} from "./header.js"

/** A third of the page's script, which its first paint does not wait for. */
export const loadConversation = () => import("../conversation/conversation.js")
const Conversation = lazy(() => loadConversation().then((module) => ({default: module.Conversation})))

interface Props {
  readonly name: string
  readonly onStart: (name: string) => void
}

/** A session that is deleted and made anew under its name is another one: it is joined from the beginning. */
export function SessionPage(props: Props) {
  const lobby = useLobby()
  const isListed = lobby.status === "live" ? lobby.list.some((s) => s.name === props.name) : null
  const [life, setLife] = useState({wasListed: isListed, number: 0})
  if (isListed !== null && life.wasListed !== isListed) {
    setLife({wasListed: isListed, number: isListed && life.wasListed === false ? life.number + 1 : life.number})
  }
  return <Joined key={life.number} {...props} />
}

function Joined({name, onStart}: Props) {
  const [state, session] = useSession(name)
  const lobby = useLobby()
  const connection = useConnection()
  const page = useRef<HTMLDivElement>(null)
  const info = state.session ?? lobby.list.find((s) => s.name === name) ?? null
  const hasTerminal = info?.backend === "tmux"
  const isNarrow = useMedia("(width < 1100px)")
  const [isWanted, setWanted] = useKept("terminal", true, isBoolean)
  const [share, setShare] = useKept("split", 0.5, isShare)
  const [tab, setTab] = useState<"conversation" | "terminal">("conversation")
  const [wantsTerminal, setWantsTerminal] = useState(false)
  const terminalFocused = useCallback(() => setWantsTerminal(false), [])
  const showsTerminal = hasTerminal && state.status !== "ended" && (isNarrow ? tab === "terminal" : isWanted)
  const showsConversation = !(isNarrow && showsTerminal)

  useEffect(() => noteRejoin(session), [session])
  const arrived = useCallback(() => land(page.current, takeLanding()), [])

  const leaveTerminal = (): void => {
    if (isNarrow) setTab("conversation")
    requestAnimationFrame(() => land(page.current, "composer"))
  }
  useKeys((action) => {
    if (action !== "terminal" || !hasTerminal) return false
    if (page.current?.querySelector(".xterm")?.contains(document.activeElement) === true) {
      leaveTerminal()
      return true
    }
    if (isNarrow) setTab("terminal")
    else setWanted(true)
    setWantsTerminal(true)
    return true
  })

  if (info === null && state.status === "ended") {
    return (
      <div className="nothing">
        <p><a href={hrefOf(null)}>All sessions</a></p>
        <h1 tabIndex={-1}>{name}</h1>
        {state.error?.code === "session_not_found"
          ? (
            <>
              <p>There is no session of this name.</p>
              <p><button className="primary" onClick={() => onStart(name)}>Start {name}</button></p>
            </>
          )
          : <p>{state.error?.message ?? "This session cannot be shown."}</p>}
      </div>
    )
  }
  const toggle = (): void => {
    if (isNarrow) setTab(showsTerminal ? "conversation" : "terminal")
    else setWanted(!isWanted)
  }
  return (
    <div className="session" ref={page}>
      {info === null
        ? <header className="session-head"><h1 tabIndex={-1}>{name}</h1></header>
        : (
          <SessionHeader
            info={info} session={session} presence={state.presence} onStart={() => onStart(name)}
            ended={state.status === "ended" ? endedOf(state.error) : null}
            terminal={hasTerminal && !isNarrow ? {isShown: showsTerminal, toggle} : null}
          />
        )}
      {hasTerminal && isNarrow && (
        <div className="tabs" role="group" aria-label="Show">
          <button aria-pressed={showsConversation} onClick={() => setTab("conversation")}>Conversation</button>
          <button aria-pressed={showsTerminal} onClick={() => setTab("terminal")}>Terminal</button>
        </div>
      )}
      <div className="session-body">
        <div className="pane" hidden={!showsConversation} style={{flexGrow: showsTerminal && !isNarrow ? share * 100 : 1}}>
          <Suspense>
            <Conversation name={name} />
            <Arrival onArrived={arrived} />
          </Suspense>
        </div>
        {showsTerminal && !isNarrow && <Splitter share={share} onShare={setShare} label="Width of the conversation" />}
        {showsTerminal && (
          <div className="pane" style={{flexGrow: isNarrow ? 1 : (1 - share) * 100}}>
            <TerminalPane
              name={name} wantsFocus={wantsTerminal} onFocused={terminalFocused} onLeave={leaveTerminal}
              isConnected={connection.status === "open"}
              isRunning={info.state !== "stopped" && info.state !== "failed"}
            />
          </div>
        )}
      </div>
    </div>
  )
}

/** Beside what is loaded: told when that is there. */
function Arrival({onArrived}: {onArrived: () => void}) {
  useEffect(onArrived, [onArrived])
  return null
}

function endedOf(error: BridgeError | null): string {
  return error === null || error.code === "closed" ? "This session was deleted." : error.message
}

/** A finger gets no keyboard that it did not ask for. */
function land(page: HTMLElement | null, where: "composer" | "heading"): void {
  const composer = page?.querySelector<HTMLElement>(".pane textarea:not(.xterm-helper-textarea)")
  const wantsComposer = where === "composer" && !matchMedia("(pointer: coarse)").matches
  const target = wantsComposer && composer ? composer : page?.querySelector<HTMLElement>("h1")
  target?.focus({preventScroll: true})
}
