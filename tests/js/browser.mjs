// A headless Chromium at the end of a pipe: one JSON command a line in, one JSON line out for each, in any
// order. Knows pages and what is evaluated in them, and nothing of what they show.
//
// in:  {id, op: "open", page, url} | {id, op: "eval" | "until", page, expression, timeout} | {id, op: "close", page}
// out: {id, result} | {id, error}        `error` names what the page itself had said on its console
// usage: node browser.mjs CHROMIUM PROFILE

import {createInterface} from "node:readline"
import {chromium} from "playwright-core"

const [executablePath, profile] = process.argv.slice(2)
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n")
const pages = new Map()

const browser = await chromium.launchPersistentContext(profile, {
  executablePath,
  headless: true,
  args: [
    ...["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server"],
    ...["--disable-background-networking", "--disable-component-update", "--disable-sync"],
  ],
})

const operations = {
  async open({page: name, url}) {
    const page = await browser.newPage()
    const said = []
    page.on("console", (message) => said.push(message.text()))
    page.on("pageerror", (error) => said.push(String(error?.stack ?? error)))
    pages.set(name, {page, said})
    await page.goto(url)
  },
  eval: ({page, expression}) => pages.get(page).page.evaluate(expression),
  async until({page, expression, timeout}) {
    const found = await pages.get(page).page.waitForFunction(expression, null, {timeout, polling: 50})
    return found.jsonValue()
  },
  close: ({page}) => pages.get(page).page.close(),
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
