/** What can be done to a session from the list and from its header: the menu, and the dialogs that it asks in. */

import {useState, type FormEvent} from "react"
import type {Bridge, SessionInfo} from "claude-bridge-client"
import {useBridge} from "../link.js"
import {go, routeOf} from "../route.js"
import {copy} from "../ui/copy.js"
import {Dialog} from "../ui/dialog.js"
import {useDoing} from "../ui/failure.js"
import {Menu, type Item} from "../ui/menu.js"
import {attempt, notify} from "../ui/notices.js"
import {nameProblem} from "./startform.js"
import {SettingsDialog} from "./settings.js"

type Asked = "delete" | "fork" | "settings"

export function SessionMenu({session, tabIndex}: {session: SessionInfo, tabIndex?: number}) {
  const bridge = useBridge()
  const [asked, setAsked] = useState<Asked | null>(null)
  const {name, attach, backend} = session
  const isDown = session.state === "stopped" || session.state === "failed"
  const items: Item[] = [
    ...(attach === null ? [] : [{label: "Copy attach command", act: () => void copyAttach(attach)}]),
    {label: "Model and permissions…", act: () => setAsked("settings")},
    ...(backend === "tmux" ? [] : [{label: "Fork from here…", act: () => setAsked("fork")}]),
    ...(isDown
      ? [{label: "Start again", act: () => void startAgain(bridge, session)}]
      : [
          {label: "Restart", act: () => void restart(bridge, name)},
          {label: "Stop", act: () => void attempt(() => bridge.sessions.stop(name), `${name} is stopped. Its conversation stays.`)},
        ]),
    {label: "Delete…", act: () => setAsked("delete"), danger: true},
  ]
  const close = (): void => setAsked(null)
  return (
    <>
      <Menu label={`Actions for ${name}`} items={items} {...(tabIndex !== undefined && {tabIndex})} />
      {asked === "delete" && <DeleteDialog name={name} onClose={close} />}
      {asked === "fork" && <ForkDialog from={name} onClose={close} />}
      {asked === "settings" && <SettingsDialog session={session} onClose={close} />}
    </>
  )
}

async function copyAttach(command: string): Promise<void> {
  if (await copy(command)) notify("Copied: paste it into a terminal on the bridge's machine.")
}

/** Of a session that failed only `restart` begins anew. */
export function startAgain(bridge: Bridge, {name, state}: SessionInfo): Promise<void> {
  return state === "failed" ? restart(bridge, name) : attempt(() => bridge.sessions.start(name), `${name} is started again.`)
}

export async function restart(bridge: Bridge, name: string): Promise<void> {
  const session = bridge.session(name)
  const release = session.retain()
  await attempt(() => session.restart(), `${name} restarts under the same conversation.`)
  release()
}

function DeleteDialog({name, onClose}: {name: string, onClose: () => void}) {
  const bridge = useBridge()
  const {busy, failure, run} = useDoing()
  const confirm = async (): Promise<void> => {
    if (!(await run(() => bridge.sessions.delete(name)))) return
    onClose()
    if (routeOf(location.hash) === name) go(null)
  }
  return (
    <Dialog title={`Delete ${name}?`} onClose={onClose}>
      <div className="dialog-body">
        <p>Its process is ended and its history is removed from the bridge. This cannot be taken back.</p>
        {failure !== null && <p role="alert" className="failure">{failure}</p>}
        <div className="dialog-buttons">
          <button data-first onClick={onClose}>Keep</button>
          <button className="danger" disabled={busy} onClick={() => void confirm()}>Delete {name}</button>
        </div>
      </div>
    </Dialog>
  )
}

function ForkDialog({from, onClose}: {from: string, onClose: () => void}) {
  const bridge = useBridge()
  const {busy, failure, run} = useDoing()
  const [name, setName] = useState(`${from}-2`.slice(-64))
  const [tried, setTried] = useState(false)
  const problem = nameProblem(name)
  const submit = async (event: FormEvent): Promise<void> => {
    event.preventDefault()
    setTried(true)
    if (problem !== null || !(await run(() => bridge.sessions.fork(name, from)))) return
    onClose()
    go(name)
  }
  return (
    <Dialog title={`Fork ${from}`} onClose={onClose}>
      <form onSubmit={(event) => void submit(event)} noValidate>
        <p>A new session that begins with all finished turns of {from}, which goes on as it is.</p>
        <div className="field">
          <label htmlFor="fork-name">Name of the fork</label>
          <input
            id="fork-name" value={name} data-first autoComplete="off" spellCheck={false} aria-invalid={tried && problem !== null}
            onChange={(event) => setName(event.target.value)}
          />
          {tried && problem !== null && <p role="alert" className="failure">{problem}</p>}
        </div>
        {failure !== null && <p role="alert" className="failure">{failure}</p>}
        <div className="dialog-buttons">
          <button type="button" onClick={onClose}>Cancel</button>
          <button className="primary" disabled={busy}>Fork</button>
        </div>
      </form>
    </Dialog>
  )
}
