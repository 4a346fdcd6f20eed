import {useEffect, useState} from "react"
import {notify} from "./notices.js"

export function CopyButton({text, label, className = "quiet"}: {text: string, label: string, className?: string}) {
  const [done, setDone] = useState(false)
  useEffect(() => {
    if (!done) return
    const timer = setTimeout(() => setDone(false), 1500)
    return () => clearTimeout(timer)
  }, [done])
  return (
    <button type="button" className={className} onClick={() => void copy(text).then(setDone)}>
      {done ? "Copied" : label}
    </button>
  )
}

/** Without TLS a browser has no clipboard for pages but that of a machine's own address: then the old way is tried. */
export async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text)
    return true
  } catch {
    return copyBySelection(text)
  }
}

function copyBySelection(text: string): boolean {
  const before = document.activeElement
  const field = document.createElement("textarea")
  field.value = text
  field.className = "visually-hidden"
  document.body.append(field)
  field.select()
  const done = document.execCommand("copy")
  field.remove()
  if (before instanceof HTMLElement) before.focus()
  if (!done) notify(`This browser does not let the page copy. By hand: ${text}`, "bad")
  return done
}
