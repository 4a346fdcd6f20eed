/** Character references of Markdown's text, without a sink of HTML: those that people and models write. */

const NAMED: Record<string, string> = {
  amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", hellip: "…", mdash: "—", ndash: "–", copy: "©", reg: "®",
  trade: "™", bull: "•", middot: "·", larr: "←", uarr: "↑", rarr: "→", darr: "↓", harr: "↔", times: "×", divide: "÷", le: "≤",
  ge: "≥", ne: "≠", plusmn: "±", deg: "°", micro: "µ", para: "¶", sect: "§", laquo: "«", raquo: "»", lsquo: "‘", rsquo: "’",
  ldquo: "“", rdquo: "”", euro: "€", pound: "£", check: "✓", infin: "∞", asymp: "≈", sum: "∑", radic: "√", zwj: "\u200d",
}

export function decodeEntities(text: string): string {
  if (!text.includes("&")) return text
  return text.replace(/&(?:#(\d{1,7})|#[xX]([\da-fA-F]{1,6})|([a-zA-Z]{2,8}));/g, (whole, decimal, hex, name) => {
    if (name !== undefined) return NAMED[name as string] ?? whole
    const code = decimal === undefined ? Number.parseInt(hex as string, 16) : Number(decimal)
    return code > 0 && code <= 0x10ffff && !(code >= 0xd800 && code <= 0xdfff) ? String.fromCodePoint(code) : "\ufffd"
  })
}
