/** What a tool call says in one line, and what stands below it. */

import type {ToolBlock} from "claude-bridge-client"
import {changesOf, type Change} from "./diffs.js"
import {count, linesOf, plainOutput, shortPath} from "./text.js"

export type Input = Readonly<Record<string, unknown>>

export interface ToolLine {
  readonly name: string
  /** The thing that matters: the command, the path, the pattern. */
  readonly about: string
  /** Whether `about` is code rather than words. */
  readonly code: boolean
}

export interface ToolState {
  readonly state: "running" | "done" | "failed" | "unanswered"
  readonly says: string
}

export interface Todo {
  readonly content: string
  readonly status: string
}

export function inputOf(input: unknown): Input {
  return typeof input === "object" && input !== null && !Array.isArray(input) ? (input as Input) : {}
}

export function toolLine(tool: string, given: unknown, cwd: string | null): ToolLine {
  const input = inputOf(given)
  const text = (key: string): string => (typeof input[key] === "string" ? (input[key] as string) : "")
  const line = (about: string, code = true): ToolLine => ({name: displayName(tool), about: firstLine(about), code})
  switch (tool) {
    case "Bash":
      return line(text("command"))
    case "Read":
    case "Edit":
    case "MultiEdit":
    case "Write":
    case "NotebookEdit":
      return line(shortPath(text("file_path") || text("notebook_path"), cwd))
    case "Glob":
    case "Grep":
      return line(text("pattern") + (text("path") === "" ? "" : ` in ${shortPath(text("path"), cwd)}`))
    case "Task":
    case "Agent":
      return line([text("subagent_type"), text("description")].filter((s) => s !== "").join(": "), false)
    case "TodoWrite": {
      const todos = todosOf(input)
      return line(`${todos.filter((t) => t.status === "completed").length} of ${todos.length} done`, false)
    }
    case "WebSearch":
      return line(text("query"), false)
    case "AskUserQuestion":
      return line(questionsOf(input).map((q) => q.question).join(" "), false)
    case "ExitPlanMode":
      return line(text("plan").replace(/^#+\s*/, ""), false)
    default: {
      const known = text("url") || text("path") || text("file_path") || text("command") || text("query")
      const first = Object.values(input).find((value) => typeof value === "string" && value !== "")
      return line(known || (typeof first === "string" ? first : ""))
    }
  }
}

/** `mcp__server__tool` as people say it. */
export function displayName(tool: string): string {
  const [, server, name] = /^mcp__(.+?)__(.+)$/.exec(tool) ?? []
  return server === undefined ? tool : `${server}: ${name}`
}

export function toolState({output, is_error, truncated}: ToolBlock, turnRuns: boolean): ToolState {
  if (output === null) {
    return turnRuns ? {state: "running", says: "running"} : {state: "unanswered", says: "no result"}
  }
  const lines = linesOf(output).length
  const size = lines === 0 ? "" : count(lines, "line") + (truncated ? ", cut" : "")
  return is_error
    ? {state: "failed", says: size === "" ? "failed" : `failed, ${size}`}
    : {state: "done", says: size === "" ? "done" : size}
}

/** What changes in which files, of the tools that change files; empty of every other. */
export function changes(tool: string, given: unknown): readonly Change[] {
  return changesOf(tool, inputOf(given))
}

export function todosOf(given: unknown): readonly Todo[] {
  const {todos} = inputOf(given)
  if (!Array.isArray(todos)) return []
  return todos.map((todo) => {
    const {content, status} = inputOf(todo)
    return {content: String(content ?? ""), status: String(status ?? "pending")}
  })
}

export interface Question {
  readonly question: string
  readonly header: string
  readonly multiSelect: boolean
  readonly options: readonly {readonly label: string, readonly description: string}[]
}

export function questionsOf(given: unknown): readonly Question[] {
  const {questions} = inputOf(given)
  if (!Array.isArray(questions)) return []
  return questions.map((asked) => {
    const {question, header, multiSelect, options} = inputOf(asked)
    const offered = Array.isArray(options) ? options.map(inputOf) : []
    return {
      question: String(question ?? ""),
      header: String(header ?? ""),
      multiSelect: multiSelect === true,
      options: offered.map((o) => ({label: String(o["label"] ?? ""), description: String(o["description"] ?? "")})),
    }
  })
}

/** Output as it is shown: without what only a terminal understands. */
export function outputOf(block: ToolBlock): string {
  return plainOutput(block.output ?? "")
}

function firstLine(text: string): string {
  const trimmed = text.trim()
  const end = trimmed.indexOf("\n")
  const line = end === -1 ? trimmed : `${trimmed.slice(0, end).trimEnd()} …`
  return line.length > 300 ? `${line.slice(0, 300)}…` : line
}
