import "./state.css"
import {stateWord} from "./says.js"

export function StateMark({state}: {state: string}) {
  return (
    <span className="state" data-state={state}>
      <span className="dot" aria-hidden="true" />
      {stateWord(state)}
    </span>
  )
}
