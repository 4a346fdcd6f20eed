import {useState} from "react"
import {BridgeError} from "claude-bridge-client"

/** The bridge's own sentence, with what it lacks where it does not say so itself. */
export function failureOf(error: unknown): string {
  if (!(error instanceof BridgeError)) return error instanceof Error ? error.message : String(error)
  const {remedy} = error.details
  return typeof remedy === "string" && !error.message.includes(remedy) ? `${error.message} ${remedy}` : error.message
}

export interface Doing {
  readonly busy: boolean
  readonly failure: string | null
  /** The error itself, for who needs its code. */
  readonly error: unknown
  /** Runs one thing at a time; what it fails with is shown and never thrown. True where it was done. */
  run(what: () => Promise<unknown>): Promise<boolean>
}

export function useDoing(): Doing {
  const [busy, setBusy] = useState(false)
  const [error, setError] = useState<unknown>(null)
  return {
    busy,
    error,
    failure: error === null ? null : failureOf(error),
    async run(what) {
      if (busy) return false
      setBusy(true)
      setError(null)
      try {
        await what()
        return true
      } catch (failed) {
        setError(failed)
        return false
      } finally {
        setBusy(false)
      }
    },
  }
}
