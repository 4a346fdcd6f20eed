// Made from spec/errors.json by scripts/codes.mjs. Do not edit.

/** Every code of the bridge, and whether the same request can succeed later. */
export const RETRYABLE = {
  /** No valid token came with the request. */
  unauthorized: false,
  /** The token lacks the scope in `scope`, or does not cover the session's name. */
  forbidden: false,
  /** There is no session of this name, and a join with `start` creates it; or no pool. */
  session_not_found: false,
  /** A session of this name is there: with other options, which are in `differing`; or it has the conversation that was to be resumed. */
  session_exists: false,
  /** A name is 1 to 64 letters, digits, '-' or '_', and begins with a letter or digit. */
  invalid_name: false,
  /** The payload is not what the event takes; `field` names the part, the message says what is wrong with it. */
  invalid_payload: false,
  /** The prompt has no text. */
  prompt_empty: false,
  /** The prompt has more bytes (`size`) than the `limit`. */
  prompt_too_large: false,
  /** The prompt cannot be sent as it is; `what` and `why` say more. */
  prompt_rejected: false,
  /** As many prompts as allowed (`limit`) wait already; some will have run later. */
  queue_full: true,
  /** There is no such turn, or none that can still be cancelled. */
  turn_not_found: false,
  /** The request is not open any more; `outcome` and `by` say how it was closed, where that is known. */
  request_closed: false,
  /** A budget is spent; the details say which, and until when. */
  budget_exceeded: false,
  /** The session has failed for good (`why`); `restart` begins anew. */
  session_failed: false,
  /** The session is stopped; start it to go on. */
  session_stopped: false,
  /** The bridge runs as many sessions as it may (`limit`); some will have ended later. */
  too_many_sessions: true,
  /** What runs such sessions is not installed or not set up, or something that is on no record runs under that name; `remedy` says what to do. */
  backend_unavailable: false,
  /** Too much was asked in too short a time; after `retry_after_s` seconds one more is taken. */
  rate_limited: true,
  /** This needs binary frames, which this transport has not. */
  binary_not_supported: false,
  /** A page of another origin asked, and its origin is not listed in `server.origins`. */
  origin_refused: false,
  /** Nothing is at this path of the REST interface. */
  not_found: false,
  /** The path is there and takes other methods, which are in `allow`. */
  method_not_allowed: false,
  /** The body of a request has more bytes than the `limit`. */
  payload_too_large: false,
  /** The body of a request is not sent as JSON. */
  unsupported_media_type: false,
  /** The bridge met an error of its own; the same request may succeed. */
  internal: true,
} as const

/** A code that the bridge says. */
export type BridgeCode = keyof typeof RETRYABLE
