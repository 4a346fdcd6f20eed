import "./menu.css"
import {useId, useRef, type KeyboardEvent} from "react"

export interface Item {
  readonly label: string
  readonly act: () => void
  readonly danger?: boolean
}

interface Props {
  readonly label: string
  readonly items: readonly Item[]
  readonly tabIndex?: number
}

/** A button with what can be done. The browser's popover: a click elsewhere and Esc close it. */
export function Menu({label, items, tabIndex}: Props) {
  const id = useId()
  const button = useRef<HTMLButtonElement>(null)
  const list = useRef<HTMLDivElement>(null)

  const place = (): void => {
    const at = button.current?.getBoundingClientRect()
    const shown = list.current
    if (!at || !shown) return
    const {width, height} = shown.getBoundingClientRect()
    const below = at.bottom + 4
    shown.style.left = `${Math.max(8, Math.min(at.right - width, innerWidth - width - 8))}px`
    shown.style.top = `${below + height > innerHeight - 8 ? Math.max(8, at.top - height - 4) : below}px`
    shown.querySelector<HTMLElement>("[role=menuitem]")?.focus()
  }
  const move = (event: KeyboardEvent): void => {
    const all = [...(list.current?.querySelectorAll<HTMLElement>("[role=menuitem]") ?? [])]
    const at = all.findIndex((each) => each === document.activeElement)
    const to = {ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1}[event.key]
    if (event.key === "Tab") return list.current?.hidePopover()
    if (to === undefined) return
    event.preventDefault()
    event.stopPropagation()
    all[(to + all.length) % all.length]?.focus()
  }
  return (
    <>
      <button
        ref={button} type="button" className="quiet icon" aria-label={label} aria-haspopup="menu" popoverTarget={id}
        tabIndex={tabIndex}
      >
        <svg viewBox="0 0 16 16" aria-hidden="true"><path d="M3 8h.01M8 8h.01M13 8h.01" className="dots" /></svg>
      </button>
      <div
        ref={list} id={id} popover="auto" role="menu" aria-label={label} className="menu" onKeyDown={move}
        onToggle={(event) => {
          if (event.newState === "open") place()
        }}
      >
        {items.map(({label: name, act, danger}) => (
          <button
            key={name} type="button" role="menuitem" tabIndex={-1} className={danger === true ? "danger" : undefined}
            onClick={() => {
              list.current?.hidePopover()
              act()
            }}
          >
            {name}
          </button>
        ))}
      </div>
    </>
  )
}
