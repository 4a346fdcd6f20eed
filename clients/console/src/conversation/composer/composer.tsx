import "./composer.css"
import {useLayoutEffect, useRef, type KeyboardEvent, type Ref} from "react"
import type {SessionState} from "claude-bridge-client"
import {bytes} from "../words.js"
import {isEmpty} from "./draft.js"
import type {Composing} from "./use-composer.js"

interface Props {
  readonly composing: Composing
  readonly state: SessionState
  readonly box: Ref<HTMLTextAreaElement> & {current: HTMLTextAreaElement | null}
}

export function Composer({composing, state, box}: Props) {
  const {draft, sending, problem} = composing
  const picker = useRef<HTMLInputElement>(null)
  const runs = state.open !== null
  useHeight(box, draft.text)

  const pressed = (event: KeyboardEvent<HTMLTextAreaElement>): void => {
    if (event.nativeEvent.isComposing) return
    if (event.key === "Escape" && runs && isEmpty(draft)) {
      event.preventDefault()
      composing.interrupt()
    } else if (event.key === "Enter" && !event.shiftKey && !event.altKey && (!isTouch() || event.ctrlKey || event.metaKey)) {
      event.preventDefault()
      composing.submit()
    }
  }

  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault()
        composing.submit()
      }}
    >
      {problem !== null && (
        <p className="composer-problem" role="alert">{problem.says}{problem.code !== "" && <code> {problem.code}</code>}</p>
      )}
      {draft.files.length > 0 && <Files composing={composing} />}
      <textarea
        ref={box} value={draft.text} rows={1} readOnly={sending} aria-label="Prompt"
        placeholder={runs ? "Write what comes next" : "Write a prompt"}
        onChange={(event) => composing.setText(event.target.value)}
        onKeyDown={pressed}
        onPaste={(event) => {
          if (event.clipboardData.files.length === 0) return
          event.preventDefault()
          composing.add(event.clipboardData.files)
        }}
      />
      <div className="composer-bar">
        <input
          ref={picker} type="file" multiple hidden tabIndex={-1} aria-hidden
          onChange={(event) => {
            composing.add(Array.from(event.target.files ?? []))
            event.target.value = ""
          }}
        />
        <button type="button" className="quiet" onClick={() => picker.current?.click()} disabled={sending}>Attach</button>
        <span className="composer-says" role="status">{says(composing, state)}</span>
        {runs && <button type="button" onClick={composing.interrupt}>Stop</button>}
        <button className="primary" disabled={sending || isEmpty(draft)}>{runs || state.queue.length > 0 ? "Queue" : "Send"}</button>
      </div>
    </form>
  )
}

function Files({composing}: {composing: Composing}) {
  return (
    <ul className="files" aria-label="Files that go with the prompt">
      {composing.draft.files.map((file, i) => (
        <li key={i} className="composer-file">
          {file.name} <span className="note">{bytes(file.data.length)}</span>
          <button type="button" className="quiet" aria-label={`Remove ${file.name}`} onClick={() => composing.remove(i)}>Remove</button>
        </li>
      ))}
    </ul>
  )
}

function says({draft, sending}: Composing, {open, status, session}: SessionState): string {
  if (sending) return status === "reconnecting" ? "Sent as soon as the bridge is back" : "Sending"
  if (session?.backend === "tmux" && draft.text.startsWith("/") && draft.files.length === 0) return "A command of the terminal"
  if (open === null) return isTouch() ? "" : "Enter sends, Shift+Enter breaks the line"
  if (isEmpty(draft)) return isTouch() ? "" : "Esc stops the turn"
  return "Waits until the turn has ended"
}

/** Where Enter is a key on glass, it breaks the line, and the button sends. */
const touch = matchMedia("(pointer: coarse)")
const isTouch = (): boolean => touch.matches

/** As high as the text, up to what the style allows. */
function useHeight(box: {readonly current: HTMLTextAreaElement | null}, text: string): void {
  useLayoutEffect(() => {
    const element = box.current
    if (element === null) return
    element.style.height = "auto"
    element.style.height = `${element.scrollHeight + element.offsetHeight - element.clientHeight}px`
  }, [box, text])
}
