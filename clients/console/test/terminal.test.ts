import {describe, expect, test} from "vitest"
import {adoptingCreate, whileCreating, type Styled} from "../src/terminal/adopted.js"
import {Batch} from "../src/terminal/batch.js"
import {fittingFont, LARGEST_PX, sizeFor, SMALLEST_PX} from "../src/terminal/sizes.js"
import {frames} from "./support/frames.js"

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

describe("a batch", () => {
  test("is one write a frame, in order", () => {
    const {schedule, next, count} = frames()
    const written: string[] = []
    const batch = new Batch((all) => written.push(new TextDecoder().decode(all)), schedule)
    for (const piece of ["one ", "", "two ", "three"]) batch.add(bytes(piece))
    expect(written).toEqual([])
    next()
    expect(written).toEqual(["one two three"])
    expect(count()).toBe(1)
    batch.add(bytes("four"))
    next()
    expect(written).toEqual(["one two three", "four"])
  })

  test("is dropped for a picture that replaces it", () => {
    const {schedule, next} = frames()
    const written: Uint8Array[] = []
    const batch = new Batch((all) => written.push(all), schedule)
    batch.add(bytes("old"))
    batch.drop()
    next()
    expect(written).toEqual([])
    batch.add(bytes("new"))
    next()
    expect(written).toEqual([bytes("new")])
  })
})

class FakeSheet {
  text = ""
  replaceSync(text: string): void {
    this.text = text
  }
}

class FakeElement {
  textContent: string | null = null
  hidden = false
  removed = false
  readonly attributes: Record<string, string> = {}
  readonly style = {cssText: ""}
  constructor(readonly tag: string) {}
  setAttribute(name: string, value: string): void {
    this.attributes[name] = value
  }
  remove(): void {
    this.removed = true
  }
}

class FakeDocument implements Styled<FakeSheet> {
  adoptedStyleSheets: FakeSheet[] = [new FakeSheet()]
  createElement(tag: string): FakeElement {
    return new FakeElement(tag)
  }
}

describe("elements for xterm.js", () => {
  const real = new FakeDocument()
  const create = adoptingCreate(real, () => new FakeSheet())

  test("are no style elements, but their rules are adopted as long as they are there", () => {
    const style = create("style") as FakeElement
    expect(style.tag).not.toBe("style")
    expect(style.hidden).toBe(true)
    expect(real.adoptedStyleSheets).toHaveLength(2)
    style.textContent = ".a { color: red }"
    expect(real.adoptedStyleSheets[1]?.text).toBe(".a { color: red }")
    expect(style.textContent).toBe(".a { color: red }")
    style.remove()
    expect(style.removed).toBe(true)
    expect(real.adoptedStyleSheets).toHaveLength(1)
  })

  test("have their style attribute set as properties, and others as ever", () => {
    const span = create("span") as FakeElement
    span.setAttribute("style", "color: #123456;")
    span.setAttribute("aria-hidden", "true")
    expect(span.style.cssText).toBe("color: #123456;")
    expect(span.attributes).toEqual({"aria-hidden": "true"})
  })

  test("are made so while it is opened, and no longer, even where that fails", () => {
    const tags: string[] = []
    whileCreating(real, create, () => tags.push((real.createElement("style")).tag))
    expect(() => whileCreating(real, create, () => {
      throw new Error("no room")
    })).toThrow("no room")
    tags.push(real.createElement("style").tag)
    expect(tags).toEqual(["span", "style"])
  })
})

describe("sizes", () => {
  test("letters shrink until the screen fits, and never grow beyond the usual", () => {
    expect(fittingFont(13, {width: 1000, height: 400}, {width: 800, height: 600})).toBe(10)
    expect(fittingFont(10, {width: 400, height: 400}, {width: 800, height: 800})).toBe(LARGEST_PX)
    expect(fittingFont(13, {width: 2000, height: 400}, {width: 390, height: 600})).toBe(SMALLEST_PX)
    expect(fittingFont(13, {width: 571, height: 400}, {width: 570.5, height: 600})).toBe(13)
    expect(fittingFont(13, {width: 0, height: 0}, {width: 390, height: 600})).toBe(13)
  })

  test("a process gets a size that the bridge takes", () => {
    const screen = {width: 800, height: 360}
    expect(sizeFor({width: 1209, height: 603}, screen, {cols: 80, rows: 24})).toEqual({cols: 120, rows: 40})
    expect(sizeFor({width: 10, height: 9999}, screen, {cols: 80, rows: 24})).toEqual({cols: 20, rows: 300})
  })
})
