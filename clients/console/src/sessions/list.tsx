import "./list.css"
import {memo, useRef, useState, type KeyboardEvent} from "react"
import type {SessionInfo} from "claude-bridge-client"
import {hrefOf} from "../route.js"
import {useNow} from "../ui/now.js"
import {SessionMenu} from "./actions.js"
import {heardAt} from "./heard.js"
import {ago, shortModel} from "./says.js"
import {StateMark} from "./state.js"
import {useViewers} from "./viewers.js"

interface Props {
  readonly sessions: readonly SessionInfo[]
  readonly current: string | null
}

/** One stop for Tab; the arrows move in it. */
export function SessionList({sessions, current}: Props) {
  const list = useRef<HTMLUListElement>(null)
  const viewersOf = useViewers(sessions, current)
  const [last, setLast] = useState<string | null>(null)
  const has = (name: string | null): boolean => name !== null && sessions.some((s) => s.name === name)
  const stop = has(last) ? last : has(current) ? current : (sessions[0]?.name ?? null)

  const move = (event: KeyboardEvent): void => {
    const links = [...(list.current?.querySelectorAll<HTMLElement>("a.session-row") ?? [])]
    const at = links.findIndex((link) => link === document.activeElement)
    const to = {ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: links.length - 1}[event.key]
    if (at === -1 || to === undefined) return
    event.preventDefault()
    links[Math.min(links.length - 1, Math.max(0, to))]?.focus()
  }
  return (
    <ul ref={list} className="session-rows" onKeyDown={move}>
      {sessions.map((session) => (
        <Row
          key={session.name} session={session} isCurrent={session.name === current} isStop={session.name === stop}
          viewers={viewersOf(session)} onFocus={setLast}
        />
      ))}
    </ul>
  )
}

interface RowProps {
  readonly session: SessionInfo
  readonly isCurrent: boolean
  readonly isStop: boolean
  readonly viewers: number
  readonly onFocus: (name: string) => void
}

const Row = memo(function Row({session, isCurrent, isStop, viewers, onFocus}: RowProps) {
  const {name, state, backend, model} = session
  const tab = isStop ? 0 : -1
  return (
    <li className="session-row-item" data-current={isCurrent} data-asks={state === "waiting"}>
      <a
        className="session-row" href={hrefOf(name)} tabIndex={tab} aria-current={isCurrent ? "page" : undefined}
        onFocus={() => onFocus(name)}
      >
        <span className="session-row-line">
          <span className="session-row-name">{name}</span>
          <Age session={session} />
        </span>
        <span className="session-row-line session-row-sub">
          <StateMark state={state} />
          <span className="session-row-what">{backend} · {shortModel(model)}</span>
          {viewers > 0 && <Viewers count={viewers} />}
        </span>
      </a>
      <SessionMenu session={session} tabIndex={tab} />
    </li>
  )
})

/** How long it has been so, as far as it was told. */
function Age({session}: {session: SessionInfo}) {
  const now = useNow(15_000)
  return <span className="session-row-age">{ago(session.evidence.age_ms + Math.max(0, now - heardAt(session)))}</span>
}

export function Viewers({count}: {count: number}) {
  const words = count === 1 ? "1 watches" : `${count} watch`
  return (
    <span className="viewers" title={words}>
      <svg viewBox="0 0 16 16" aria-hidden="true">
        <path d="M1.500 8S4 3.500 8 3.500 14.500 8 14.500 8 12 12.500 8 12.500 1.500 8 1.500 8zM8 6.500a1.500 1.500 0 1 0 0 3 1.500 1.500 0 0 0 0-3z" />
      </svg>
      <span aria-hidden="true">{count}</span>
      <span className="visually-hidden">{words}</span>
    </span>
  )
}
