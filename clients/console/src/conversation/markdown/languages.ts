import hljs from "highlight.js/lib/core"
import type {Emitter} from "highlight.js"
import bash from "highlight.js/lib/languages/bash"
import c from "highlight.js/lib/languages/c"
import cpp from "highlight.js/lib/languages/cpp"
import css from "highlight.js/lib/languages/css"
import diff from "highlight.js/lib/languages/diff"
import elixir from "highlight.js/lib/languages/elixir"
import go from "highlight.js/lib/languages/go"
import ini from "highlight.js/lib/languages/ini"
import java from "highlight.js/lib/languages/java"
import javascript from "highlight.js/lib/languages/javascript"
import json from "highlight.js/lib/languages/json"
import python from "highlight.js/lib/languages/python"
import rust from "highlight.js/lib/languages/rust"
import sql from "highlight.js/lib/languages/sql"
import typescript from "highlight.js/lib/languages/typescript"
import xml from "highlight.js/lib/languages/xml"
import yaml from "highlight.js/lib/languages/yaml"
import type {Span} from "./highlight.js"

const LANGUAGES = {
  bash, c, cpp, css, diff, elixir, go, ini, java, javascript, json, python, rust, sql, typescript, xml, yaml,
}

/** Collects spans where highlight.js would write HTML. */
class Spans implements Emitter {
  readonly spans: Span[] = []
  readonly #open: Span[][] = [this.spans]

  addText(text: string): void {
    if (text !== "") this.#open.at(-1)?.push(text)
  }

  startScope(scope: string): void {
    this.openNode(scope)
  }

  endScope(): void {
    this.closeNode()
  }

  // Its types leave these out, and it calls them.
  openNode(scope: string): void {
    const children: Span[] = []
    this.#open.at(-1)?.push({scope, children})
    this.#open.push(children)
  }

  closeNode(): void {
    if (this.#open.length > 1) this.#open.pop()
  }

  __addSublanguage(emitter: Emitter): void {
    this.#open.at(-1)?.push(...(emitter as Spans).spans)
  }

  finalize(): void {
    this.#open.length = 1
  }

  toHTML(): string {
    return ""
  }
}

for (const [name, language] of Object.entries(LANGUAGES)) hljs.registerLanguage(name, language)
hljs.registerAliases(["console", "shell", "sh", "zsh"], {languageName: "bash"})
hljs.configure({__emitter: Spans})

export function colour(source: string, lang: string): readonly Span[] | null {
  if (hljs.getLanguage(lang) === undefined) return null
  const {_emitter} = hljs.highlight(source, {language: lang, ignoreIllegals: true})
  return (_emitter as unknown as Spans).spans
}
