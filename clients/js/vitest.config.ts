import {fileURLToPath} from "node:url"
import {defineConfig} from "vitest/config"

const src = (path: string): string => fileURLToPath(new URL(`src/${path}`, import.meta.url))

export default defineConfig({
  resolve: {
    alias: {
      "#websocket": src("transports/websocket.node.ts"),
      "claude-bridge-client/socketio": src("socketio.ts"),
      "claude-bridge-client/testing": src("testing.ts"),
      "claude-bridge-client": src("index.ts"),
    },
  },
  test: {
    include: ["test/**/*.test.ts"],
    // Most of a test with a real bridge is waiting.
    maxWorkers: 3,
    // What must come from a real bridge has this long, on a machine that is busy with other things.
    testTimeout: 60_000,
    hookTimeout: 90_000,
  },
})
