import {useLobby} from "./link.js"
import {hrefOf, useRoute} from "./route.js"
import {Conversation} from "./conversation/conversation.js"
import {TerminalPane} from "./terminal/pane.js"

export function Shell({onSignOut}: {onSignOut: () => void}) {
  const name = useRoute()
  const lobby = useLobby()
  return (
    <div className="shell">
      <nav aria-label="Sessions">
        {lobby.list.map((s) => (
          <a key={s.name} href={hrefOf(s.name)} aria-current={s.name === name ? "page" : undefined}>
            {s.name} {s.state}
          </a>
        ))}
        <button onClick={onSignOut}>Sign out</button>
      </nav>
      <main>
        {name !== null && <Conversation key={name} name={name} />}
        {name !== null && lobby.list.find((s) => s.name === name)?.backend === "tmux" && <TerminalPane key={name} name={name} />}
      </main>
    </div>
  )
}
