import {keepToken} from "./link.js"

/** Where no token came with the address, or the one that did does not count. */
export function SignIn({onToken, refused}: {onToken: () => void, refused?: string}) {
  const submit = (form: FormData): void => {
    keepToken(String(form.get("token")).trim())
    onToken()
  }
  return (
    <main className="signin">
      <form action={submit}>
        <h1>claude-bridge</h1>
        <label htmlFor="token">Token</label>
        <input id="token" name="token" type="password" required autoFocus autoComplete="off" spellCheck={false} />
        {refused !== undefined && <p role="alert">{refused}</p>}
        <p>
          The bridge printed an address with its token when it was started. <code>claude-bridge token</code> lists them.
        </p>
        <button className="primary">Open</button>
      </form>
    </main>
  )
}
