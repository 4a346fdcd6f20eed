// Writes src/core/codes.ts from spec/errors.json; with --print to standard output, for the test that compares.

import {readFileSync, writeFileSync} from "node:fs"

const here = (path) => new URL(path, import.meta.url)
const codes = JSON.parse(readFileSync(here("../../../spec/errors.json"), "utf8"))
const lines = Object.entries(codes).map(
  ([code, {meaning, retryable}]) => `  /** ${meaning} */\n  ${code}: ${retryable},`,
)
const text = `// Made from spec/errors.json by scripts/codes.mjs. Do not edit.

/** Every code of the bridge, and whether the same request can succeed later. */
export const RETRYABLE = {
${lines.join("\n")}
} as const

/** A code that the bridge says. */
export type BridgeCode = keyof typeof RETRYABLE
`
if (process.argv.includes("--print")) process.stdout.write(text)
else writeFileSync(here("../src/core/codes.ts"), text)
