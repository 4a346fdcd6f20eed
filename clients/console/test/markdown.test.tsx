import {renderToStaticMarkup} from "react-dom/server"
import {describe, expect, it} from "vitest"
import {Prose, safeHref, tokensOf} from "../src/conversation/markdown/render.js"
import {plainText} from "../src/conversation/markdown/plain.js"

const html = (source: string, definitions = ""): string =>
  renderToStaticMarkup(<Prose source={source} definitions={definitions} />)

/** The names of all tags, and of all their attributes. */
const tags = (markup: string): string[] => [...markup.matchAll(/<([a-z0-9]+)/g)].map((m) => m[1] ?? "")

describe("Markdown of a reply", () => {
  it.each([
    "<script>alert(1)</script>",
    "before <script>alert(1)</script> after",
    '<img src=x onerror="alert(1)">',
    'text <img src=x onerror="alert(1)"> text',
    "<style>body { display: none }</style>",
    '<div style="position: fixed">over all</div>',
    '<iframe src="https://example.org"></iframe>',
    "<svg><script>alert(1)</script></svg>",
    '<form action="https://example.org"><input name="token"></form>',
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
  ])("shows tags as text: %s", (source) => {
    expect(tags(html(source)).filter((tag) => !["div", "p"].includes(tag))).toEqual([])
    expect(html(source)).not.toMatch(/<[^>]*\bon\w+=/)
  })

  it.each([
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java&#x73;cript:alert(1))",
    "[x](&#1;javascript:alert(1))",
    "[x](<java\tscript:alert(1)>)",
    "[x](vbscript:x)",
    "[x](data:text/html,<script>alert(1)</script>)",
    "[x](file:///etc/passwd)",
    "[x](//example.org/x)",
    "[x](src/app.ts)",
    "<javascript:alert(1)>",
  ])("links nowhere else than to the web and to mail: %s", (source) => {
    expect(html(source)).not.toContain("href")
  })

  it("opens links beside the page, and tells them nothing", () => {
    expect(html("[x](https://example.org/a?b=c&d=e)")).toContain(
      '<a href="https://example.org/a?b=c&amp;d=e" title="https://example.org/a?b=c&amp;d=e" target="_blank" rel="noopener noreferrer">x</a>',
    )
    expect(safeHref("mailto:a@example.org")).toBe("mailto:a@example.org")
  })

  it("loads no image from elsewhere", () => {
    const markup = html("![a chart](https://example.org/chart.png)")
    expect(markup).not.toContain("<img")
    expect(markup).toContain(">image: a chart</a>")
    expect(html("[![badge](https://example.org/b.svg)](https://example.org)")).not.toContain("<img")
    expect(html("![x](data:image/svg+xml;base64,PHN2Zz4=)")).not.toContain("<img")
    expect(html("![x](data:image/png;base64,iVBORw0KGgo=)")).toContain('<img src="data:image/png;base64,iVBORw0KGgo=" alt="x"/>')
  })

  it("is what was written", () => {
    const markup = html("## Head\n\n- [x] done\n- **b** `c<d` &amp; &lt;e&gt; ~~f~~\n\n| a | b |\n|--|:-:|\n| 1<br>2 | 3 |\n\n3. three")
    expect(markup).toContain('<h3 class="md-h2">Head</h3>')
    expect(markup).toContain('<input type="checkbox" disabled="" readOnly="" aria-label="done" checked=""/>')
    expect(markup).toContain("<strong>b</strong> <code>c&lt;d</code> &amp; &lt;e&gt; <del>f</del>")
    expect(markup).toContain("<td>1<br/>2</td>")
    expect(markup).toContain('<ol start="3"><li>three</li></ol>')
  })

  it("finds the definitions that stand in other pieces", () => {
    expect(html("see [there][x]", "[x]: https://example.org/x\n")).toContain('href="https://example.org/x"')
  })

  it("is searched without its marks", () => {
    expect(plainText(tokensOf("**bold** and `code` &amp; [link](https://example.org)\n\n- item"))).toBe("bold and code & link\nitem\n")
  })
})
