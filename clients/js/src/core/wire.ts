/**
 * The objects and events of the protocol, as spec/protocol.md names them. New keys may be added to any of them:
 * what is not known here is kept and passed on.
 */

/** JSON, or anything else that a transport carries. */
export type Json = Record<string, unknown>

/** Where a client stands in a session's events. */
export interface Cursor {
  readonly epoch: string
  readonly seq: number
}

export interface Usage {
  readonly input_tokens: number
  readonly output_tokens: number
  readonly cache_creation_input_tokens: number
  readonly cache_read_input_tokens: number
}

export type PhaseOfSession =
  | "starting" | "idle" | "busy" | "waiting" | "restarting" | "stopped" | "failed" | "unknown"

/** A conversation, as the bridge sees it now. */
export interface SessionInfo {
  readonly name: string
  readonly backend: string
  readonly state: PhaseOfSession
  readonly evidence: {readonly signal: string, readonly age_ms: number}
  readonly model: string | null
  readonly cwd: string | null
  readonly permission_mode: string | null
  readonly conversation: string | null
  /** The exact command that a person types to attach. */
  readonly attach: string | null
  readonly started_at: string | null
  readonly turns: number
  readonly restarts: number
  readonly viewers: number
  readonly usage: Usage
  readonly cost_usd: number | null
  readonly node: string
  readonly reason?: string
  /** While the account's limit is reached: when it resets. */
  readonly limited_until?: string
  /** The tightest of those that apply to the session. */
  readonly budget?: Json
}

/** A file that came with a prompt, without its bytes. */
export interface AttachedFile {
  readonly name: string
  readonly media_type: string
  readonly size: number
}

export interface TextBlock {
  readonly block: number
  readonly kind: "text" | "thinking"
  readonly text: string
  /** The tool whose sub-agent wrote it. */
  readonly parent?: string
}

export interface ToolBlock {
  readonly block: number
  readonly kind: "tool"
  readonly tool: string
  readonly name: string
  readonly input: unknown
  /** Null while the tool runs. */
  readonly output: string | null
  readonly is_error: boolean
  readonly truncated: boolean
  readonly parent?: string
}

export type Block = TextBlock | ToolBlock

export type FinalStatus = "completed" | "interrupted" | "failed" | "cancelled" | "unknown"
export type TurnStatus = "queued" | "running" | FinalStatus

export interface TurnFailure {
  readonly code: string
  readonly message: string
  readonly status?: number
}

/** A prompt and what became of it. */
export interface Turn {
  readonly id: string
  readonly key?: string
  readonly prompt: string
  readonly author: string | null
  readonly source: "client" | "terminal"
  readonly status: TurnStatus
  /** Of a running turn: so far, as far as it can be told from here. */
  readonly text: string
  readonly blocks: readonly Block[]
  readonly error?: TurnFailure
  readonly usage?: Usage
  readonly cost_usd?: number
  readonly queued_at: string | null
  readonly started_at?: string
  readonly finished_at?: string
  readonly reason?: string
  readonly attachments?: readonly AttachedFile[]
}

/** A question that somebody has to answer before the turn goes on. */
export interface Request {
  readonly id: string
  readonly kind: "permission" | "question" | "plan"
  readonly turn: string
  readonly tool: string
  readonly call?: string
  readonly input: unknown
  readonly suggestions: readonly unknown[]
  readonly opened_at: string
}

/** What `answer` takes, beside the request. */
export interface Answer {
  readonly decision: "allow" | "deny"
  /** Of a permission: run this instead. Of a question: `{answers}`. */
  readonly input?: Json
  /** Indices into the request's own. */
  readonly suggestions?: readonly number[]
  readonly message?: string
  readonly interrupt?: boolean
}

/** What a session is created with; it counts only where the session does not exist yet. */
export interface StartOptions {
  readonly backend?: "headless" | "tmux" | "api"
  readonly model?: string
  readonly cwd?: string
  readonly permission_mode?: string
  readonly system_prompt?: string
  readonly append_system_prompt?: string
  readonly allowed_tools?: readonly string[]
  readonly disallowed_tools?: readonly string[]
  readonly mcp_config?: unknown
  readonly add_dirs?: readonly string[]
  readonly resume?: string
  readonly on_restart?: "interrupt" | "continue"
}

/** What the join of a session is answered with. */
export interface Snapshot {
  readonly session: SessionInfo
  readonly epoch: string
  readonly seq: number
  readonly recovered: boolean
  readonly turns: readonly Turn[]
  readonly open_turn: Turn | null
  readonly queue: readonly Turn[]
  readonly requests: readonly Request[]
}

interface Numbered {
  readonly seq: number
  /** Of deltas that were merged on the way: the first of them. */
  readonly first_seq?: number
  readonly at: string
}

interface OfTurn extends Numbered {
  readonly turn: string
}

/** What a session tells, by the name of the event. */
export interface SessionEvents {
  turn_queued: OfTurn & {
    readonly key: string | null
    readonly prompt: string
    readonly author: string | null
    readonly position: number
    readonly reason?: string
    readonly attachments?: readonly AttachedFile[]
  }
  turn_started: OfTurn & {
    readonly prompt: string
    readonly author: string | null
    readonly source: "client" | "terminal"
    readonly attachments?: readonly AttachedFile[]
  }
  steered: OfTurn & {readonly prompt: string, readonly author: string | null}
  delta: OfTurn & {
    readonly block: number
    readonly kind: "text" | "thinking"
    readonly text: string
    readonly parent?: string
  }
  discard: OfTurn & {readonly block: number}
  block: OfTurn & {
    readonly block: number
    readonly kind: "text" | "thinking"
    readonly text: string
    readonly parent?: string
  }
  tool_started: OfTurn & {
    readonly block: number
    readonly tool: string
    readonly name: string
    readonly input: unknown
    readonly parent?: string
  }
  tool_finished: OfTurn & {
    readonly tool: string
    readonly output: string
    readonly is_error: boolean
    readonly truncated: boolean
    readonly parent?: string
  }
  request_opened: Numbered & {readonly request: Request}
  request_closed: Numbered & {
    readonly request: string
    readonly outcome: "allowed" | "denied" | "withdrawn" | "expired"
    readonly by: string | null
  }
  turn_finished: OfTurn & {
    readonly status: FinalStatus
    readonly text: string
    readonly error?: TurnFailure
    readonly usage: Usage | null
    readonly cost_usd: number | null
    readonly duration_ms: number
  }
  session_changed: Numbered & {readonly session: SessionInfo}
}

export type SessionEventName = keyof SessionEvents

/** An event with its name, as `{event, …payload}`. */
export type Named<Events, Name extends keyof Events = keyof Events> = {
  [N in Name]: {readonly event: N} & Events[N]
}[Name]

export type SessionEvent = Named<SessionEvents>

/** One connection of somebody who has joined. */
export interface Meta {
  readonly phx_ref: string
  readonly transport?: string
  readonly joined_at?: string
}

export interface Picture {
  readonly cols: number
  readonly rows: number
  /** What repaints the present picture on any terminal of that size. */
  readonly screen: string
}

export interface PoolInfo {
  readonly size: number
  readonly idle: number
  readonly busy: number
  readonly waiting: number
}
