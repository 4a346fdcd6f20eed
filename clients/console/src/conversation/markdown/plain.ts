import type {Token, Tokens} from "marked"
import {decodeEntities} from "./entities.js"

/** What is read of Markdown, without its marks: what a search goes through. */
export function plainText(tokens: readonly Token[]): string {
  return tokens.map(plain).join("")
}

function plain(token: Token): string {
  switch (token.type) {
    case "space":
    case "def":
    case "hr":
    case "checkbox":
      return ""
    case "br":
      return "\n"
    case "list":
      return (token as Tokens.List).items.map((item) => `${plainText(item.tokens)}\n`).join("")
    case "table": {
      const {header, rows} = token as Tokens.Table
      return [header, ...rows].map((row) => row.map((cell) => plainText(cell.tokens)).join(" ")).join("\n") + "\n"
    }
    case "codespan":
    case "code":
    case "escape":
      return (token as Tokens.Codespan).text
    case "html":
      return token.raw
    default: {
      const {tokens, text = ""} = token as {tokens?: Token[], text?: string}
      const isBlock = ["paragraph", "heading", "blockquote"].includes(token.type)
      return (tokens === undefined ? decodeEntities(text) : plainText(tokens)) + (isBlock ? "\n" : "")
    }
  }
}
