import {fileURLToPath} from "node:url"
import {defineConfig} from "vite"

const client = (path: string): string => fileURLToPath(new URL(`../js/src/${path}`, import.meta.url))

export default defineConfig({
  base: "./",
  resolve: {
    alias: {
      "#websocket": client("transports/websocket.ts"),
      "claude-bridge-client/testing": client("testing.ts"),
      "claude-bridge-client": client("index.ts"),
    },
    // The client is built from its source, which has packages of its own beside it.
    dedupe: ["phoenix"],
  },
  esbuild: {jsx: "automatic"},
  build: {
    outDir: fileURLToPath(new URL("../../bridge/console", import.meta.url)),
    emptyOutDir: true,
    target: "es2022",
    // The policy of content allows no data: and no inline script.
    assetsInlineLimit: 0,
    modulePreload: {polyfill: false},
  },
  // `npm run dev` beside a bridge at its usual place.
  server: {
    proxy: {
      "/socket": {target: "http://127.0.0.1:4040", ws: true},
      "/api": {target: "http://127.0.0.1:4040"},
    },
  },
})
