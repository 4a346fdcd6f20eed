/** Where the page is: `#/` or `#/<session>`. The fragment never reaches a server. */

import {useSyncExternalStore} from "react"

/** What has the focus after going there: the composer where one comes to write, the heading where one goes on by keys. */
export type Landing = "composer" | "heading"

let landing: Landing = "composer"

export function useRoute(): string | null {
  return useSyncExternalStore(subscribe, () => routeOf(location.hash))
}

export function routeOf(hash: string): string | null {
  if (!hash.startsWith("#/") || hash.length === 2) return null
  try {
    return decodeURIComponent(hash.slice(2))
  } catch {
    return null
  }
}

export function hrefOf(session: string | null): string {
  return session === null ? "#/" : `#/${encodeURIComponent(session)}`
}

export function go(session: string | null, focus: Landing = "composer"): void {
  landing = focus
  location.hash = hrefOf(session)
}

/** What was asked for with `go`, once. */
export function takeLanding(): Landing {
  const asked = landing
  landing = "composer"
  return asked
}

function subscribe(listener: () => void): () => void {
  addEventListener("hashchange", listener)
  return () => removeEventListener("hashchange", listener)
}
