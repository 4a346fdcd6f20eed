import "./splitter.css"
import type {KeyboardEvent, PointerEvent} from "react"

interface Props {
  /** What the left part has of the width, 0.2 to 0.8. */
  readonly share: number
  readonly onShare: (share: number) => void
  readonly label: string
}

const within = (share: number): number => Math.round(Math.min(0.8, Math.max(0.2, share)) * 1000) / 1000

export function Splitter({share, onShare, label}: Props) {
  const drag = (event: PointerEvent<HTMLDivElement>): void => {
    if (!event.currentTarget.hasPointerCapture(event.pointerId)) return
    const whole = event.currentTarget.parentElement?.getBoundingClientRect()
    if (whole && whole.width > 0) onShare(within((event.clientX - whole.left) / whole.width))
  }
  const step = (event: KeyboardEvent): void => {
    const to = {ArrowLeft: share - 0.05, ArrowRight: share + 0.05, Home: 0.2, End: 0.8}[event.key]
    if (to === undefined) return
    event.preventDefault()
    onShare(within(to))
  }
  return (
    <div
      className="splitter" role="separator" tabIndex={0} aria-orientation="vertical" aria-label={label}
      aria-valuenow={Math.round(share * 100)} aria-valuemin={20} aria-valuemax={80}
      onPointerDown={(event) => event.currentTarget.setPointerCapture(event.pointerId)} onPointerMove={drag}
      onDoubleClick={() => onShare(0.5)} onKeyDown={step}
    />
  )
}
