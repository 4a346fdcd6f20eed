/**
 * A growing Markdown text in pieces that are parsed, rendered and measured on their own. Only the last piece changes
 * when text is added, and a piece has a bounded length, so that a long reply costs what is new of it.
 */

export interface Piece {
  readonly kind: "prose" | "code"
  /** Markdown, or of `code` what stands between the fences. */
  readonly source: string
  /** Where it begins in the text: its identity as long as text is only added. */
  readonly start: number
  /** Goes on with what the piece before began: a long paragraph, list or code block was cut. */
  readonly continues: boolean
  readonly fence: Fence | null
}

export interface Fence {
  readonly marker: string
  readonly lang: string
  /** Where its block begins, over all its pieces. */
  readonly at: number
}

export interface Split {
  readonly text: string
  readonly pieces: readonly Piece[]
  /** The definitions of links, which any piece may use; and those of all pieces but the last. */
  readonly definitions: string
  readonly settled: string
}

export const NOTHING: Split = {text: "", pieces: [], definitions: "", settled: ""}

/** Lines after which a paragraph or a list is cut, and a code block; and anything else, such as a table. */
const PROSE_LINES = 60
const CODE_LINES = 120
const RIGID_LINES = 600

const FENCE = /^( {0,3})(`{3,}(?=[^`]*$)|~{3,})[ \t]*(.*)$/
const ITEM = /^ {0,3}(?:[-+*]|\d{1,9}[.)])(?:[ \t]|$)/
const RIGID = /^(?: {0,3}[|<>]| {4}|\t)|\|/
const DEFINITION = /^ {0,3}\[(?!\^)[^\]]+\]:[ \t]*\S.*$/gm
/** What begins so is a paragraph, however the line goes on. */
const CLEAR = /^[\p{L}("'“]/u

/** The split of `text`. What `before` has of it is kept as it is, where `text` is its text and more. */
export function splitMarkdown(text: string, before: Split = NOTHING): Split {
  if (text === before.text) return before
  const last = before.pieces.at(-1)
  if (last === undefined || !text.startsWith(before.text)) return assemble(text, [], scan(text, 0, null, false), "")
  const rest = scan(text, last.start, last.continues ? last.fence : null, last.continues)
  const [first] = rest
  if (first !== undefined && same(first, last)) rest[0] = last
  return assemble(text, before.pieces.slice(0, -1), rest, before.settled)
}

/** All of the code block of which `piece` is one. */
export function codeOf(pieces: readonly Piece[], piece: Piece): string {
  return pieces.filter((p) => p.fence !== null && p.fence.at === piece.fence?.at).map((p) => p.source).join("\n")
}

function assemble(text: string, kept: readonly Piece[], rest: readonly Piece[], settledBefore: string): Split {
  const settled = settledBefore + rest.slice(0, -1).map(definitionsIn).join("")
  const definitions = settled + rest.slice(-1).map(definitionsIn).join("")
  return {text, pieces: [...kept, ...rest], definitions, settled}
}

function definitionsIn({kind, source}: Piece): string {
  if (kind !== "prose" || !source.includes("]:")) return ""
  return (source.match(DEFINITION) ?? []).map((line) => `${line}\n`).join("")
}

function same(a: Piece, b: Piece): boolean {
  return a.kind === b.kind && a.source === b.source && a.fence?.lang === b.fence?.lang
}

function scan(text: string, from: number, fence: Fence | null, continues: boolean): Piece[] {
  const pieces: Piece[] = []
  let start = from // of the piece
  let lines = 0
  let inList = false
  let rigid = false
  let blank = false // the line before
  let codeStart = from // where its first line of code begins

  const close = (end: number, next: number, on: boolean): void => {
    const source = fence === null ? text.slice(start, end).replace(/\n+$/, "") : text.slice(codeStart, end).replace(/\n$/, "")
    if (fence !== null || source.trim() !== "") {
      // A copy: V8's slice would keep a whole text of its own alive, for each piece of a growing one.
      pieces.push({kind: fence === null ? "prose" : "code", source: ` ${source}`.slice(1), start, continues, fence})
    }
    start = codeStart = next
    continues = on
    lines = 0
    inList = rigid = blank = false
  }

  for (let at = from; at < text.length;) {
    const end = text.indexOf("\n", at)
    const complete = end !== -1
    const next = complete ? end + 1 : text.length
    const line = text.slice(at, complete ? end : next)

    if (fence !== null) {
      if (closes(line, fence.marker) && complete) {
        close(at, next, false)
        fence = null
      } else if (lines >= CODE_LINES) {
        close(at, at, true)
        lines = 1
      } else if (!complete && closes(line, fence.marker)) {
        // Its end, as it seems; the next text decides.
        close(at, text.length, false)
        return pieces
      } else lines += 1
      at = next
      continue
    }

    const opening = FENCE.exec(line)
    if (opening && complete && (opening[1] === "" || !inList)) {
      close(at, at, false)
      fence = {marker: opening[2] ?? "```", lang: (opening[3] ?? "").trim().split(/[\s{,]/)[0] ?? "", at}
      codeStart = next
      at = next
      continue
    }
    if (line.trim() === "") {
      blank = true
      lines += 1
      at = next
      continue
    }
    const item = ITEM.test(line)
    const flush = !/^\s/.test(line)
    if (complete || CLEAR.test(line)) {
      if (blank && flush && !(inList && item)) close(at, at, false)
      else if (lines >= (rigid ? RIGID_LINES : PROSE_LINES) && (inList ? item && flush : !rigid || blank)) close(at, at, true)
    }
    if (item) inList = true
    else if (RIGID.test(line) && !inList) rigid = true
    blank = false
    lines += 1
    at = next
  }
  close(text.length, text.length, false)
  return pieces
}

function closes(line: string, marker: string): boolean {
  const found = /^ {0,3}(`{3,}|~{3,})[ \t]*$/.exec(line)?.[1]
  return found !== undefined && found[0] === marker[0] && found.length >= marker.length
}
