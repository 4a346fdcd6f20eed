import "./keys-dialog.css"
import {Dialog} from "./dialog.js"
import {SECTIONS} from "./keys.js"

export function KeysDialog({onClose}: {onClose: () => void}) {
  return (
    <Dialog title="Keys" onClose={onClose} light>
      <div className="dialog-body keys">
        {SECTIONS.map(({title, keys}) => (
          <section key={title}>
            <h3>{title}</h3>
            <dl>
              {keys.map(({keys: pressed, does}) => (
                <div key={does}>
                  <dt>{does}</dt>
                  <dd>{pressed.map((key) => <kbd key={key}>{key}</kbd>)}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
      </div>
    </Dialog>
  )
}
