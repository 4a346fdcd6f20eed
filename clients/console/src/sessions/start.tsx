import "./start.css"
import {useRef, useState, type FormEvent} from "react"
import {BridgeError} from "claude-bridge-client"
import {useBridge} from "../link.js"
import {go} from "../route.js"
import {Dialog} from "../ui/dialog.js"
import {useDoing} from "../ui/failure.js"
import {ModelField} from "./settings.js"
import {BACKENDS, MODES, nameProblem, optionsOf, remember, remembered, type Choices} from "./startform.js"

export function StartDialog({name = "", onClose}: {name?: string, onClose: () => void}) {
  const bridge = useBridge()
  const {busy, failure, error, run} = useDoing()
  const [choices, setChoices] = useState<Choices>(() => ({...remembered(localStorage), name}))
  const [tried, setTried] = useState(false)
  const field = useRef<HTMLInputElement>(null)
  const problem = nameProblem(choices.name)
  const wrong = error instanceof BridgeError ? error.details["field"] : undefined
  const choose = (chosen: Partial<Choices>): void => setChoices((before) => ({...before, ...chosen}))
  const hasProcess = choices.backend !== "api"

  const submit = async (event: FormEvent): Promise<void> => {
    event.preventDefault()
    setTried(true)
    if (problem !== null) return field.current?.focus()
    if (!(await run(() => bridge.sessions.start(choices.name, optionsOf(choices))))) return
    remember(choices, localStorage)
    onClose()
    go(choices.name)
  }
  return (
    <Dialog title="Start a session" onClose={onClose} wide>
      <form onSubmit={(event) => void submit(event)} noValidate>
        <div className="field">
          <label htmlFor="start-name">Name</label>
          <input
            ref={field} id="start-name" value={choices.name} data-first autoComplete="off" autoCapitalize="off" spellCheck={false}
            aria-invalid={(tried && problem !== null) || wrong === "name"} aria-describedby="start-name-note"
            onChange={(event) => choose({name: event.target.value})}
          />
          <p id="start-name-note" className={tried && problem !== null ? "failure" : "field-note"}>
            {tried && problem !== null ? problem : "Letters, digits, “-” and “_”. Everybody who may see it finds it by this name."}
          </p>
        </div>

        <fieldset className="field">
          <legend>Backend</legend>
          <div className="backends">
            {BACKENDS.map(({id, label, good}) => (
              <label key={id} className="backend">
                <input
                  type="radio" name="backend" value={id} checked={choices.backend === id} aria-describedby={`start-${id}`}
                  onChange={() => choose({backend: id})}
                />
                <span>{label}</span>
                <span id={`start-${id}`} className="field-note">{good}</span>
              </label>
            ))}
          </div>
        </fieldset>

        {hasProcess && (
          <div className="field">
            <label htmlFor="start-cwd">Folder</label>
            <input
              id="start-cwd" value={choices.cwd} autoComplete="off" spellCheck={false} aria-describedby="start-cwd-note"
              aria-invalid={wrong === "cwd"} onChange={(event) => choose({cwd: event.target.value})}
            />
            <p id="start-cwd-note" className="field-note">On the bridge's machine. Empty: as the bridge is set up.</p>
          </div>
        )}
        <div className={hasProcess ? "start-pair" : undefined}>
          <ModelField value={choices.model} onChange={(model) => choose({model})} note="Empty: the default." />
          {hasProcess && (
            <div className="field">
              <label htmlFor="start-mode">Permission mode</label>
              <select
                id="start-mode" value={choices.mode} aria-invalid={wrong === "permission_mode"}
                onChange={(event) => choose({mode: event.target.value})}
              >
                <option value="">As the bridge is set up</option>
                {MODES.map(({id, label}) => <option key={id} value={id}>{label}</option>)}
              </select>
            </div>
          )}
        </div>

        {failure !== null && (
          <p role="alert" className="failure">
            {failure}
            {error instanceof BridgeError && error.code === "session_exists" && (
              <>
                {" "}
                <button type="button" onClick={() => {
                  onClose()
                  go(String(error.details["name"] ?? choices.name))
                }}>
                  Open it
                </button>
              </>
            )}
          </p>
        )}
        <div className="dialog-buttons">
          <button type="button" onClick={onClose}>Cancel</button>
          <button className="primary" disabled={busy}>{busy ? "Starting…" : "Start"}</button>
        </div>
      </form>
    </Dialog>
  )
}
