/** Marks what is searched in the rows that are in view, without touching them (CSS Custom Highlight API). */

import {occurrences, type Hit} from "./search.js"

export function mark(root: HTMLElement, query: string, now: Hit | null): void {
  if (!("highlights" in CSS)) return
  const all: Range[] = []
  let current: Range | undefined
  for (const row of root.querySelectorAll<HTMLElement>("[data-key]")) {
    const found = rangesIn(row, query.toLowerCase())
    all.push(...found)
    if (now !== null && row.dataset["key"] === now.key) current = found[Math.min(now.nth, found.length - 1)]
  }
  CSS.highlights.set("found", new Highlight(...all))
  const marked = new Highlight(...(current ? [current] : []))
  marked.priority = 1
  CSS.highlights.set("found-now", marked)
}

export function unmark(): void {
  if (!("highlights" in CSS)) return
  CSS.highlights.delete("found")
  CSS.highlights.delete("found-now")
}

function rangesIn(row: HTMLElement, query: string): Range[] {
  const walker = document.createTreeWalker(row, NodeFilter.SHOW_TEXT)
  const nodes: Text[] = []
  let text = ""
  const starts: number[] = []
  for (let node = walker.nextNode(); node !== null; node = walker.nextNode()) {
    starts.push(text.length)
    nodes.push(node as Text)
    text += (node as Text).data
  }
  // Lower case of the same length, so that places stay places.
  const lower = [...text.toLowerCase()].length === [...text].length ? text.toLowerCase() : text
  return occurrences(lower, query).flatMap((at) => {
    const range = document.createRange()
    const set = (place: number, to: "setStart" | "setEnd"): void => {
      // An end belongs to the node before it, a beginning to the one after.
      let i = starts.length - 1
      while (i > 0 && (starts[i] ?? 0) > (to === "setEnd" ? place - 1 : place)) i -= 1
      const node = nodes[i]
      if (node) range[to](node, Math.min(node.length, place - (starts[i] ?? 0)))
    }
    set(at, "setStart")
    set(at + query.length, "setEnd")
    return range.collapsed ? [] : [range]
  })
}
