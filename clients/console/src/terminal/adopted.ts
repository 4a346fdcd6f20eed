/**
 * xterm.js writes its colours and sizes into `<style>` elements and `style` attributes, which a strict policy of content
 * forbids. Here is a document that it can make its elements of instead: the rules go into adopted sheets, the
 * attributes are set as properties, and both are allowed.
 */

export interface Sheet {
  replaceSync(text: string): void
}

interface Element {
  textContent: string | null
  hidden?: boolean
  readonly style: {cssText: string}
  setAttribute(name: string, value: string): void
  remove(): void
}

/** Of a document, what is used here. */
export interface Styled<S extends Sheet> {
  adoptedStyleSheets: S[]
  createElement(tag: string): Element
}

/** A document like `real` in everything but how its elements are styled. `instanceof Document` holds for it. */
export function adoptingDocument<S extends Sheet, D extends Styled<S>>(real: D, newSheet: () => S): D {
  const create = (tag: string): Element => {
    if (tag.toLowerCase() === "style") return adoptedStyle(real, newSheet())
    const element = real.createElement(tag)
    const set = element.setAttribute.bind(element)
    element.setAttribute = (name, value) => {
      if (name.toLowerCase() === "style") element.style.cssText = value
      else set(name, value)
    }
    return element
  }
  return new Proxy(real, {
    get(target, property) {
      if (property === "createElement") return create
      const value: unknown = Reflect.get(target, property, target)
      // A constructor is not called on the document, and would lose its properties.
      return typeof value === "function" && property !== "constructor" ? value.bind(target) : value
    },
    set: (target, property, value) => Reflect.set(target, property, value, target),
  })
}

/** Stands where the `<style>` would, without showing anything; the rules are adopted as long as it does. */
function adoptedStyle<S extends Sheet>(real: Styled<S>, sheet: S): Element {
  const element = real.createElement("span")
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
