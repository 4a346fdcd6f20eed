/** How large letters are so that a screen of a given size fits. Pure. */

export const LARGEST_PX = 13
/** Below this nobody reads; then one scrolls. */
export const SMALLEST_PX = 8

export interface Box {
  readonly width: number
  readonly height: number
}

/** Whole halves of a pixel, rounded down: a screen that is a hair too wide would get a scrollbar. */
export function fittingFont(fontPx: number, screen: Box, room: Box): number {
  if (screen.width <= 0 || screen.height <= 0 || room.width <= 0 || room.height <= 0) return fontPx
  const scale = Math.min(room.width / screen.width, room.height / screen.height)
  return Math.min(LARGEST_PX, Math.max(SMALLEST_PX, Math.floor(fontPx * scale * 2) / 2))
}

/** What the bridge takes. */
export function allowedSize(cols: number, rows: number): {readonly cols: number, readonly rows: number} {
  const within = (n: number, least: number, most: number): number => Math.min(most, Math.max(least, Math.floor(n)))
  return {cols: within(cols, 20, 500), rows: within(rows, 5, 300)}
}
