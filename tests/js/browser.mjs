// A headless Chromium at the end of a pipe: one JSON command a line in, one JSON line out for each, in any
// order. Knows pages, what is evaluated in them and what is done to them, and nothing of what they show.
//
// in:  {id, op: "open", page, url, context} | {id, op: "eval" | "until", page, expression, timeout}
//      | {id, op: "act", page, steps, timeout} | {id, op: "axe" | "measure" | "complaints" | "close", page}
// out: {id, result} | {id, error}        `error` names what the page itself had said on its console
// usage: node browser.mjs CHROMIUM

import {readFileSync} from "node:fs"
import {createRequire} from "node:module"
import {createInterface} from "node:readline"
import {chromium} from "playwright-core"

const [executablePath] = process.argv.slice(2)
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n")
const pages = new Map()
const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js")

const browser = await chromium.launch({
  executablePath,
  headless: true,
  args: [
    ...["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server"],
    ...["--disable-background-networking", "--disable-component-update", "--disable-sync"],
  ],
})

const operations = {
  async open({page: name, url, context: options}) {
    const context = await browser.newContext(options)
    const page = await context.newPage()
    const said = []
    const complaints = []
    page.on("console", (message) => {
      said.push(message.text())
      if (message.type() === "error") complaints.push(`console: ${message.text()} (${message.location().url})`)
    })
    page.on("pageerror", (error) => {
      said.push(String(error?.stack ?? error))
      complaints.push(`thrown: ${error?.stack ?? error}`)
    })
    // Also what Chromium itself would fetch: a picture, a font, the frames of a socket are asked for alike.
    const elsewhere = (asked) => {
      const {host, protocol} = new URL(asked)
      if (!["data:", "blob:"].includes(protocol) && host !== new URL(url).host) complaints.push(`asked: ${asked}`)
    }
    page.on("request", (request) => elsewhere(request.url()))
    page.on("websocket", (socket) => elsewhere(socket.url()))
    await page.exposeBinding("__violated", (_, what) => void complaints.push(`policy: ${what}`))
    await page.addInitScript(() =>
      document.addEventListener("securitypolicyviolation", (e) =>
        globalThis.__violated(`${e.effectiveDirective} ${e.blockedURI} ${e.sourceFile}:${e.lineNumber} ${e.sample}`)))
    pages.set(name, {page, said, complaints, debug: await context.newCDPSession(page)})
    await page.goto(url)
  },
  eval: ({page, expression}) => evaluated(pages.get(page), expression),
  async until({page, expression, timeout}) {
    const deadline = Date.now() + timeout
    for (;;) {
      const found = await evaluated(pages.get(page), expression)
      if (found) return found
      if (Date.now() > deadline) throw new Error(`not in ${timeout} ms: ${expression}`)
      await new Promise((done) => setTimeout(done, 50))
    }
  },
  async act({page: name, steps, timeout}) {
    const {page} = pages.get(name)
    page.setDefaultTimeout(timeout)
    let on = page
    for (const [name, ...words] of steps) on = typeof on[name] === "function" ? await on[name](...words.map(revived)) : on[name]
    return on === page || typeof on?.count === "function" ? null : on
  },
  async axe({page: name}) {
    const known = pages.get(name)
    if (!(await evaluated(known, "typeof axe === 'object'"))) await evaluated(known, `${readFileSync(AXE, "utf8")}; 0`)
    const {violations} = await evaluated(known, "axe.run(document, {resultTypes: ['violations']})")
    return violations.flatMap(({id, impact, help, nodes}) =>
      nodes.map(({target, failureSummary}) => ({id, impact, help, at: target.join(" "), why: failureSummary})))
  },
  // The figures count from the first time on.
  async measure({page: name}) {
    const {debug} = pages.get(name)
    await debug.send("Performance.enable")
    await debug.send("HeapProfiler.collectGarbage")
    const {metrics} = await debug.send("Performance.getMetrics")
    return Object.fromEntries(metrics.map(({name, value}) => [name, value]))
  },
  complaints: ({page}) => pages.get(page).complaints.splice(0),
  close: ({page}) => pages.get(page).page.context().close(),
}

// By the debugger, which no policy of the page binds. What is no value, as an element, is true.
async function evaluated({debug}, expression) {
  const {result, exceptionDetails} = await debug.send("Runtime.evaluate", {expression, awaitPromise: true})
  if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text)
  if (result.objectId === undefined) return result.value
  const how = {objectId: result.objectId, functionDeclaration: "function () { return this }", returnByValue: true}
  return debug.send("Runtime.callFunctionOn", how).then((said) => said.result.value, () => true)
}

// JSON knows no regular expressions: one is {"re": source}, anywhere in a step's words.
function revived(word) {
  if (word === null || typeof word !== "object" || Array.isArray(word)) return word
  if (typeof word.re === "string") return new RegExp(word.re)
  return Object.fromEntries(Object.entries(word).map(([key, value]) => [key, revived(value)]))
}

createInterface({input: process.stdin})
  .on("line", async (line) => {
    const command = JSON.parse(line)
    try {
      say({id: command.id, result: (await operations[command.op](command)) ?? null})
    } catch (e) {
      const said = pages.get(command.page)?.said ?? []
      say({id: command.id, error: [String(e), ...said].join("\n")})
    }
  })
  .on("close", async () => {
    await browser.close()
    process.exit(0)
  })
