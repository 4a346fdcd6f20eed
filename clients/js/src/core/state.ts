/**
 * What a session's events amount to. Pure: values in, values out, and nothing given is ever changed, so that a
 * state may be kept, compared and rendered.
 */

import type {Block, SessionEvent, SessionInfo, Request, Snapshot, TextBlock, ToolBlock, Turn} from "./wire.js"

export interface Conversation {
  readonly session: SessionInfo
  /** Finished turns in the order in which they were accepted: the latest of them, `history` has the others. */
  readonly turns: readonly Turn[]
  /** The running turn, with its text so far. */
  readonly open: Turn | null
  /** Next first. */
  readonly queue: readonly Turn[]
  /** What waits for an answer, oldest first. */
  readonly requests: readonly Request[]
}

export function conversationOf(snapshot: Snapshot): Conversation {
  const {session, turns, open_turn, queue, requests} = snapshot
  return {session, turns, open: open_turn, queue, requests}
}

/** The state after an event. At most `keep` finished turns are kept. An unknown event changes nothing. */
export function advance(state: Conversation, event: SessionEvent, keep: number): Conversation {
  switch (event.event) {
    case "session_changed":
      return {...state, session: event.session}
    case "request_opened": {
      const others = state.requests.filter((r) => r.id !== event.request.id)
      return {...state, requests: [...others, event.request]}
    }
    case "request_closed":
      return {...state, requests: state.requests.filter((r) => r.id !== event.request)}
    case "turn_queued":
      return queued(state, event)
    case "turn_started": {
      const queue = state.queue.filter((t) => t.id !== event.turn)
      const known = turnIn(state, event.turn)
      return {...state, queue, open: begin(known, event)}
    }
    case "turn_finished": {
      const finished = finishedIn(state, event)
      return {
        ...state,
        open: state.open?.id === event.turn ? null : state.open,
        queue: state.queue.filter((t) => t.id !== event.turn),
        turns: keep > 0 ? withTurn(state.turns, finished).slice(-keep) : [],
      }
    }
    case "delta":
    case "discard":
    case "block":
    case "tool_started":
    case "tool_finished":
      if (state.open?.id !== event.turn) return state
      return {...state, open: grow(state.open, event)}
    default:
      return state
  }
}

/** The turn that has ended, as it was known before. */
export function finishedIn(state: Conversation, event: Extract<SessionEvent, {event: "turn_finished"}>): Turn {
  const known = turnIn(state, event.turn)
  return finish(known ?? begin(undefined, {...event, prompt: "", author: null, source: "client"}), event)
}

export function turnIn(state: Conversation, id: string): Turn | undefined {
  if (state.open?.id === id) return state.open
  return state.queue.find((t) => t.id === id) ?? state.turns.find((t) => t.id === id)
}

/** The turn with what one event adds to it, or takes from it. */
export function grow(
  turn: Turn,
  event: Extract<SessionEvent, {event: "delta" | "discard" | "block" | "tool_started" | "tool_finished"}>,
): Turn {
  const blocks = grown(turn.blocks, event)
  return blocks === turn.blocks ? turn : {...turn, blocks, text: textOf(blocks)}
}

export function finish(turn: Turn, event: Extract<SessionEvent, {event: "turn_finished"}>): Turn {
  const {reason: _, ...rest} = turn
  return {
    ...rest,
    status: event.status,
    text: event.text,
    finished_at: event.at,
    ...(event.error && {error: event.error}),
    ...(event.usage && {usage: event.usage}),
    ...(event.cost_usd != null && {cost_usd: event.cost_usd}),
  }
}

/**
 * The text of a turn so far: that of its last message. Where a message ends is not told, but tools are called at
 * its end; `turn_finished` says the final text.
 */
