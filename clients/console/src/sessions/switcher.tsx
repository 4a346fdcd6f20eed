import "./switcher.css"
import {useId, useState, type KeyboardEvent} from "react"
import type {SessionInfo} from "claude-bridge-client"
import {go} from "../route.js"
import {Dialog} from "../ui/dialog.js"
import {listed} from "./order.js"
import {StateMark} from "./state.js"

export function Switcher({sessions, onClose}: {sessions: readonly SessionInfo[], onClose: () => void}) {
  const id = useId()
  const [filter, setFilter] = useState("")
  const [at, setAt] = useState(0)
  const found = listed(sessions, filter)
  const chosen = found[Math.min(at, found.length - 1)]

  const open = (name: string): void => {
    onClose()
    go(name)
  }
  const pressed = (event: KeyboardEvent): void => {
    const step = {ArrowDown: 1, ArrowUp: -1}[event.key]
    if (step !== undefined && found.length > 0) {
      event.preventDefault()
      setAt((Math.min(at, found.length - 1) + step + found.length) % found.length)
    } else if (event.key === "Enter" && chosen && !event.nativeEvent.isComposing) {
      event.preventDefault()
      open(chosen.name)
    }
  }
  return (
    <Dialog title="Go to a session" onClose={onClose} light>
      <div className="switcher">
        <input
          role="combobox" aria-label="Session" aria-expanded aria-controls={`${id}-found`} aria-autocomplete="list"
          aria-activedescendant={chosen && `${id}-${chosen.name}`} data-first autoComplete="off" spellCheck={false}
          placeholder="Name, state, model or folder" value={filter} onKeyDown={pressed}
          onChange={(event) => {
            setFilter(event.target.value)
            setAt(0)
          }}
        />
        <ul id={`${id}-found`} role="listbox" aria-label="Sessions">
          {found.map((session) => (
            <li
              key={session.name} id={`${id}-${session.name}`} role="option" aria-selected={session === chosen}
              ref={(row) => {
                if (session === chosen) row?.scrollIntoView({block: "nearest"})
              }}
              onClick={() => open(session.name)}
            >
              <span>{session.name}</span>
              <StateMark state={session.state} />
            </li>
          ))}
        </ul>
        {found.length === 0 && <p className="field-note" role="status">No session is like that.</p>}
      </div>
    </Dialog>
  )
}
