import {BridgeError} from "../core/errors.js"
import type {Place} from "../core/transport.js"

const PROBE_MS = 5000

/** Why the bridge does not let one in; undefined where it would, or cannot be asked. */
export async function refusalAt({origin, token}: Place): Promise<BridgeError | undefined> {
  try {
    const headers = {Authorization: `Bearer ${token()}`}
    const answer = await fetch(`${origin}/api/sessions`, {headers, signal: AbortSignal.timeout(PROBE_MS)})
    if (answer.status !== 401) {
      await answer.body?.cancel()
      return undefined
    }
    return BridgeError.from(await answer.json())
  } catch {
    return undefined
  }
}
