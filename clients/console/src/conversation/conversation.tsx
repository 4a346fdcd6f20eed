import "./conversation.css"
import {useCallback, useEffect, useMemo, useRef, useState} from "react"
import type {Session} from "claude-bridge-client"
import {useSession} from "../link.js"
import {Composer} from "./composer/composer.js"
import {isEmpty} from "./composer/draft.js"
import {useComposer, type Composing} from "./composer/use-composer.js"
import {Folds, FoldsProvider} from "./folds.js"
import {Queue} from "./queue.js"
import {Requests} from "./requests/pinned.js"
import {Announcer, Standing} from "./status.js"
import type {Notice} from "./transcript/rows.js"
import {Transcript} from "./transcript/transcript.js"

/** So long after a key somebody is still writing, even if the box is empty. */
const WRITING_MS = 1500

/** One session's turns, what waits for an answer, and where the next prompt is written. */
export function Conversation({name}: {name: string}) {
  const [attempt, setAttempt] = useState(0)
  return <Opened key={`${name}/${attempt}`} name={name} onAgain={() => setAttempt(attempt + 1)} />
}

function Opened({name, onAgain}: {name: string, onAgain: () => void}) {
  const [state, session] = useSession(name)
  const folds = useMemo(() => new Folds(), [])
  const notices = useNotices(session)
  const composing = useComposer(session, state.session?.backend)
  const box = useRef<HTMLTextAreaElement>(null)
  const [isSearching, setSearching] = useState(false)
  useSearchKeys(useCallback(() => setSearching(true), []))
  const closeSearch = useCallback(() => {
    setSearching(false)
    box.current?.focus()
  }, [])
  const isWriting = (): boolean => writes(composing, box.current)
  const drop = useDrop(composing)
  const isEmptySession = state.status === "live" && state.turns.length === 0 && state.open === null && state.queue.length === 0

  return (
    <FoldsProvider value={folds}>
      <section className="conversation" aria-label={`Conversation ${name}`} data-dropping={drop.over || undefined} {...drop.handlers}>
        {state.session === null && state.status === "joining"
          ? <div className="transcript"><p className="conversation-empty">Opening {name}</p></div>
          : <Transcript session={session} state={state} notices={notices} isSearching={isSearching} onSearchClosed={closeSearch} />}
        {isEmptySession && <p className="conversation-empty">Nothing was said yet.</p>}
        <div className="conversation-foot">
          <Standing state={state} onAgain={onAgain} />
          <Requests session={session} state={state} isWriting={isWriting} onDone={useCallback(() => refocus(box.current), [])} />
          <Queue session={session} queue={state.queue} />
          {state.status !== "ended" && <Composer composing={composing} state={state} box={box} />}
        </div>
        <Announcer state={state} />
      </section>
    </FoldsProvider>
  )
}

/** Where the bridge told the whole state anew, as after its restart: what stands above was shown before that. */
function useNotices(session: Session): readonly Notice[] {
  const [notices, setNotices] = useState<readonly Notice[]>([])
  useEffect(() => {
    let isFirst = session.state.session === null
    return session.on("joined", ({recovered, state}) => {
      if (!recovered && !isFirst) {
        const after = state.turns.at(-1)?.id ?? null
        setNotices((before) => [...before.filter((n) => n.after !== after), {after, says: "The bridge was restarted; shown anew"}])
      }
      isFirst = false
    })
  }, [session])
  return notices
}

function writes(composing: Composing, box: HTMLTextAreaElement | null): boolean {
  const active = document.activeElement
  const elsewhere = active !== box && active?.matches("input, textarea, select, [contenteditable]") === true
  return elsewhere || !isEmpty(composing.draft) || performance.now() - composing.typedAt.current < WRITING_MS
}

/** The card that had the focus is gone: writing goes on. */
function refocus(box: HTMLTextAreaElement | null): void {
  if (document.activeElement === document.body || document.activeElement === null) box?.focus({preventScroll: true})
}

function useSearchKeys(open: () => void): void {
  useEffect(() => {
    const pressed = (event: KeyboardEvent): void => {
      const target = event.target as HTMLElement
      if (event.defaultPrevented || target.closest(".xterm, dialog") !== null) return
      const isFind = (event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey && event.key.toLowerCase() === "f"
      const isSlash = event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey && !target.matches("input, textarea, select, [contenteditable]")
      if (!isFind && !isSlash) return
      event.preventDefault()
      open()
      document.querySelector<HTMLInputElement>(".search input")?.select()
    }
    document.addEventListener("keydown", pressed)
    return () => document.removeEventListener("keydown", pressed)
  }, [open])
}

function useDrop(composing: Composing) {
  const [over, setOver] = useState(false)
  const hasFiles = (event: React.DragEvent): boolean => event.dataTransfer.types.includes("Files")
  return {
    over,
    handlers: {
      onDragOver: (event: React.DragEvent) => {
        if (!hasFiles(event)) return
        event.preventDefault()
        setOver(true)
      },
      onDragLeave: (event: React.DragEvent) => {
        if (!event.currentTarget.contains(event.relatedTarget as Node | null)) setOver(false)
      },
      onDrop: (event: React.DragEvent) => {
        setOver(false)
        if (!hasFiles(event)) return
        event.preventDefault()
        composing.add(Array.from(event.dataTransfer.files))
      },
    },
  }
}
