import {useFold} from "../folds.js"
import {count, linesOf} from "./text.js"

/** The first lines of a long text, and all of it where somebody asks for it. */
export function Lines({id, text, most = 24}: {id: string, text: string, most?: number}) {
  const [all, setAll] = useFold(id)
  const lines = linesOf(text)
  const isLong = lines.length > most + 4
  return (
    <div className="lines">
      <pre tabIndex={0}>{isLong && !all ? lines.slice(0, most).join("\n") : text.replace(/\n$/, "")}</pre>
      {isLong && (
        <button type="button" className="quiet more" aria-expanded={all} onClick={() => setAll(!all)}>
          {all ? `Show the first ${most} lines` : `Show all ${count(lines.length, "line")}`}
        </button>
      )}
    </div>
  )
}
