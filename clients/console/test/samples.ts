import type {SessionInfo} from "claude-bridge-client"

export function sessionOf(name: string, changes: Partial<SessionInfo> = {}): SessionInfo {
  return {
    name, backend: "headless", state: "idle", evidence: {signal: "result", age_ms: 300}, model: "claude-opus-4-1-20250805",
    cwd: "/home/ada/work", permission_mode: "default", conversation: null, attach: null, started_at: null, turns: 0, restarts: 0,
    viewers: 0, cost_usd: null, node: "test",
    usage: {input_tokens: 0, output_tokens: 0, cache_creation_input_tokens: 0, cache_read_input_tokens: 0},
    ...changes,
  }
}
