import "./dialog.css"
import {useEffect, useId, useRef, type ReactNode} from "react"

interface Props {
  readonly title: string
  readonly onClose: () => void
  readonly children: ReactNode
  /** A click beside it closes it; not where something was typed that would be lost. */
  readonly light?: boolean
  readonly wide?: boolean
}

/** The browser's own modal dialog: it keeps the focus, gives it back, and Esc closes it. */
export function Dialog({title, onClose, children, light = false, wide = false}: Props) {
  const id = useId()
  const dialog = useRef<HTMLDialogElement>(null)
  useEffect(() => {
    const shown = dialog.current
    const before = document.activeElement
    if (shown?.open === false) shown.showModal()
    // React has no autofocus attribute for the browser to go by.
    shown?.querySelector<HTMLElement>("[data-first]")?.focus()
    return () => {
      shown?.close()
      if (before instanceof HTMLElement && before.isConnected) before.focus()
    }
  }, [])
  return (
    <dialog
      ref={dialog} className={wide ? "dialog dialog-wide" : "dialog"} aria-labelledby={id}
      onCancel={(event) => {
        event.preventDefault()
        onClose()
      }}
      onMouseDown={(event) => {
        if (light && event.target === dialog.current) onClose()
      }}
    >
      <header className="dialog-head">
        <h2 id={id}>{title}</h2>
        <button type="button" className="quiet icon" aria-label="Close" onClick={onClose}><Cross /></button>
      </header>
      {children}
    </dialog>
  )
}

function Cross() {
  return <svg viewBox="0 0 16 16" aria-hidden="true"><path d="M4 4l8 8M12 4l-8 8" /></svg>
}
