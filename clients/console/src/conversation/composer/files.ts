/** Files that go with a prompt: read when they are picked, so that they are still there when it is sent. */

export interface Picked {
  readonly name: string
  readonly media_type: string
  readonly data: Uint8Array
}

/** Beyond it a file is not even read; what the bridge takes is less and its own to say. */
const MOST_BYTES = 20_000_000

const BINARY = new Set(["image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf"])

/** A string says why it cannot go along. */
export async function pick(file: Pick<File, "name" | "type" | "size" | "arrayBuffer">): Promise<Picked | string> {
  const name = file.name.replace(/^.*[/\\]/, "") || "file"
  if (file.size > MOST_BYTES) return `${name} is too large.`
  try {
    const data = new Uint8Array(await file.arrayBuffer())
    const media_type = mediaType(file.type, data)
    return media_type === null ? `${name} is neither text nor a picture nor a PDF.` : {name, media_type, data}
  } catch {
    return `${name} cannot be read. Folders cannot go along.`
  }
}

/** What browsers say of source code is often wrong (`video/mp2t` of TypeScript): what is text by its bytes is text. */
export function mediaType(said: string, data: Uint8Array): string | null {
  const type = said.split(";")[0]?.trim().toLowerCase() ?? ""
  if (BINARY.has(type)) return type
  if (!isText(data)) return null
  return type.startsWith("text/") || type === "application/json" ? type : "text/plain"
}

function isText(data: Uint8Array): boolean {
  if (data.subarray(0, 8000).includes(0)) return false
  try {
    new TextDecoder("utf-8", {fatal: true}).decode(data)
    return true
  } catch {
    return false
  }
}
