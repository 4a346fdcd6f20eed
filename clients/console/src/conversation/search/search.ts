/** Where a text occurs in the rows of a transcript. */

import {tokensOf} from "../markdown/render.js"
import {plainText} from "../markdown/plain.js"
import {inputOf, outputOf, toolLine} from "../tools/says.js"
import {json} from "../tools/text.js"
import type {Row} from "../transcript/rows.js"

export interface Hit {
  /** The row's key. */
  readonly key: string
  /** Which of its row, from 0. */
  readonly nth: number
}

/** Of the rows that were looked at before, as they are searched. */
const kept = new WeakMap<Row, string>()

/** As long as it takes less than so many milliseconds; then the others' turn comes. */
const SLICE_MS = 8

/** In lower case. */
export function searchable(row: Row): string {
  const known = kept.get(row)
  if (known !== undefined) return known
  const text = textOf(row).toLowerCase()
  kept.set(row, text)
  return text
}

/** Where `query`, in lower case, begins in `text`. */
export function occurrences(text: string, query: string): readonly number[] {
  const found: number[] = []
  if (query === "") return found
  for (let at = text.indexOf(query); at !== -1; at = text.indexOf(query, at + query.length)) found.push(at)
  return found
}

export function hitsIn(row: Row, query: string): readonly Hit[] {
  return occurrences(searchable(row), query.toLowerCase()).map((_, nth) => ({key: row.key, nth}))
}

/** All hits in the order of the rows. Nothing where `signal` is aborted before it is done. */
export async function search(rows: readonly Row[], query: string, signal: AbortSignal): Promise<readonly Hit[] | null> {
  const hits: Hit[] = []
  let began = performance.now()
  for (const row of rows) {
    if (performance.now() - began > SLICE_MS) {
      await new Promise((resolve) => setTimeout(resolve, 0))
      began = performance.now()
    }
    if (signal.aborted) return null
    for (const hit of hitsIn(row, query)) hits.push(hit)
  }
  return hits
}

/** The hit after `now`, or before it; from the end to the beginning. Where there is none now, the last. */
export function step(hits: readonly Hit[], now: Hit | null, by: 1 | -1): Hit | null {
  if (hits.length === 0) return null
  const at = now === null ? -1 : indexOf(hits, now)
  if (at === -1) return hits.at(-1) ?? null
  return hits[(at + by + hits.length) % hits.length] ?? null
}

export function indexOf(hits: readonly Hit[], hit: Hit | null): number {
  return hit === null ? -1 : hits.findIndex((h) => h.key === hit.key && h.nth === hit.nth)
}

function textOf(row: Row): string {
  switch (row.kind) {
    case "prompt":
      return row.prompt
    case "text":
      return row.piece.kind === "code" ? row.piece.source : plainText(tokensOf(row.piece.source, row.definitions))
    case "thinking":
      return row.text
    case "tool": {
      const {name, about} = toolLine(row.block.name, row.block.input, null)
      const {command} = inputOf(row.block.input)
      return [name, typeof command === "string" ? command : about, given(row.block.input), outputOf(row.block)].join("\n")
    }
    case "end":
      return row.of.error?.message ?? ""
    case "notice":
      return ""
  }
}

/** An input with only a command says no more than that. */
function given(input: unknown): string {
  const {command, ...rest} = inputOf(input)
  return command !== undefined && Object.keys(rest).length === 0 ? "" : json(command === undefined ? input : rest)
}
