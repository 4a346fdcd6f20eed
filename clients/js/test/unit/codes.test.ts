import {execFileSync} from "node:child_process"
import {readFileSync} from "node:fs"
import {fileURLToPath} from "node:url"
import {expect, test} from "vitest"
import {BridgeError} from "../../src/index.js"

const at = (path: string): string => fileURLToPath(new URL(path, import.meta.url))

test("the codes are those of spec/errors.json: else run `make docs`", () => {
  const made = execFileSync(process.execPath, [at("../../scripts/codes.mjs"), "--print"], {encoding: "utf8"})
  expect(readFileSync(at("../../src/core/codes.ts"), "utf8")).toBe(made)
})

test("every code says truly whether a retry can help, and an unknown one promises nothing", () => {
  const codes = JSON.parse(readFileSync(at("../../../../spec/errors.json"), "utf8")) as Record<string, {retryable: boolean}>
  for (const [code, {retryable}] of Object.entries(codes)) expect(new BridgeError(code, "").retryable).toBe(retryable)
  expect(new BridgeError("from_the_future", "").retryable).toBe(false)
  expect(BridgeError.from({reason: "from_the_future", message: "So.", limit: 3})).toMatchObject({code: "from_the_future", details: {limit: 3}})
})
