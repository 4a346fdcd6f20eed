import {useState} from "react"

/** Says for a moment that it has copied, or that the browser does not let it. */
export function Copy({what, text}: {what: string, text: () => string}) {
  const [said, setSaid] = useState<string | null>(null)
  const copy = async (): Promise<void> => {
    setSaid((await written(text())) ? "Copied" : "Not allowed")
    setTimeout(() => setSaid(null), 1500)
  }
  return (
    <button type="button" className="quiet copy" aria-label={`Copy ${what}`} onClick={() => void copy()}>
      <span aria-live="polite">{said ?? "Copy"}</span>
    </button>
  )
}

async function written(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text)
    return true
  } catch {
    return writtenBySelection(text)
  }
}

/** Pages that came over plain HTTP from another machine have no `navigator.clipboard`. */
function writtenBySelection(text: string): boolean {
  const area = document.createElement("textarea")
  area.value = text
  area.className = "visually-hidden"
  document.body.append(area)
  const focused = document.activeElement as HTMLElement | null
  area.select()
  try {
    return document.execCommand("copy")
  } finally {
    area.remove()
    focused?.focus()
  }
}
