import "./signin.css"
import {useEffect, useId, useState, type FormEvent} from "react"
import {titleOf} from "./ui/title.js"

interface Props {
  readonly onToken: (token: string) => void
  /** What the bridge said of the token that was tried. */
  readonly refused?: string
}

/** Where no token came with the address, or the one that did does not count. */
export function SignIn(props: Props) {
  useEffect(() => {
    document.title = titleOf(0, null)
  }, [])
  return (
    <main className="signin">
      <div className="signin-card">
        <Mark />
        <h1>claude-bridge</h1>
        <p className="signin-what">Sessions of Claude that go on when this page is closed.</p>
        <TokenForm {...props} autoFocus />
        <p className="signin-help">
          The bridge prints an address with its token when it starts. On its machine, <code>claude-bridge token</code> shows
          the token again.
        </p>
      </div>
    </main>
  )
}

/** Also asked in the middle of the work, when a token has run out. */
export function TokenForm({onToken, refused, autoFocus = false}: Props & {readonly autoFocus?: boolean}) {
  const id = useId()
  const [token, setToken] = useState("")
  const submit = (event: FormEvent): void => {
    event.preventDefault()
    if (token.trim() !== "") onToken(token.trim())
  }
  return (
    <form className="token-form" onSubmit={submit}>
      <label htmlFor={id}>Token</label>
      <div className="token-row">
        <input
          id={id} type="password" required autoFocus={autoFocus} autoComplete="off" spellCheck={false} value={token}
          aria-invalid={refused !== undefined} aria-describedby={refused === undefined ? undefined : `${id}-refused`}
          onChange={(event) => setToken(event.target.value)}
        />
        <button className="primary">Open</button>
      </div>
      {refused !== undefined && <p id={`${id}-refused`} role="alert" className="failure">{refused}</p>}
    </form>
  )
}

export function Mark() {
  return (
    <svg className="mark" viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="7" />
      <path d="M5 21c0-7 5-11 11-11s11 4 11 11M5 21h22M11 21v-9.500M21 21v-9.500M16 21V10" />
    </svg>
  )
}
