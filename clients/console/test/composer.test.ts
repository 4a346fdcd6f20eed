import {describe, expect, it} from "vitest"
import {Drafts} from "../src/conversation/composer/draft.js"
import {mediaType, pick} from "../src/conversation/composer/files.js"

function storage(): Storage {
  const kept = new Map<string, string>()
  return {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => void kept.set(key, value),
    removeItem: (key: string) => void kept.delete(key),
  } as Storage
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const note = {name: "note.md", media_type: "text/plain", data: bytes("x")}

describe("Drafts", () => {
  it("keeps what is written for each session, the text over a reload", () => {
    const kept = storage()
    const drafts = new Drafts(kept)
    drafts.set("a", {text: "one", files: [note]})
    drafts.set("b", {text: "two", files: []})
    expect(drafts.get("a")).toEqual({text: "one", files: [note]})
    expect(new Drafts(kept).get("b")).toEqual({text: "two", files: []})
    expect(drafts.taken("a")).toEqual({text: "", files: []})
    expect(drafts.get("a")).toEqual({text: "", files: []})
  })

  it("submits the same draft under the same key until it is taken, so that it runs once", () => {
    const drafts = new Drafts(storage())
    const draft = {text: "go", files: [note]}
    const key = drafts.key("a", draft)
    expect(drafts.key("a", {text: "go", files: [note]})).toBe(key)
    expect(drafts.key("a", {text: "go!", files: [note]})).not.toBe(key)
    const again = drafts.key("a", draft)
    drafts.taken("a")
    expect(drafts.key("a", draft)).not.toBe(again)
  })

  it("does not fail where the storage does", () => {
    const full = {...storage(), setItem: () => { throw new Error("full") }} as Storage
    expect(() => new Drafts(full).set("a", {text: "x", files: []})).not.toThrow()
  })
})

describe("files that go along", () => {
  it("are what their bytes say, where a browser's word for them is none of the bridge's", () => {
    expect(mediaType("video/mp2t", bytes("const a = 1"))).toBe("text/plain")
    expect(mediaType("", bytes("# title"))).toBe("text/plain")
    expect(mediaType("text/markdown; charset=utf-8", bytes("# title"))).toBe("text/markdown")
    expect(mediaType("image/png", new Uint8Array([0x89, 0x50]))).toBe("image/png")
    expect(mediaType("application/zip", new Uint8Array([0x50, 0x4b, 0]))).toBeNull()
    expect(mediaType("text/plain", new Uint8Array([0xff, 0xfe]))).toBeNull()
  })

  it("have a name without a path, and say why they stay", async () => {
    const file = (name: string, data: Uint8Array, size = data.length) => ({
      name, type: "", size, arrayBuffer: () => Promise.resolve(data.slice().buffer as ArrayBuffer),
    })
    expect(await pick(file("C:\\x\\a.py", bytes("x")))).toMatchObject({name: "a.py", media_type: "text/plain"})
    expect(await pick(file("b.zip", new Uint8Array([0])))).toBe("b.zip is neither text nor a picture nor a PDF.")
    expect(await pick(file("c.mov", bytes("x"), 1e9))).toBe("c.mov is too large.")
  })
})
