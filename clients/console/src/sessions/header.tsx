import "./header.css"
import {useId, useRef} from "react"
import type {Presence, Session, SessionInfo} from "claude-bridge-client"
import {useBridge} from "../link.js"
import {hrefOf} from "../route.js"
import {CopyButton} from "../ui/copy.js"
import {attempt} from "../ui/notices.js"
import {useNow} from "../ui/now.js"
import {SessionMenu, startAgain} from "./actions.js"
import {heardAt} from "./heard.js"
import {budgetOf, count, evidenceOf, money, shortModel, shortPath, stateWord, tokensOf} from "./says.js"
import {StateMark} from "./state.js"

interface Props {
  readonly info: SessionInfo
  readonly session: Session
  readonly presence: Presence
  /** Why it is not followed any more; null while it is. */
  readonly ended: string | null
  readonly onStart: () => void
  readonly terminal: {readonly isShown: boolean, readonly toggle: () => void} | null
}

export function SessionHeader({info, session, presence, ended, onStart, terminal}: Props) {
  const bridge = useBridge()
  const isDown = info.state === "stopped" || info.state === "failed"
  const runs = info.state === "busy" || info.state === "waiting"
  return (
    <header className="session-head">
      <a className="back" href={hrefOf(null)} aria-label="All sessions">
        <svg viewBox="0 0 16 16" aria-hidden="true"><path d="M10 3L5 8l5 5" /></svg>
      </a>
      <h1 tabIndex={-1}>{info.name}</h1>
      {ended === null && <State info={info} />}
      <Facts info={info} />
      {ended === null && <Watchers presence={presence} />}
      <div className="session-acts">
        {ended !== null && <button onClick={onStart}>Start anew</button>}
        {runs && ended === null && (
          <button onClick={() => void attempt(() => session.interrupt())}>Interrupt</button>
        )}
        {isDown && ended === null && <button className="primary" onClick={() => void startAgain(bridge, info)}>Start again</button>}
        {terminal !== null && (
          <button className="quiet" aria-pressed={terminal.isShown} onClick={terminal.toggle}>Terminal</button>
        )}
        {ended === null && <SessionMenu session={info} />}
      </div>
      {ended !== null && <p className="session-why" data-tone="bad" role="status">{ended} What was said stays readable here.</p>}
      {ended === null && (info.reason !== undefined || info.limited_until !== undefined) && (
        <p className="session-why" data-tone={info.state === "failed" ? "bad" : "warn"}>
          {info.limited_until !== undefined && `The account's limit is reached: prompts wait until ${clock(info.limited_until)}. `}
          {info.reason}
        </p>
      )}
    </header>
  )
}

/** The state, and behind it by what it is known and what else there is to know. */
function State({info}: {info: SessionInfo}) {
  const id = useId()
  const button = useRef<HTMLButtonElement>(null)
  const now = useNow(1000)
  const evidence = evidenceOf(info, Math.max(0, now - heardAt(info)))
  return (
    <>
      <button ref={button} className="quiet state-button" popoverTarget={id} title={evidence} aria-label={`State: ${stateWord(info.state)}. Details`}>
        <StateMark state={info.state} />
      </button>
      <div
        id={id} popover="auto" className="details" role="group" aria-label={`Details of ${info.name}`}
        onToggle={(event) => {
          const at = button.current?.getBoundingClientRect()
          if (event.newState !== "open" || !at) return
          const width = event.currentTarget.offsetWidth
          event.currentTarget.style.left = `${Math.max(8, Math.min(at.left, innerWidth - width - 8))}px`
          event.currentTarget.style.top = `${at.bottom + 4}px`
        }}
      >
        <Details info={info} evidence={evidence} />
      </div>
    </>
  )
}

function Details({info, evidence}: {info: SessionInfo, evidence: string}) {
  const {usage} = info
  const budget = budgetOf(info)
  const rows: [string, string | null][] = [
    ["State", evidence],
    ["Backend", info.backend],
    ["Model", info.model],
    ["Permissions", info.permission_mode],
    ["Folder", info.cwd],
    ["Turns", String(info.turns)],
    ["Cost", money(info.cost_usd)],
    ["Tokens in", `${count(usage.input_tokens)} new, ${count(usage.cache_creation_input_tokens)} to the cache, ${count(usage.cache_read_input_tokens)} from it`],
    ["Tokens out", count(usage.output_tokens)],
    ["Budget", budget?.text ?? null],
    ["Started", info.started_at === null ? null : new Date(info.started_at).toLocaleString()],
    ["Restarts", String(info.restarts)],
    ["Conversation", info.conversation],
  ]
  return (
    <>
      <dl>
        {rows.map(([what, is]) => is !== null && (
          <div key={what}>
            <dt>{what}</dt>
            <dd>{is}</dd>
          </div>
        ))}
      </dl>
      {info.attach !== null && (
        <div className="attach">
          <code>{info.attach}</code>
          <CopyButton text={info.attach} label="Copy attach command" className="" />
        </div>
      )}
    </>
  )
}

function Facts({info}: {info: SessionInfo}) {
  const {into, out} = tokensOf(info.usage)
  const budget = budgetOf(info)
  const cost = money(info.cost_usd)
  return (
    <ul className="facts" aria-label="At a glance" tabIndex={0}>
      <li>{shortModel(info.model)}</li>
      {![null, "default", "manual"].includes(info.permission_mode) && <li>{info.permission_mode}</li>}
      {info.backend !== "api" && info.cwd !== null && <li title={info.cwd}>{shortPath(info.cwd)}</li>}
      {cost !== null && <li>{cost}</li>}
      {into + out > 0 && <li title="Tokens: in, out">{count(into)} in, {count(out)} out</li>}
      {budget !== null && <li className="budget" data-state={budget.state}>Budget: {budget.text}</li>}
    </ul>
  )
}

const SHOWN = 3

function Watchers({presence}: {presence: Presence}) {
  const names = Object.entries(presence)
  if (names.length === 0) return null
  const more = names.length - SHOWN
  return (
    <ul className="watchers" aria-label="Who watches">
      {names.slice(0, SHOWN).map(([name, metas]) => (
        <li key={name} title={`${name}: ${metas.length === 1 ? "1 connection" : `${metas.length} connections`}`}>
          {name}{metas.length > 1 && ` ×${metas.length}`}
        </li>
      ))}
      {more > 0 && <li title={names.slice(SHOWN).map(([name]) => name).join(", ")}>{more} more</li>}
    </ul>
  )
}

function clock(at: string): string {
  const time = new Date(at)
  const today = time.toDateString() === new Date().toDateString()
  return today ? time.toLocaleTimeString([], {hour: "2-digit", minute: "2-digit"}) : time.toLocaleString()
}
