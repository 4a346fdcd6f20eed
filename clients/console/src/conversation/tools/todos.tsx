import type {Todo} from "./says.js"

const SAYS: Record<string, string> = {completed: "done", in_progress: "in progress", pending: "to do"}

export function Todos({todos}: {todos: readonly Todo[]}) {
  return (
    <ul className="todos">
      {todos.map(({content, status}, i) => (
        <li key={i} className={`todo-${status}`}>
          <span>{content}</span>
          <span className="todo-status">{SAYS[status] ?? status}</span>
        </li>
      ))}
    </ul>
  )
}
