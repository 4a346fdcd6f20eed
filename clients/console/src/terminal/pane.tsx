import "./pane.css"
import {useEffect, useRef, useState, useSyncExternalStore} from "react"
import {BridgeError, type Terminal} from "claude-bridge-client"
import {useBridge} from "../link.js"
import {failureOf} from "../ui/failure.js"
import {isBoolean, useKept} from "../ui/kept.js"
import {attempt} from "../ui/notices.js"
import {theme} from "../ui/theme.js"
import type {Screen} from "./screen.js"

interface Props {
  readonly name: string
  /** The terminal is to have the focus, which is said to be done with `onFocused`. */
  readonly wantsFocus: boolean
  readonly onFocused: () => void
  readonly onLeave: () => void
  readonly isConnected: boolean
  readonly isRunning: boolean
}

interface Shown {
  readonly size: {readonly cols: number, readonly rows: number} | null
  /** Part of it is out of view. */
  readonly isCut: boolean
  /** Why nothing more comes; null while it does. */
  readonly ended: string | null
  /** Why what is typed does not arrive. */
  readonly refusal: string | null
}

const EMPTY: Shown = {size: null, isCut: false, ended: null, refusal: null}

/** The live terminal of a tmux session. */
export function TerminalPane({name, wantsFocus, onFocused, onLeave, isConnected, isRunning}: Props) {
  const bridge = useBridge()
  const host = useRef<HTMLDivElement>(null)
  const screen = useRef<Screen | null>(null)
  const terminal = useRef<Terminal | null>(null)
  const isWanted = useRef(wantsFocus)
  const leave = useRef(onLeave)
  const [shown, setShown] = useState(EMPTY)
  const [tries, setTries] = useState(0)
  const [readsAloud, setReadsAloud] = useKept("terminal-aloud", false, isBoolean)
  const chosen = useSyncExternalStore(theme.subscribe, theme.get)

  useEffect(() => {
    leave.current = onLeave
  })

  useEffect(() => {
    if (!isRunning) return
    const change = (what: Partial<Shown>): void => setShown((before) => ({...before, ...what}))
    const typed = async (what: string | Uint8Array): Promise<void> => {
      try {
        await terminal.current?.input(what)
        change({refusal: null})
      } catch (error) {
        if (error instanceof BridgeError && error.code === "closed") return
        const isForbidden = error instanceof BridgeError && error.code === "forbidden"
        if (isForbidden) screen.current?.readOnly(true)
        change({refusal: isForbidden ? `Read only. ${failureOf(error)}` : `Not typed: ${failureOf(error)}`})
      }
    }
    let over = false
    let close = (): void => undefined
    setShown(EMPTY)
    void import("./screen.js").then(({Screen}) => {
      if (over || host.current === null) return
      const made = new Screen(host.current, {
        typed: (what) => void typed(what),
        leave: () => leave.current(),
        fits: (all) => change({isCut: !all}),
      })
      const live = bridge.terminal(name)
      screen.current = made
      terminal.current = live
      const offs = [
        live.on("screen", (picture) => {
          made.paint(picture)
          change({size: {cols: picture.cols, rows: picture.rows}, ended: null})
        }),
        live.on("output", (bytes) => made.output(bytes)),
        live.on("lost", () => {
          // Whoever comes back may come with another token.
          made.readOnly(false)
          change({refusal: null})
        }),
        live.on("ended", (error) => {
          if (error.code !== "closed" || !over) change({ended: failureOf(error)})
        }),
      ]
      close = () => {
        for (const off of offs) off()
        live.close()
        made.close()
        screen.current = null
        terminal.current = null
      }
      made.readAloud(readsAloud)
      if (isWanted.current) made.focus()
      isWanted.current = false
    }, (error: unknown) => change({ended: failureOf(error)}))
    return () => {
      over = true
      close()
    }
    // How it is read is told to the screen that is there; it does not need another one.
  }, [bridge, name, isRunning, tries])

  useEffect(() => {
    if (!wantsFocus) return
    // Where it is not there yet, it is given the focus once it is.
    isWanted.current = screen.current === null
    screen.current?.focus()
    onFocused()
  }, [wantsFocus, onFocused])
  useEffect(() => screen.current?.readAloud(readsAloud), [readsAloud])
  useEffect(() => {
    const themed = (): void => screen.current?.themed()
    themed()
    const prefers = matchMedia("(prefers-color-scheme: dark)")
    prefers.addEventListener("change", themed)
    return () => prefers.removeEventListener("change", themed)
  }, [chosen])

  const fit = (): void => {
    const room = screen.current?.room()
    if (room) void attempt(async () => terminal.current?.resize(room.cols, room.rows))
  }
  const says = !isRunning ? "The session does not run: there is no terminal."
    : shown.ended ?? (isConnected ? shown.refusal : "Not connected: this is how it was.")
  const isDim = !isConnected || !isRunning || shown.ended !== null
  return (
    <section className="terminal" aria-label={`Terminal ${name}`}>
      <div className="terminal-bar">
        <span className="terminal-size">{shown.size ? `${shown.size.cols} × ${shown.size.rows}` : "…"}</span>
        <button
          className={shown.isCut ? undefined : "quiet"} disabled={isDim} onClick={fit}
          title="Give the process the size of this window; everybody sees it so."
        >
          Fit to this window
        </button>
        <label className="terminal-aloud">
          <input type="checkbox" checked={readsAloud} onChange={(event) => setReadsAloud(event.target.checked)} />
          Screen reader
        </label>
        <span className="terminal-leave"><kbd>F6</kbd> leaves</span>
      </div>
      {says !== null && (
        <p className="terminal-says" role="status">
          <span>{says}</span>
          {isRunning && shown.ended !== null && <button onClick={() => setTries(tries + 1)}>Try again</button>}
        </p>
      )}
      <div ref={host} className="terminal-host" data-dim={isDim} />
      <div className="terminal-keys" role="group" aria-label="Keys">
        {KEYS.map(([label, bytes]) => (
          <button
            key={label} disabled={isDim}
            // The keyboard that a phone shows stays as it is.
            onPointerDown={(event) => event.preventDefault()}
            onClick={() => void attempt(async () => terminal.current?.input(bytes))}
          >
            {label}
          </button>
        ))}
      </div>
    </section>
  )
}

/** What a phone's keyboard has not. */
const KEYS: readonly (readonly [string, string])[] = [
  ["Esc", "\x1b"], ["Tab", "\t"], ["⇧Tab", "\x1b[Z"], ["↑", "\x1b[A"], ["↓", "\x1b[B"], ["←", "\x1b[D"], ["→", "\x1b[C"],
  ["Enter", "\r"], ["Ctrl C", "\x03"],
]
