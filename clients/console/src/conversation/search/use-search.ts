import {useEffect, useRef, useState} from "react"
import type {Row} from "../transcript/rows.js"
import type {Scrollback} from "../transcript/scrollback.js"
import {search, step, type Hit} from "./search.js"

export interface Searching {
  readonly query: string
  readonly hits: readonly Hit[]
  readonly now: Hit | null
  setQuery(query: string): void
  step(by: 1 | -1): void
}

/** Searches the rows that are there, and fetches older turns as long as it is not closed. */
export function useSearch(rows: readonly Row[], scrollback: Scrollback, isOpen: boolean, go: (hit: Hit) => void): Searching {
  const [query, setQuery] = useState("")
  const [hits, setHits] = useState<readonly Hit[]>([])
  const [now, setNow] = useState<Hit | null>(null)
  const wanted = isOpen ? query : ""
  const gone = useRef("")

  useEffect(() => {
    if (wanted === "") {
      setHits([])
      setNow(null)
      gone.current = ""
      return
    }
    const stop = new AbortController()
    void search(rows, wanted, stop.signal).then((found) => {
      if (found === null) return
      setHits(found)
      // The first hit of a query is gone to by itself.
      const last = found.at(-1)
      if (gone.current === wanted || last === undefined) return
      gone.current = wanted
      setNow(last)
      go(last)
    })
    return () => stop.abort()
  }, [rows, wanted, go])

  useEffect(() => {
    if (wanted !== "" && scrollback.older === "more") void scrollback.load()
  }, [rows, wanted, scrollback])

  return {
    query,
    hits,
    now,
    setQuery,
    step(by) {
      const next = step(hits, now, by)
      if (next === null) return
      setNow(next)
      go(next)
    },
  }
}

