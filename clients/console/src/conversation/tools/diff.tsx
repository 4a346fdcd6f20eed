import {memo, useMemo} from "react"
import {useFold} from "../folds.js"
import {diffRows, tally, type Change} from "./diffs.js"
import {count, shortPath, visible} from "./text.js"

const MOST = 40
const SPOKEN = {"+": "added", "-": "removed", " ": "", "@": ""}
const SHOWN = {"+": "+", "-": "−", " ": " ", "@": " "}

interface Props {
  readonly id: string
  readonly change: Change
  readonly cwd: string | null
  /** Everything, and with what a screen would hide: a person is asked to allow it. */
  readonly exact?: boolean
}

export const Diff = memo(function Diff({id, change, cwd, exact = false}: Props) {
  const [unfolded, setAll] = useFold(id)
  const all = unfolded || exact
  const rows = useMemo(() => diffRows(change.before, change.after), [change.before, change.after])
  const {added, removed} = tally(rows)
  const shown = all || rows.length <= MOST + 5 ? rows : rows.slice(0, MOST)
  return (
    <figure className="diff">
      <figcaption>
        <span className="diff-path">{exact ? visible(change.path) : shortPath(change.path, cwd)}</span>
        <span className="diff-tally">
          {change.whole ? "new content, " : ""}+{added} −{removed}{change.everywhere ? ", everywhere" : ""}
        </span>
      </figcaption>
      <pre tabIndex={0}>
        {shown.map(({sign, text}, i) => (
          <span key={i} className={`diff-row diff-${NAMES[sign]}`}>
            <span className="diff-sign" aria-hidden>{SHOWN[sign]}</span>
            {SPOKEN[sign] !== "" && <span className="visually-hidden">{SPOKEN[sign]}: </span>}
            {sign === "@" ? "⋯" : exact ? visible(text) : text}
            {"\n"}
          </span>
        ))}
      </pre>
      {!exact && rows.length > MOST + 5 && (
        <button type="button" className="quiet more" aria-expanded={all} onClick={() => setAll(!all)}>
          {all ? `Show the first ${MOST} lines` : `Show all ${count(rows.length, "line")}`}
        </button>
      )}
    </figure>
  )
})

const NAMES = {"+": "added", "-": "removed", " ": "same", "@": "gap"}
