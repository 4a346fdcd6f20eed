import {readFile, readdir, writeFile} from "node:fs/promises"
import {join} from "node:path"
import {fileURLToPath} from "node:url"
import {gzipSync} from "node:zlib"
import {defineConfig, type Plugin} from "vite"

const client = (path: string): string => fileURLToPath(new URL(`../js/src/${path}`, import.meta.url))

/** Lays a `.gz` beside each text that is worth it: the bridge sends those as they are, and packs nothing itself. */
function packed(): Plugin {
  let folder = ""
  return {
    name: "packed",
    apply: "build",
    configResolved: (config) => void (folder = config.build.outDir),
    async closeBundle() {
      for (const name of await readdir(folder, {recursive: true})) {
        if (!/\.(css|html|js|json|svg)$/.test(name)) continue
        const body = await readFile(join(folder, name))
        const smaller = gzipSync(body, {level: 9})
        if (smaller.length + 200 < body.length) await writeFile(join(folder, `${name}.gz`), smaller)
      }
    },
  }
}

export default defineConfig({
  base: "./",
  plugins: [packed()],
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
