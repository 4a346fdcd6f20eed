import {memo, useEffect, useState, type ReactNode} from "react"
import {Copy} from "../copy.js"
import {highlight, type Span} from "./highlight.js"

/** Code that is not coloured: it would take longer than a frame. */
const MOST_CHARACTERS = 20_000

interface Props {
  readonly source: string
  readonly lang: string
  /** What the button copies; of a block in pieces, all of it. */
  readonly whole: () => string
  /** Goes on with the block above it: without a head of its own. */
  readonly continues?: boolean
}

export const Code = memo(function Code({source, lang, whole, continues = false}: Props) {
  const spans = useHighlight(source, lang)
  return (
    <figure className={continues ? "code code-more" : "code"}>
      {!continues && (
        <figcaption>
          <span>{lang}</span>
          <Copy what="code" text={whole} />
        </figcaption>
      )}
      <pre tabIndex={0}><code>{spans === null ? source : spans.map(render)}</code></pre>
    </figure>
  )
})

/** The spans of the last source that was coloured are not shown for another: text first, colours when they are there. */
function useHighlight(source: string, lang: string): readonly Span[] | null {
  const [done, setDone] = useState<{readonly source: string, readonly spans: readonly Span[]} | null>(null)
  useEffect(() => {
    if (lang === "" || source.length > MOST_CHARACTERS) return
    let wanted = true
    // Not while it is being written: the colours would flicker, and be made anew at each frame.
    const timer = setTimeout(() => {
      void highlight(source, lang).then((spans) => wanted && spans !== null && setDone({source, spans}))
    }, 80)
    return () => {
      wanted = false
      clearTimeout(timer)
    }
  }, [source, lang])
  return done?.source === source ? done.spans : null
}

function render(span: Span, key: number): ReactNode {
  if (typeof span === "string") return span
  return <span key={key} className={`hl-${span.scope.split(".")[0]}`}>{span.children.map(render)}</span>
}
