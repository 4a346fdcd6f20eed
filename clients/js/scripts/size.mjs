// What the client adds to a page: bundled as a browser gets it, minified, and compressed as it travels.
// usage: node scripts/size.mjs    prints JSON: bytes by entry. Needs `npm run build`.

import {build} from "esbuild"
import {gzipSync} from "node:zlib"
import {fileURLToPath} from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))

async function measure(entry, external = []) {
  const {outputFiles, metafile} = await build({
    absWorkingDir: root,
    stdin: {contents: `export {connect} from "${entry}"`, resolveDir: root},
    bundle: true,
    external,
    format: "esm",
    metafile: true,
    minify: true,
    platform: "browser",
    write: false,
  })
  const node = Object.keys(metafile.inputs).filter((path) => /node_modules\/ws\/|websocket\.node/.test(path))
  if (node.length > 0) throw new Error(`a page would be sent what only Node needs: ${node}`)
  const [{contents}] = outputFiles
  return {minified: contents.length, gzip: gzipSync(contents, {level: 9}).length}
}

const sizes = {
  "claude-bridge-client": await measure("claude-bridge-client"),
  "claude-bridge-client without phoenix": await measure("claude-bridge-client", ["phoenix"]),
  "claude-bridge-client/socketio": await measure("claude-bridge-client/socketio"),
  "claude-bridge-client/socketio without socket.io-client": await measure("claude-bridge-client/socketio", ["socket.io-client"]),
}
process.stdout.write(JSON.stringify(sizes, null, 2) + "\n")
