/**
 * xterm.js writes its colours and sizes into `<style>` elements and `style` attributes, which a strict policy of content
 * forbids. Here is what it can make its elements with instead: the rules go into adopted sheets, the attributes are
 * set as properties, and both are allowed. Its own `documentOverride` is not asked everywhere (6.0.0: not for rows and
 * not for the scrollbar), so it does not do.
 */

export interface Sheet {
  replaceSync(text: string): void
}

export interface Made {
  textContent: string | null
  hidden: boolean
  readonly style: {cssText: string}
  setAttribute(name: string, value: string): void
  remove(): void
}

/** Of a document, what is used here. */
export interface Styled<S extends Sheet> {
  adoptedStyleSheets: S[]
  createElement(tag: string): Made
}

export type Create = (tag: string) => Made

export function adoptingCreate<S extends Sheet>(real: Styled<S>, newSheet: () => S): Create {
  const create = real.createElement.bind(real)
  return (tag) => {
    if (tag.toLowerCase() === "style") return adoptedStyle(real, create("span"), newSheet())
    const element = create(tag)
    const set = element.setAttribute.bind(element)
    element.setAttribute = (name, value) => {
      if (name.toLowerCase() === "style") element.style.cssText = value
      else set(name, value)
    }
    return element
  }
}

/** While `run` runs, and no longer, whatever makes an element of the document makes it with `create`. */
export function whileCreating<S extends Sheet>(real: Styled<S>, create: Create, run: () => void): void {
  real.createElement = create
  try {
    run()
  } finally {
    // What is behind it is the prototype's.
    delete (real as Partial<Styled<S>>).createElement
  }
}

/** Stands where the `<style>` would, without showing anything; the rules are adopted as long as it does. */
function adoptedStyle<S extends Sheet>(real: Styled<S>, element: Made, sheet: S): Made {
  const remove = element.remove.bind(element)
  let text = ""
  element.hidden = true
  real.adoptedStyleSheets = [...real.adoptedStyleSheets, sheet]
  Object.defineProperty(element, "textContent", {
    get: () => text,
    set: (rules: string | null) => {
      text = rules ?? ""
      sheet.replaceSync(text)
    },
  })
  element.remove = () => {
    real.adoptedStyleSheets = real.adoptedStyleSheets.filter((each) => each !== sheet)
    remove()
  }
  return element
}
