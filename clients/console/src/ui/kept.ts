import {useState} from "react"

/** A setting of this browser, as it was left; `known` says whether what was kept still makes sense. */
export function useKept<T>(key: string, first: T, known: (value: unknown) => value is T): [T, (value: T) => void] {
  const place = `claude-bridge.${key}`
  const [value, setValue] = useState<T>(() => {
    try {
      const kept: unknown = JSON.parse(localStorage.getItem(place) ?? "null")
      return known(kept) ? kept : first
    } catch {
      return first
    }
  })
  return [value, (chosen) => {
    localStorage.setItem(place, JSON.stringify(chosen))
    setValue(chosen)
  }]
}

export const isBoolean = (value: unknown): value is boolean => typeof value === "boolean"
export const isShare = (value: unknown): value is number => typeof value === "number" && value >= 0.2 && value <= 0.8
