/** Text as tools print it and people read it. */

// Control sequences of terminals: CSI, OSC and the other strings, and the short ones.
const ESCAPES =
  /\u001b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\u0007\u001b]*(?:\u0007|\u001b\\|$)|[ -/]*[0-~])|\u009b[0-?]*[ -/]*[@-~]/g

/** Without colours and cursor movements; of a line that was written over, what was there last. */
export function plainOutput(text: string): string {
  if (!/[\u001b\u009b\r\b]/.test(text)) return text
  return text
    .replace(ESCAPES, "")
    .replace(/\r+\n/g, "\n")
    .replace(/^.*\r(?!\n)/gm, "")
    .replace(/[^\n]\u0008/g, "")
}

/**
 * What a person is asked to allow, with every character that a screen would hide or turn around (controls, bidirectional
 * marks, spaces without width) written out.
 */
export function visible(text: string): string {
  return text.replace(
    /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0]|[\u{e0000}-\u{e007f}]/gu,
    (hidden) => `\\u{${(hidden.codePointAt(0) ?? 0).toString(16)}}`,
  )
}

export function linesOf(text: string): string[] {
  const lines = text.split("\n")
  if (lines.at(-1) === "") lines.pop()
  return lines
}

/** "1 line", "3 lines". */
export function count(number: number, what: string, many = `${what}s`): string {
  return `${number.toLocaleString("en")} ${number === 1 ? what : many}`
}

/** The path below the session's folder where it is there. */
export function shortPath(path: string, cwd: string | null): string {
  const folder = cwd?.replace(/\/+$/, "")
  return folder && path.startsWith(`${folder}/`) ? path.slice(folder.length + 1) : path
}

export function json(value: unknown): string {
  return JSON.stringify(value, null, 2) ?? ""
}
