import {useState, type FormEvent} from "react"
import type {SessionInfo} from "claude-bridge-client"
import {useBridge} from "../link.js"
import {Dialog} from "../ui/dialog.js"
import {useDoing} from "../ui/failure.js"
import {MODES, MODELS} from "./startform.js"

/** Only what was changed is asked for. */
export function SettingsDialog({session, onClose}: {session: SessionInfo, onClose: () => void}) {
  const bridge = useBridge()
  const {busy, failure, run} = useDoing()
  const [model, setModel] = useState(session.model ?? "")
  const [mode, setMode] = useState(session.permission_mode ?? "default")
  const hasModes = session.backend !== "api"

  const submit = async (event: FormEvent): Promise<void> => {
    event.preventDefault()
    const changes = {
      ...(model.trim() !== "" && model.trim() !== session.model && {model: model.trim()}),
      ...(hasModes && mode !== (session.permission_mode ?? "default") && {permission_mode: mode}),
    }
    if (Object.keys(changes).length === 0) return onClose()
    const joined = bridge.session(session.name)
    const release = joined.retain()
    if (await run(() => joined.configure(changes))) onClose()
    release()
  }
  const modes = MODES.some((m) => m.id === mode) ? MODES : [{id: mode, label: mode}, ...MODES]
  return (
    <Dialog title={`Model and permissions of ${session.name}`} onClose={onClose}>
      <form onSubmit={(event) => void submit(event)}>
        <ModelField value={model} onChange={setModel} note="Counts from the next turn on." />
        {hasModes && (
          <div className="field">
            <label htmlFor="set-mode">Permission mode</label>
            <select id="set-mode" value={mode} onChange={(event) => setMode(event.target.value)}>
              {modes.map((m) => <option key={m.id} value={m.id}>{m.label}</option>)}
            </select>
          </div>
        )}
        {failure !== null && <p role="alert" className="failure">{failure}</p>}
        <div className="dialog-buttons">
          <button type="button" onClick={onClose}>Cancel</button>
          <button className="primary" disabled={busy}>Change</button>
        </div>
      </form>
    </Dialog>
  )
}

export function ModelField({value, onChange, note}: {value: string, onChange: (model: string) => void, note: string}) {
  return (
    <div className="field">
      <label htmlFor="model">Model</label>
      <input
        id="model" list="models" value={value} autoComplete="off" spellCheck={false} aria-describedby="model-note"
        onChange={(event) => onChange(event.target.value)}
      />
      <datalist id="models">{MODELS.map((m) => <option key={m} value={m} />)}</datalist>
      <p id="model-note" className="field-note">{note}</p>
    </div>
  )
}
