import "./connection-line.css"
import {useEffect, useSyncExternalStore} from "react"
import type {Session} from "claude-bridge-client"
import {useBridge, useConnection} from "../link.js"
import {TokenForm} from "../signin.js"
import {connected, rejoined, sentenceOf, UNBROKEN, type Break} from "./connection.js"
import {useNow} from "./now.js"
import {Observed} from "./observed.js"

const broken = new Observed<Break>(UNBROKEN)

/** Has the line say what was missed of the session on screen. Returns what ends that. */
export function noteRejoin(session: Session): () => void {
  let epoch = session.cursor?.epoch
  return session.on("joined", ({recovered}) => {
    const before = epoch
    epoch = session.cursor?.epoch
    if (before !== undefined) broken.set(rejoined(broken.get(), recovered, before === epoch))
  })
}

/** There only when the connection is not open, and shortly after. */
export function ConnectionLine({onToken}: {onToken: (token: string) => void}) {
  const bridge = useBridge()
  const connection = useConnection()
  const known = useSyncExternalStore(broken.subscribe, broken.get)
  useEffect(() => {
    const follow = (): void => broken.set(connected(broken.get(), bridge.connection))
    follow()
    const off = bridge.on("connection", follow)
    return () => {
      off()
      broken.set(UNBROKEN)
    }
  }, [bridge])
  const isQuiet = connection.status === "open" && known.backAt === null
  const sentence = sentenceOf(connection, known, useNow(isQuiet ? 60_000 : 1000))
  const isOver = sentence === null && known.backAt !== null
  useEffect(() => {
    if (isOver) broken.set({...UNBROKEN, wasOpen: true})
  }, [isOver])
  return (
    <>
      {sentence !== null && <p className="connection" data-tone={sentence.tone} aria-hidden="true">{sentence.shown}</p>}
      <p className="visually-hidden" role="status">{sentence?.said}</p>
      {connection.status === "refused" && (
        <div className="connection-token">
          <p>All that was shown stays readable. Give a token that counts, and it goes on from here.</p>
          <TokenForm onToken={onToken} />
        </div>
      )}
    </>
  )
}
