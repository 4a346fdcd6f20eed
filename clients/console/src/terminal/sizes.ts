/** How large letters are so that a screen of a given size fits. Pure. */

export const LARGEST_PX = 13
/** Below this nobody reads; then one scrolls. */
export const SMALLEST_PX = 8

/** xterm.js rounds a screen's size to whole pixels. */
const ROUNDED = 0.05

export interface Box {
  readonly width: number
  readonly height: number
}

/** Whole halves of a pixel, rounded down: a screen that is a hair too wide would get a scrollbar. */
export function fittingFont(fontPx: number, screen: Box, room: Box): number {
  if (screen.width <= 0 || screen.height <= 0 || room.width <= 0 || room.height <= 0) return fontPx
  const scale = Math.min(room.width / screen.width, room.height / screen.height)
  return Math.min(LARGEST_PX, Math.max(SMALLEST_PX, Math.floor(fontPx * scale * 2 + ROUNDED) / 2))
}

export interface Size {
  readonly cols: number
  readonly rows: number
}

/** The size that would fill the room with letters as they are now, within what the bridge takes. */
export function sizeFor(room: Box, screen: Box, {cols, rows}: Size): Size {
  const within = (n: number, least: number, most: number): number => Math.min(most, Math.max(least, Math.floor(n)))
  return {cols: within(room.width / (screen.width / cols), 20, 500), rows: within(room.height / (screen.height / rows), 5, 300)}
}
