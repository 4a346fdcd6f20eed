/** What is answered to a request, out of what a person filled in. */

import type {Answer, Json, Request} from "claude-bridge-client"
import {inputOf, questionsOf, type Question} from "../tools/says.js"
import {json} from "../tools/text.js"

export interface PermissionForm {
  /** The text of `editable`, changed or not; null where nobody edits it. */
  readonly edited: string | null
  /** Which of the request's suggestions are taken. */
  readonly suggestions: readonly number[]
}

export interface Choice {
  readonly labels: readonly string[]
  /** In the person's own words; counts where it is not empty. */
  readonly other: string
}

/** What can be changed before it is allowed: a command as it is, anything else as JSON. */
export function editable(request: Request): {readonly as: "command" | "json", readonly text: string} {
  const {command} = inputOf(request.input)
  return request.tool === "Bash" && typeof command === "string"
    ? {as: "command", text: command}
    : {as: "json", text: json(request.input)}
}

/** The input that the edited text is; a string says what is wrong with it. */
export function editedInput(request: Request, text: string): Json | string {
  if (editable(request).as === "command") {
    return text.trim() === "" ? "There is no command." : {...inputOf(request.input), command: text}
  }
  try {
    const input: unknown = JSON.parse(text)
    const isObject = typeof input === "object" && input !== null && !Array.isArray(input)
    return isObject ? (input as Json) : "The input of a tool is an object: { … }."
  } catch (error) {
    return `This is not JSON: ${error instanceof Error ? error.message : String(error)}`
  }
}

/** Null where the edited text is no input. */
export function allow(request: Request, {edited, suggestions}: PermissionForm): Answer | null {
  const input = edited === null || edited === editable(request).text ? undefined : editedInput(request, edited)
  if (typeof input === "string") return null
  return {decision: "allow", ...(input && {input}), ...(suggestions.length > 0 && {suggestions: [...suggestions].sort((a, b) => a - b)})}
}

export function deny(message: string): Answer {
  const said = message.trim()
  return {decision: "deny", ...(said !== "" && {message: said})}
}

/** Null as long as a question has no answer. */
export function answerQuestions(request: Request, choices: readonly Choice[]): Answer | null {
  const questions = questionsOf(request.input)
  const answers: Record<string, string> = {}
  for (const [i, question] of questions.entries()) {
    const answer = answerOf(question, choices[i])
    if (answer === "") return null
    answers[question.question] = answer
  }
  return {decision: "allow", input: {...inputOf(request.input), answers}}
}

/** Several are separated by commas, in the order in which they were offered. */
function answerOf({options, multiSelect}: Question, choice: Choice | undefined): string {
  const other = choice?.other.trim() ?? ""
  const chosen = options.map((o) => o.label).filter((label) => choice?.labels.includes(label))
  if (!multiSelect) return other === "" ? (chosen[0] ?? "") : other
  return [...chosen, ...(other === "" ? [] : [other])].join(", ")
}
