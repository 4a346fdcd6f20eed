import {useState} from "react"
import {readToken} from "../../token.js"

/** The bytes of a file that came with a prompt, fetched with the token and handed to the browser as a download. */
export function useAttachment({session, turn, number, name}: {session: string, turn: string, number: number, name: string}) {
  const [problem, setProblem] = useState<string | null>(null)
  const download = (): void => {
    setProblem(null)
    const path = ["api", "sessions", session, "turns", turn, "attachments", String(number)].map(encodeURIComponent).join("/")
    fetched(new URL(`/${path}`, location.origin)).then(
      (blob) => save(blob, name),
      (error: unknown) => setProblem(error instanceof Error ? error.message : String(error)),
    )
  }
  return {download, problem}
}

async function fetched(url: URL): Promise<Blob> {
  const response = await fetch(url, {headers: {authorization: `Bearer ${readToken() ?? ""}`}})
  if (response.ok) return response.blob()
  const said = (await response.json().catch(() => ({}))) as {message?: string}
  throw new Error(said.message ?? `The bridge answered with ${response.status}.`)
}

function save(blob: Blob, name: string): void {
  const link = document.createElement("a")
  link.href = URL.createObjectURL(blob)
  link.download = name
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000)
}