export function textOf(blocks: readonly Block[]): string {
  let end = blocks.length
  const isTool = (b: Block | undefined): boolean => b?.kind === "tool" && b.parent === undefined
  const isOther = (b: Block | undefined): boolean => b?.parent !== undefined
  while (end > 0 && (isTool(blocks[end - 1]) || isOther(blocks[end - 1]))) end -= 1
  let begin = end
  while (begin > 0 && !isTool(blocks[begin - 1])) begin -= 1
  let text = ""
  for (const b of blocks.slice(begin, end)) {
    if (b.kind === "text" && b.parent === undefined) text += b.text
  }
  return text.trimEnd()
}

/** In the order in which they were accepted, which is that of the history: one that is cancelled ends early. */
function withTurn(turns: readonly Turn[], made: Turn): readonly Turn[] {
  const others = turns.filter((t) => t.id !== made.id)
  let at = others.length
  while (at > 0 && made.queued_at !== null && (others[at - 1]?.queued_at ?? "") > made.queued_at) at -= 1
  return [...others.slice(0, at), made, ...others.slice(at)]
}

function queued(state: Conversation, event: Extract<SessionEvent, {event: "turn_queued"}>): Conversation {
  const known = turnIn(state, event.turn)
  const {reason: _, started_at: __, ...rest} = known ?? {
    id: event.turn,
    source: "client" as const,
    text: "",
    blocks: [],
    queued_at: event.at,
    reason: undefined,
    started_at: undefined,
  }
  const turn: Turn = {
    ...rest,
    prompt: event.prompt,
    author: event.author,
    status: "queued",
    ...(event.key !== null && {key: event.key}),
    ...(event.reason !== undefined && {reason: event.reason}),
    ...(event.attachments && {attachments: event.attachments}),
  }
  const open = state.open?.id === event.turn ? null : state.open
  const queue = state.queue.filter((t) => t.id !== event.turn)
  // `position` counts the running turn.
  const index = Math.max(0, event.position - (open ? 1 : 0))
  return {...state, open, queue: [...queue.slice(0, index), turn, ...queue.slice(index)]}
}

type Begun = Pick<
  Extract<SessionEvent, {event: "turn_started"}>,
  "turn" | "prompt" | "author" | "source" | "at" | "attachments"
>

function begin(known: Turn | undefined, event: Begun): Turn {
  const {reason: _, ...rest} = known ?? {blocks: [], text: "", queued_at: event.at, reason: undefined}
  return {
    ...rest,
    id: event.turn,
    prompt: event.prompt,
    author: event.author,
    source: event.source,
    status: "running",
    started_at: event.at,
    ...(event.attachments && {attachments: event.attachments}),
  }
}

function grown(blocks: readonly Block[], event: Parameters<typeof grow>[1]): readonly Block[] {
  switch (event.event) {
    case "delta": {
      const known = blocks.find((b): b is TextBlock => b.block === event.block && b.kind !== "tool")
      return withBlock(blocks, {...textBlock(event), text: (known?.text ?? "") + event.text})
    }
    case "block":
      return withBlock(blocks, textBlock(event))
    case "discard":
      return blocks.filter((b) => b.block !== event.block)
    case "tool_started": {
      const {block, tool, name, input, parent} = event
      const made: ToolBlock = {block, kind: "tool", tool, name, input, output: null, is_error: false, truncated: false}
      return withBlock(blocks, parent === undefined ? made : {...made, parent})
    }
    case "tool_finished": {
      const {tool, output, is_error, truncated} = event
      return blocks.map((b) => (b.kind === "tool" && b.tool === tool ? {...b, output, is_error, truncated} : b))
    }
  }
}

function textBlock({block, kind, text, parent}: Omit<TextBlock, "parent"> & {parent?: string}): TextBlock {
  return parent === undefined ? {block, kind, text} : {block, kind, text, parent}
}

/** In place of the block of that number, or where its number belongs. */
function withBlock(blocks: readonly Block[], made: Block): readonly Block[] {
  const at = blocks.findIndex((b) => b.block >= made.block)
  if (at === -1) return [...blocks, made]
  const after = blocks[at]?.block === made.block ? at + 1 : at
  return [...blocks.slice(0, at), made, ...blocks.slice(after)]
}
