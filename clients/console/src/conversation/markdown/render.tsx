/**
 * Markdown as React elements, out of marked's tokens. No HTML is ever made of it: tags in the text are shown as text,
 * so that there is nothing to sanitise, and a page that demands trusted types has it.
 */

import "./markdown.css"
import {Fragment, memo, type ReactNode} from "react"
import {Marked, type Token, type Tokens} from "marked"
import {Code} from "./code.js"
import {decodeEntities} from "./entities.js"

const marked = new Marked({gfm: true})

/** A piece of Markdown. `definitions` are those of links which stand in other pieces. */
export const Prose = memo(function Prose({source, definitions = ""}: {source: string, definitions?: string}) {
  return <div className="md">{blocks(tokensOf(source, definitions))}</div>
})

export function tokensOf(source: string, definitions = ""): Token[] {
  return marked.lexer(definitions === "" ? source : `${source}\n\n${definitions}`)
}

/** What a link may lead to; anything else is shown and leads nowhere. */
export function safeHref(href: string): string | null {
  // What a browser ignores in an address could hide its scheme.
  const bare = decodeEntities(href).replace(/[\u0000-\u0020\u007f-\u00a0\u200b-\u200f\u2028-\u202e\ufeff]/g, "")
  return /^(?:https?:\/\/|mailto:)/i.test(bare) ? bare : null
}

function blocks(tokens: readonly Token[] | undefined): ReactNode[] {
  return (tokens ?? []).map((token, i) => <Fragment key={i}>{block(token)}</Fragment>)
}

function block(token: Token): ReactNode {
  switch (token.type) {
    case "space":
    case "def":
      return null
    case "hr":
      return <hr />
    case "heading": {
      // The page's own headings are above these; a level more would be no level.
      const Level = (["h3", "h3", "h4", "h5", "h6", "h6"] as const)[(token as Tokens.Heading).depth - 1] ?? "h6"
      return <Level className={`md-h${(token as Tokens.Heading).depth}`}>{inlines(token)}</Level>
    }
    case "paragraph":
      return <p>{inlines(token)}</p>
    case "code": {
      const {text, lang = ""} = token as Tokens.Code
      return <Code source={text} lang={lang.split(/\s/)[0] ?? ""} whole={() => text} />
    }
    case "blockquote":
      return <blockquote>{blocks((token as Tokens.Blockquote).tokens)}</blockquote>
    case "list":
      return list(token as Tokens.List)
    case "table":
      return table(token as Tokens.Table)
    case "html":
      return <p className="md-html">{(token as Tokens.HTML).raw.trim()}</p>
    case "text":
      return (token as Tokens.Text).tokens ? inlines(token) : inline(token)
    default:
      return inline(token)
  }
}

function list({ordered, start, items}: Tokens.List): ReactNode {
  const rows = items.map((item, i) => (
    <li key={i} className={item.task ? "md-task" : undefined}>
      {item.task && <input type="checkbox" checked={item.checked === true} disabled readOnly aria-label={item.checked ? "done" : "to do"} />}
      {blocks(item.tokens.filter((t) => t.type !== "checkbox"))}
    </li>
  ))
  return ordered ? <ol start={start === "" ? undefined : start}>{rows}</ol> : <ul>{rows}</ul>
}

function table({header, rows, align}: Tokens.Table): ReactNode {
  const style = (i: number) => (align[i] ? {textAlign: align[i]} as const : undefined)
  return (
    <div className="md-table" tabIndex={0} role="region" aria-label="Table">
      <table>
        <thead>
          <tr>{header.map((cell, i) => <th key={i} scope="col" style={style(i)}>{inlines(cell)}</th>)}</tr>
        </thead>
        <tbody>
          {rows.map((row, r) => (
            <tr key={r}>{row.map((cell, i) => <td key={i} style={style(i)}>{inlines(cell)}</td>)}</tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}

function inlines(token: {readonly tokens?: readonly Token[] | undefined, readonly text?: string}): ReactNode {
  if (token.tokens === undefined) return decodeEntities(token.text ?? "")
  return token.tokens.map((t, i) => <Fragment key={i}>{inline(t)}</Fragment>)
}

function inline(token: Token): ReactNode {
  switch (token.type) {
    case "strong":
      return <strong>{inlines(token as Tokens.Strong)}</strong>
    case "em":
      return <em>{inlines(token as Tokens.Em)}</em>
    case "del":
      return <del>{inlines(token as Tokens.Del)}</del>
    case "codespan":
      return <code>{(token as Tokens.Codespan).text}</code>
    case "br":
      return <br />
    case "escape":
      return (token as Tokens.Escape).text
    case "link":
      return link(token as Tokens.Link)
    case "image":
      return image(token as Tokens.Image)
    case "html":
      return /^<br\s*\/?>$/i.test(token.raw) ? <br /> : token.raw
    case "text":
      return (token as Tokens.Text).tokens ? inlines(token as Tokens.Text) : decodeEntities((token as Tokens.Text).text)
    default:
      return token.raw
  }
}

function link(token: Tokens.Link): ReactNode {
  const href = safeHref(token.href)
  if (href === null) return <span className="md-nolink" title={token.href}>{inlines(token)}</span>
  return <a href={href} title={token.title ?? href} target="_blank" rel="noopener noreferrer">{inlines(token)}</a>
}

/** What an image shows is fetched from nowhere: whoever wrote the address would learn that it was read. */
function image({href, text}: Tokens.Image): ReactNode {
  if (/^data:image\/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]+$/.test(href)) return <img src={href} alt={text} />
  const safe = safeHref(href)
  const says = `image: ${text === "" ? href : text}`
  return safe === null
    ? <span className="md-nolink" title={href}>{says}</span>
    : <a href={safe} title={safe} target="_blank" rel="noopener noreferrer">{says}</a>
}
