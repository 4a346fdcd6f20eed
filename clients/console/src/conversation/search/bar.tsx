import "./bar.css"
import {useEffect, useRef} from "react"
import {indexOf, type Hit} from "./search.js"
import {count} from "../tools/text.js"

interface Props {
  readonly query: string
  readonly hits: readonly Hit[]
  readonly now: Hit | null
  readonly loading: boolean
  readonly onQuery: (query: string) => void
  readonly onStep: (by: 1 | -1) => void
  readonly onClose: () => void
}

export function SearchBar({query, hits, now, loading, onQuery, onStep, onClose}: Props) {
  const input = useRef<HTMLInputElement>(null)
  useEffect(() => input.current?.focus(), [])
  const at = indexOf(hits, now)
  const says = query === "" ? "" : at === -1 ? count(hits.length, "hit") : `${at + 1} of ${hits.length}`
  return (
    <form className="search" role="search" onSubmit={(event) => event.preventDefault()}>
      <input
        ref={input} type="search" value={query} aria-label="Search this conversation" placeholder="Search this conversation"
        autoComplete="off" spellCheck={false}
        onChange={(event) => onQuery(event.target.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") onClose()
          else if (event.key === "Enter") onStep(event.shiftKey ? -1 : 1)
          else return
          event.preventDefault()
          event.stopPropagation()
        }}
      />
      <span className="search-says" aria-live="polite">{says}{loading && query !== "" && ", looking further back"}</span>
      <button type="button" className="quiet" onClick={() => onStep(-1)} disabled={hits.length === 0}>Previous</button>
      <button type="button" className="quiet" onClick={() => onStep(1)} disabled={hits.length === 0}>Next</button>
      <button type="button" className="quiet" onClick={onClose}>Close</button>
    </form>
  )
}
