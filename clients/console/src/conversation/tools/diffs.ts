/** What a tool changes in a file, as rows with their signs. */

import {structuredPatch} from "diff"

export interface Change {
  readonly path: string
  readonly before: string
  readonly after: string
  /** Every occurrence is changed. */
  readonly everywhere: boolean
  /** The whole file is given: what it was before is not told. */
  readonly whole: boolean
}

export interface DiffRow {
  readonly sign: "+" | "-" | " " | "@"
  readonly text: string
}

type Input = Readonly<Record<string, unknown>>

/** Beyond it two texts are not compared any more, and one is shown as taken away, the other as added. */
const COMPARE_MS = 100

export function changesOf(tool: string, input: Input): readonly Change[] {
  const text = (of: Input, key: string): string => (typeof of[key] === "string" ? (of[key] as string) : "")
  const edit = (of: Input): Change => ({
    path: text(input, "file_path"),
    before: text(of, "old_string"),
    after: text(of, "new_string"),
    everywhere: of["replace_all"] === true,
    whole: false,
  })
  switch (tool) {
    case "Edit":
      return [edit(input)]
    case "MultiEdit":
      return Array.isArray(input["edits"]) ? (input["edits"] as Input[]).map((one) => edit(one ?? {})) : []
    case "Write":
      return [{path: text(input, "file_path"), before: "", after: text(input, "content"), everywhere: false, whole: true}]
    case "NotebookEdit":
      return [{path: text(input, "notebook_path"), before: "", after: text(input, "new_source"), everywhere: false, whole: true}]
    default:
      return []
  }
}

export function diffRows(before: string, after: string): readonly DiffRow[] {
  if (before === "") return signed("+", after)
  if (after === "") return signed("-", before)
  const patch = structuredPatch("", "", before, after, "", "", {context: 3, timeout: COMPARE_MS})
  if (patch === undefined) return [...signed("-", before), ...signed("+", after)]
  return patch.hunks.flatMap((hunk, i) => {
    const rows = hunk.lines.filter((line) => !line.startsWith("\\")).map(row)
    return i === 0 ? rows : [{sign: "@", text: ""} as const, ...rows]
  })
}

/** "+3 −1". */
export function tally(rows: readonly DiffRow[]): {readonly added: number, readonly removed: number} {
  const of = (sign: string): number => rows.filter((r) => r.sign === sign).length
  return {added: of("+"), removed: of("-")}
}

function row(line: string): DiffRow {
  const sign = line[0]
  return {sign: sign === "+" || sign === "-" ? sign : " ", text: line.slice(1)}
}

function signed(sign: "+" | "-", text: string): readonly DiffRow[] {
  const lines = text.split("\n")
  if (lines.at(-1) === "") lines.pop()
  return lines.map((line) => ({sign, text: line}))
}
