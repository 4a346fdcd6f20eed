/** The colours of code: a chunk of its own, which is loaded with the first code block that has a known language. */

export type Span = string | {readonly scope: string, readonly children: readonly Span[]}

let loading: Promise<typeof import("./languages.js")> | null = null

/** Null where the language is not known, or the chunk cannot be had. */
export async function highlight(source: string, lang: string): Promise<readonly Span[] | null> {
  try {
    loading ??= import("./languages.js")
    const {colour} = await loading
    return colour(source, lang)
  } catch {
    loading = null
    return null
  }
}
