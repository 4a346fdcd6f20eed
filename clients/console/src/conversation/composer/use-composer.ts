import {useCallback, useRef, useState} from "react"
import {BridgeError, type Session} from "claude-bridge-client"
import {Drafts, isEmpty, type Draft} from "./draft.js"
import {pick} from "./files.js"

const drafts = new Drafts(sessionStorage)

export interface Problem {
  readonly says: string
  readonly code: string
}

export interface Composing {
  readonly draft: Draft
  readonly sending: boolean
  readonly problem: Problem | null
  setText(text: string): void
  add(files: Iterable<File>): void
  remove(index: number): void
  submit(): void
  interrupt(): void
  /** When something was typed last, by `performance.now()`. */
  readonly typedAt: {readonly current: number}
}

/** The draft of a session and what is done with it. Never lets go of it before the bridge has it. */
export function useComposer(session: Session, backend: string | undefined): Composing {
  const {name} = session
  const [draft, setDraft] = useState(() => drafts.get(name))
  const [sending, setSending] = useState(false)
  const [problem, setProblem] = useState<Problem | null>(null)
  const typedAt = useRef(Number.NEGATIVE_INFINITY)

  const change = useCallback((to: (draft: Draft) => Draft) => {
    setDraft((before) => {
      const after = to(before)
      drafts.set(name, after)
      return after
    })
  }, [name])

  const submit = (): void => {
    if (sending || isEmpty(draft)) return
    setSending(true)
    setProblem(null)
    send(session, backend, draft, drafts.key(name, draft)).then(
      () => setDraft(drafts.taken(name)),
      (error: unknown) => {
        if (!isUncertain(error)) drafts.settled(name)
        setProblem(problemOf(error))
      },
    ).finally(() => setSending(false))
  }

  return {
    draft,
    sending,
    problem,
    typedAt,
    submit,
    setText(text) {
      typedAt.current = performance.now()
      change((d) => ({...d, text}))
    },
    add(files) {
      for (const file of files) {
        void pick(file).then((picked) => {
          if (typeof picked === "string") setProblem({says: picked, code: ""})
          else change((d) => ({...d, files: [...d.files, picked]}))
        })
      }
    },
    remove(index) {
      change((d) => ({...d, files: d.files.filter((_, i) => i !== index)}))
    },
    interrupt() {
      setProblem(null)
      session.interrupt().catch((error: unknown) => setProblem(problemOf(error)))
    },
  }
}

async function send(session: Session, backend: string | undefined, {text, files}: Draft, id: string): Promise<void> {
  const prompt = text.trimEnd()
  if (backend === "tmux" && prompt.startsWith("/") && files.length === 0) await session.command(prompt, {id})
  else await session.submit(prompt, {id, ...(files.length > 0 && {attachments: files})})
}

/** Whether the bridge may have it all the same. */
function isUncertain(error: unknown): boolean {
  return error instanceof BridgeError && ["timeout", "disconnected", "closed", "internal"].includes(error.code)
}

function problemOf(error: unknown): Problem {
  if (!(error instanceof BridgeError)) return {says: String(error), code: ""}
  const says = error.code === "timeout"
    ? "The bridge did not answer. It may have the prompt: send it again as it is, and it runs once."
    : error.message
  return {says, code: error.code}
}
