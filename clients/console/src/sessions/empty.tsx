import {CopyButton} from "../ui/copy.js"

const JAVASCRIPT = `import {connect} from "claude-bridge-client"

const bridge = connect("${location.origin}", {token})
const session = bridge.session("first", {start: {}})
console.log(await (await session.submit("Hello!")).text())`

const ELSEWHERE: readonly (readonly [string, string])[] = [
  ["In a terminal", "claude-bridge start first && claude-bridge submit first \"Hello!\""],
  ["From JavaScript", JAVASCRIPT],
]

/** Where nothing is yet: what to do first. */
export function Empty({onStart}: {onStart: () => void}) {
  return (
    <div className="nothing">
      <h1 tabIndex={-1}>No session yet</h1>
      <p>Start one: it goes on when this page is closed, and everybody with a token for it can follow.</p>
      <p><button className="primary" onClick={onStart}>Start a session</button></p>
      {ELSEWHERE.map(([where, code]) => (
        <section key={where} className="elsewhere">
          <h2>{where}</h2>
          <CopyButton text={code} label="Copy" />
          <pre tabIndex={0} role="region" aria-label={where}><code>{code}</code></pre>
        </section>
      ))}
    </div>
  )
}

export function Welcome({asks}: {asks: number}) {
  return (
    <div className="nothing">
      <h1 tabIndex={-1}>Sessions</h1>
      <p>
        {asks > 0
          ? "Those that ask you for something are first in the list."
          : <>Choose one from the list. <kbd>g</kbd> goes to one by its name, <kbd>n</kbd> starts one, <kbd>?</kbd> shows all keys.</>}
      </p>
    </div>
  )
}
