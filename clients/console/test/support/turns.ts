import type {Block, Turn} from "claude-bridge-client"

/** A completed turn, or whatever `more` says. */
export function turn(id: string, more: Partial<Turn> = {}): Turn {
  return {
    id, prompt: `prompt of ${id}`, author: "anna", source: "client", status: "completed", text: "", blocks: [],
    queued_at: "2026-01-01T00:00:00.000Z", ...more,
  }
}

export const text = (block: number, said: string, parent?: string): Block =>
  ({block, kind: "text", text: said, ...(parent !== undefined && {parent})})

export const tool = (block: number, name: string, more: object = {}): Block =>
  ({block, kind: "tool", tool: `tool-${block}`, name, input: {}, output: null, is_error: false, truncated: false, ...more}) as Block
