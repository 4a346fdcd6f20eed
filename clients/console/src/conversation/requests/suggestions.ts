/** What a suggestion of the CLI would change, in plain words. */

import {inputOf} from "../tools/says.js"

const WHERE: Record<string, string> = {
  session: "in this session",
  localSettings: "in this project, for this user (kept)",
  projectSettings: "in this project, for everybody who works on it (kept)",
  userSettings: "in every project of this user (kept)",
  cliArg: "in this session",
}

const MODES: Record<string, string> = {
  acceptEdits: "allow all edits of files",
  plan: "plan only",
  default: "ask as usual",
  bypassPermissions: "allow everything without asking",
  dontAsk: "refuse what is not allowed already",
  auto: "decide by itself what needs asking",
}

export function suggestionSays(suggestion: unknown): string {
  const given = inputOf(suggestion)
  const where = WHERE[String(given["destination"])] ?? `(${String(given["destination"] ?? "unknown scope")})`
  switch (given["type"]) {
    case "addRules":
      return `Always ${verb(given["behavior"])} ${rules(given["rules"])} ${where}`
    case "replaceRules":
      return `Replace the rules for ${verb(given["behavior"])} by ${rules(given["rules"])} ${where}`
    case "removeRules":
      return `Remove the rule to ${verb(given["behavior"])} ${rules(given["rules"])} ${where}`
    case "addDirectories":
      return `Let it work in ${strings(given["directories"])}, too, ${where}`
    case "removeDirectories":
      return `Do not let it work in ${strings(given["directories"])} any more, ${where}`
    case "setMode": {
      const mode = String(given["mode"])
      return `From now on ${MODES[mode] ?? `use the mode ${mode}`}, ${where}`
    }
    default:
      return JSON.stringify(suggestion)
  }
}

function verb(behavior: unknown): string {
  return behavior === "deny" ? "refuse" : behavior === "ask" ? "ask about" : "allow"
}

function rules(given: unknown): string {
  if (!Array.isArray(given)) return "it"
  return given.map(inputOf).map(({toolName, ruleContent}) => {
    const content = typeof ruleContent === "string" && ruleContent !== "" ? `(${ruleContent})` : ""
    return `${String(toolName)}${content}`
  }).join(", ")
}

function strings(given: unknown): string {
  return Array.isArray(given) ? given.map(String).join(", ") : String(given)
}
