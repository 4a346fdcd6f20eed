/** Where the page is: `#/` or `#/<session>`. The fragment never reaches a server. */

import {useSyncExternalStore} from "react"

export function useRoute(): string | null {
  return useSyncExternalStore(subscribe, () => routeOf(location.hash))
}

export function routeOf(hash: string): string | null {
  return hash.startsWith("#/") && hash.length > 2 ? decodeURIComponent(hash.slice(2)) : null
}

export function hrefOf(session: string | null): string {
  return session === null ? "#/" : `#/${encodeURIComponent(session)}`
}

export function go(session: string | null): void {
  location.hash = hrefOf(session)
}

function subscribe(listener: () => void): () => void {
  addEventListener("hashchange", listener)
  return () => removeEventListener("hashchange", listener)
}
