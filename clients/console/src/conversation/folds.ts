/** What is unfolded. Rows come and go with scrolling, so that they cannot remember it themselves. */

import {createContext, use, useCallback, useSyncExternalStore} from "react"

export class Folds {
  readonly #open = new Set<string>()
  readonly #listeners = new Set<() => void>()
  #version = 0

  isOpen = (key: string): boolean => this.#open.has(key)

  set(key: string, open: boolean): void {
    if (open === this.#open.has(key)) return
    if (open) this.#open.add(key)
    else this.#open.delete(key)
    this.#version += 1
    for (const listener of [...this.#listeners]) listener()
  }

  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  version = (): number => this.#version
}

const Context = createContext<Folds>(new Folds())
export const FoldsProvider = Context.Provider

export function useFolds(): Folds {
  return use(Context)
}

/** Whether `key` is unfolded, and what folds it. */
export function useFold(key: string): [boolean, (open: boolean) => void] {
  const folds = useFolds()
  const open = useSyncExternalStore(folds.subscribe, () => folds.isOpen(key))
  return [open, useCallback((to: boolean) => folds.set(key, to), [folds, key])]
}
