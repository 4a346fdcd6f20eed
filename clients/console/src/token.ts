/** The token: out of the address once, which is then cleared, and from then on in this tab's storage alone. */

export const KEPT = "claude-bridge.token"

/** What of the page this needs, so that tests can bring their own. */
export interface Place {
  readonly location: {readonly hash: string, readonly pathname: string}
  readonly history: {readonly state: unknown, replaceState(state: unknown, unused: string, url: string): void}
  readonly storage: Pick<Storage, "getItem" | "setItem" | "removeItem">
}

const here = (): Place => ({location, history, storage: sessionStorage})

export function readToken(place: Place = here()): string | null {
  takeToken(place)
  return place.storage.getItem(KEPT)
}

/** Whether the address had a token. It is cleared without an entry in the history: no way back leads to it. */
export function takeToken(place: Place = here()): boolean {
  const given = new URLSearchParams(place.location.hash.slice(1)).get("token")
  if (given === null) return false
  if (given !== "") keepToken(given, place)
  place.history.replaceState(place.history.state, "", place.location.pathname)
  return given !== ""
}

export function keepToken(token: string | null, place: Place = here()): void {
  if (token === null) place.storage.removeItem(KEPT)
  else place.storage.setItem(KEPT, token)
}
