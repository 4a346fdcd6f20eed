import "./transcript.css"
import {useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState, useSyncExternalStore} from "react"
import {Virtualizer, type VirtualizerHandle} from "virtua"
import type {Session, SessionState} from "claude-bridge-client"
import {useFolds} from "../folds.js"
import {SearchBar} from "../search/bar.js"
import {mark, unmark} from "../search/marks.js"
import type {Hit} from "../search/search.js"
import {useSearch} from "../search/use-search.js"
import {count} from "../tools/text.js"
import {RowView} from "./row.js"
import {RowModel, type Notice, type Row} from "./rows.js"
import {Scrollback} from "./scrollback.js"

/** The height of what stands above the first row; older turns are fetched when it is nearly in view. */
const TOP = 36
const NEAR_TOP = 600
/** So near to the end is at the end. */
const NEAR_END = 40

interface Props {
  readonly session: Session
  readonly state: SessionState
  readonly notices: readonly Notice[]
  readonly isSearching: boolean
  readonly onSearchClosed: () => void
}

export function Transcript({session, state, notices, isSearching, onSearchClosed}: Props) {
  const scroller = useRef<HTMLDivElement>(null)
  const list = useRef<VirtualizerHandle>(null)
  const scrollback = useMemo(() => new Scrollback(session), [session])
  useSyncExternalStore(scrollback.subscribe, scrollback.version)
  const rows = useRows(scrollback, state, notices)
  const shift = useShift(rows)
  const end = useEnd(scroller, rows)

  /** Older turns are fetched when somebody comes near them, and where all that is there does not fill the page. */
  const fill = (): void => {
    const element = scroller.current
    if (element === null || scrollback.older !== "more" || state.status !== "live") return
    const isFull = element.scrollHeight > element.clientHeight + NEAR_TOP
    if (element.scrollTop < NEAR_TOP && (!end.isAt() || !isFull)) void scrollback.load()
  }
  const go = useGo(rows, list, end.leave)
  const searching = useSearch(rows, scrollback, isSearching, go)
  useMarks(scroller, isSearching ? searching.query : "", searching.now, rows)

  return (
    <>
      {isSearching && (
        <SearchBar
          query={searching.query} hits={searching.hits} now={searching.now} loading={scrollback.older === "loading"}
          onQuery={searching.setQuery} onStep={searching.step} onClose={onSearchClosed}
        />
      )}
      <div className="transcript">
        <div className="transcript-scroll" ref={scroller} tabIndex={0} role="region" aria-label="Transcript">
          <div className="transcript-top">{topSays(scrollback, rows)}</div>
          <Virtualizer
            ref={list} scrollRef={scroller} data={rows} shift={shift} startMargin={TOP} itemSize={60} bufferSize={400}
            onScroll={(offset) => {
              end.scrolled()
              fill()
              if (end.isAt() && offset > NEAR_TOP) scrollback.trim()
            }}
            onResize={() => {
              end.follow()
              fill()
            }}
          >
            {(row: Row) => <RowView key={row.key} row={row} session={session.name} cwd={state.session?.cwd ?? null} />}
          </Virtualizer>
        </div>
        {!end.at && (
          <button type="button" className="latest" onClick={end.jump}>
            Jump to latest{end.fresh > 0 && <span>{count(end.fresh, "new part")}</span>}
          </button>
        )}
      </div>
    </>
  )
}

function topSays(scrollback: Scrollback, rows: readonly Row[]): string {
  if (scrollback.older === "loading") return "Fetching older turns"
  if (scrollback.older === "failed") return `Older turns could not be fetched: ${scrollback.error}`
  return scrollback.older === "none" && rows.length > 0 ? "This is the beginning." : ""
}

function useRows(scrollback: Scrollback, state: SessionState, notices: readonly Notice[]): readonly Row[] {
  const folds = useFolds()
  const model = useMemo(() => new RowModel(), [])
  const version = useSyncExternalStore(folds.subscribe, folds.version)
  const turns = scrollback.turns(state.turns)
  return useMemo(
    () => model.build(turns, state.open, notices, folds.isOpen, version),
    [model, turns, state.open, notices, folds, version],
  )
}

/** Whether rows came or went at the beginning, so that what is in view stays where it is. */
function useShift(rows: readonly Row[]): boolean {
  const before = useRef<readonly Row[]>(rows)
  const first = before.current[0]?.key
  const last = before.current.at(-1)?.key
  const shift = first !== undefined && first !== rows[0]?.key && rows.at(-1)?.key === last
  useLayoutEffect(() => {
    before.current = rows
  }, [rows])
  return shift
}

/** Follows the end while one is there, and knows what has come while one is not. */
function useEnd(scroller: {readonly current: HTMLDivElement | null}, rows: readonly Row[]) {
  const [at, setAt] = useState(true)
  const [seen, setSeen] = useState(rows.length)
  const place = useRef({at: true, top: 0})

  const become = useCallback((to: boolean, length: number) => {
    if (place.current.at === to) return
    place.current.at = to
    setAt(to)
    setSeen(length)
  }, [])
  const follow = useCallback(() => {
    const element = scroller.current
    if (element === null || !place.current.at) return
    element.scrollTop = element.scrollHeight
    place.current.top = element.scrollTop
  }, [scroller])
  useLayoutEffect(follow, [follow, rows])

  const length = useRef(rows.length)
  length.current = rows.length
  const scrolled = useCallback(() => {
    const element = scroller.current
    if (element === null) return
    const left = element.scrollHeight - element.clientHeight - element.scrollTop
    if (left < NEAR_END) become(true, length.current)
    else if (element.scrollTop < place.current.top - 1) become(false, length.current)
    place.current.top = element.scrollTop
  }, [scroller, become])

  return {
    at,
    fresh: rows.length - seen,
    isAt: () => place.current.at,
    scrolled,
    follow,
    leave: useCallback(() => become(false, length.current), [become]),
    jump: () => {
      become(true, rows.length)
      follow()
    },
  }
}

function useGo(rows: readonly Row[], list: {readonly current: VirtualizerHandle | null}, leave: () => void): (hit: Hit) => void {
  const folds = useFolds()
  const known = useRef(rows)
  known.current = rows
  return useCallback((hit: Hit) => {
    const index = known.current.findIndex((row) => row.key === hit.key)
    const row = known.current[index]
    if (row === undefined) return
    leave()
    folds.set(row.key, true)
    if (row.kind === "tool") for (const part of ["output", "input"]) folds.set(`${row.key}/${part}`, true)
    list.current?.scrollToIndex(index, {align: "center"})
  }, [folds, list, leave])
}

function useMarks(scroller: {readonly current: HTMLDivElement | null}, query: string, now: Hit | null, rows: readonly Row[]): void {
  useEffect(() => {
    const element = scroller.current
    if (element === null || query === "") return unmark()
    let frame = 0
    const again = (): void => {
      cancelAnimationFrame(frame)
      frame = requestAnimationFrame(() => mark(element, query, now))
    }
    again()
    const watched = new MutationObserver(again)
    watched.observe(element, {childList: true, subtree: true, characterData: true})
    return () => {
      cancelAnimationFrame(frame)
      watched.disconnect()
    }
  }, [scroller, query, now, rows])
  useEffect(() => unmark, [])
}
