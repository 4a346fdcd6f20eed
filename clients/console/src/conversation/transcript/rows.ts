/**
 * The turns as rows of a list that renders only what is in view: finer than a turn, so that a turn of ten thousand
 * lines scrolls as well. A row that says what it said before is the same object, and is not rendered again.
 */

import type {AttachedFile, Block, TextBlock, ToolBlock, Turn} from "claude-bridge-client"
import {NOTHING, splitMarkdown, type Piece, type Split} from "../markdown/split.js"

export type Row = PromptRow | TextRow | ThinkingRow | ToolRow | EndRow | NoticeRow

interface InTurn {
  readonly key: string
  readonly turn: string
  /** In how many sub-agents. */
  readonly depth: number
}

export interface PromptRow extends InTurn {
  readonly kind: "prompt"
  readonly prompt: string
  readonly author: string | null
  readonly at: string | null
  readonly source: Turn["source"]
  readonly attachments: readonly AttachedFile[] | undefined
}

export interface TextRow extends InTurn {
  readonly kind: "text"
  readonly piece: Piece
  readonly definitions: string
  /** The text of which it is a piece, as far as it has come. */
  readonly of: {split: Split}
}

export interface ThinkingRow extends InTurn {
  readonly kind: "thinking"
  readonly text: string
  readonly live: boolean
}

export interface ToolRow extends InTurn {
  readonly kind: "tool"
  readonly block: ToolBlock
  readonly runs: boolean
  readonly inner: number
}

/** How the turn ended, or that it runs. */
export interface EndRow extends InTurn {
  readonly kind: "end"
  /** Without the blocks of one that runs, which change with every word. */
  readonly of: Turn
}

export interface NoticeRow {
  readonly kind: "notice"
  readonly key: string
  readonly says: string
}

/** Something that is no turn, after the turn of that id, or before all where it is null. */
export interface Notice {
  readonly after: string | null
  readonly says: string
}

interface Memory {
  readonly turn: Turn
  readonly version: number
  readonly nested: boolean
  readonly rows: readonly Row[]
  readonly byKey: ReadonlyMap<string, Row>
}

type Unfolded = (key: string) => boolean

export class RowModel {
  #memory = new Map<string, Memory>()

  /** `version` is another whenever `unfolded` answers otherwise than before. */
  build(turns: readonly Turn[], open: Turn | null, notices: readonly Notice[], unfolded: Unfolded, version: number): readonly Row[] {
    const memory = new Map<string, Memory>()
    const rows: Row[] = []
    const notify = (after: string | null): void => {
      notices.forEach((n, i) => n.after === after && rows.push({kind: "notice", key: `notice/${i}`, says: n.says}))
    }
    notify(null)
    for (const turn of open === null ? turns : [...turns, open]) {
      const before = this.#memory.get(turn.id)
      const isSame = before?.turn === turn && (!before.nested || before.version === version)
      const now = isSame ? before : remember(turn, before, unfolded, version)
      memory.set(turn.id, now)
      for (const row of now.rows) rows.push(row)
      notify(turn.id)
    }
    this.#memory = memory
    return rows
  }
}

function remember(turn: Turn, before: Memory | undefined, unfolded: Unfolded, version: number): Memory {
  const rows = rowsOf(turn, before?.byKey ?? new Map(), unfolded)
  return {turn, version, rows, nested: turn.blocks.some((b) => b.parent !== undefined), byKey: new Map(rows.map((r) => [r.key, r]))}
}

function rowsOf(turn: Turn, before: ReadonlyMap<string, Row>, unfolded: Unfolded): readonly Row[] {
  const rows: Row[] = []
  const runs = turn.status === "running"
  const last = turn.blocks.at(-1)
  const inner = childrenOf(turn.blocks)

  const add = (row: Row): void => {
    const known = before.get(row.key)
    rows.push(known !== undefined && isEqual(known, row) ? known : row)
  }
  const addText = ({block, text}: Pick<TextBlock, "block" | "text">, depth: number): void => {
    const key = `${turn.id}/${block}`
    const known = before.get(`${key}/0`) as TextRow | undefined
    const of = known?.of ?? {split: NOTHING}
    of.split = splitMarkdown(text, of.split)
    const {pieces, definitions} = of.split
    pieces.forEach((piece, i) => add({kind: "text", key: `${key}/${i}`, turn: turn.id, depth, piece, definitions, of}))
  }
  const addBlock = (block: Block, depth: number): void => {
    const key = `${turn.id}/${block.block}`
    if (block.kind === "tool") {
      const children = inner.get(block.tool) ?? []
      add({kind: "tool", key, turn: turn.id, depth, block, runs, inner: children.length})
      if (unfolded(`${key}/inner`)) for (const child of children) addBlock(child, depth + 1)
    } else if (isThinking(block)) {
      if (block.text.trim() !== "") add({kind: "thinking", key, turn: turn.id, depth, text: block.text, live: runs && block === last})
    } else addText(block, depth)
  }

  const {id, prompt, author, source, attachments} = turn
  const at = turn.started_at ?? turn.queued_at
  add({kind: "prompt", key: `${id}/prompt`, turn: id, depth: 0, prompt, author, at, source, attachments})
  const tools = new Set(turn.blocks.map((b) => (b.kind === "tool" ? b.tool : "")))
  for (const block of turn.blocks) {
    // Whose tool is not known stands where it stands: nothing is left out.
    if (block.parent === undefined || !tools.has(block.parent)) addBlock(block, 0)
  }
  // What a command of the TUI printed is told as the turn's text alone.
  if (turn.text !== "" && !turn.blocks.some((b) => b.kind === "text" && b.parent === undefined)) addText({block: -1, text: turn.text}, 0)
  add({kind: "end", key: `${id}/end`, turn: id, depth: 0, of: runs ? withoutWords(turn, before.get(`${id}/end`)) : turn})
  return rows
}

function isThinking(block: TextBlock): boolean {
  return block.kind === "thinking"
}

/** Blocks of sub-agents, by the tool that called them. */
function childrenOf(blocks: readonly Block[]): ReadonlyMap<string, readonly Block[]> {
  const children = new Map<string, Block[]>()
  for (const block of blocks) {
    if (block.parent === undefined) continue
    const siblings = children.get(block.parent)
    if (siblings === undefined) children.set(block.parent, [block])
    else siblings.push(block)
  }
  return children
}

function withoutWords(turn: Turn, before: Row | undefined): Turn {
  if (before?.kind === "end" && before.of.status === "running") return before.of
  return {...turn, text: "", blocks: []}
}

function isEqual(a: Row, b: Row): boolean {
  const keys = Object.keys(b) as (keyof Row)[]
  return keys.length === Object.keys(a).length && keys.every((key) => Object.is(a[key], b[key]))
}
