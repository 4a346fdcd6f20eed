defmodule ClaudeSession.Event do
  @moduledoc """
  Something that happened in a session: what `ClaudeSession.subscribe/1` sends, as `{ClaudeSession, name, event}`,
  and what `ClaudeSession.stream/3` yields with `as: :events`.

  | `name` | means | fields beside `session`, `turn`, `seq`, `at` |
  |---|---|---|
  | `:turn_queued`, `:turn_started` | a prompt was taken; Claude has it | `payload` |
  | `:steered` | a prompt went into the running turn | `payload` |
  | `:delta` | more of a block: append it | `block`, `kind`, `text` |
  | `:discard` | what came of the block is void, it begins again | `block` |
  | `:block` | the block's final text, in place of its deltas | `block`, `kind`, `text` |
  | `:tool_started`, `:tool_finished` | a tool's call and its result | `payload` |
  | `:request_opened` | Claude asks something | `request` |
  | `:request_closed` | somebody has answered | `payload` (`request`, `outcome`, `by`) |
  | `:turn_finished` | the end, with the whole text | `status`, `text`, `payload` (`usage`, `cost_usd`, `error`) |
  | `:session_changed` | | `status`, a `ClaudeSession.Status` |
  | `:snapshot` | events were left out, and this is how things are | `snapshot` |
  | `:disconnected`, `:connected` | to subscribers: nothing comes for now; it goes on where it was | |
  | `:closed` | the session was deleted; nothing follows | |
  | `:other` | what this version does not know | `payload`, with its name in `event` |

  `kind` is `:text` or `:thinking`. `payload` is everything that came, with strings for keys. In a stream of one turn
  the `snapshot` is that `ClaudeSession.Turn`; to subscribers it is a map: `session` (`ClaudeSession.Status`), `open_turn`,
  `queue` and `requests`.
  """

  alias ClaudeSession.{Request, Status, Turn, Values}

  defstruct [
    :name,
    :session,
    :turn,
    :seq,
    :at,
    :block,
    :kind,
    :text,
    :status,
    :request,
    :snapshot,
    payload: %{}
  ]

  @type name ::
          :turn_queued
          | :turn_started
          | :steered
          | :delta
          | :discard
          | :block
          | :tool_started
          | :tool_finished
          | :request_opened
          | :request_closed
          | :turn_finished
          | :session_changed
          | :snapshot
          | :disconnected
          | :connected
          | :closed
          | :other

  @typedoc "How things are in a session, for whoever begins to follow it."
  @type snapshot :: %{
          session: Status.t(),
          open_turn: Turn.t() | nil,
          queue: [Turn.t()],
          requests: [Request.t()]
        }

  @type t :: %__MODULE__{
          name: name,
          session: binary,
          turn: binary | nil,
          seq: pos_integer | nil,
          at: binary | nil,
          block: non_neg_integer | nil,
          kind: :text | :thinking | nil,
          text: binary | nil,
          status: Turn.status() | Status.t() | nil,
          request: Request.t() | nil,
          snapshot: snapshot | Turn.t() | nil,
          payload: map
        }

  @doc false
  @spec from_wire(binary, binary, map) :: t
  def from_wire(session, word, payload) do
    name = Values.event(word)
    # Of requests and tools `turn` stands elsewhere or is a plain id; everything else names its turn.
    event = %__MODULE__{
      name: name || :other,
      session: session,
      turn: payload["turn"],
      seq: payload["seq"],
      at: payload["at"],
      payload: if(name, do: payload, else: Map.put(payload, "event", word))
    }

    filled(event, name, payload)
  end

  defp filled(event, name, payload) when name in [:delta, :discard, :block] do
    %{event | block: payload["block"], kind: Values.block_kind(payload["kind"]), text: payload["text"]}
  end

  defp filled(event, :turn_finished, payload) do
    %{event | status: Values.turn_status(payload["status"]), text: payload["text"]}
  end

  defp filled(event, :request_opened, %{"request" => request}) when is_map(request) do
    %{event | request: Request.from_wire(request), turn: request["turn"]}
  end

  defp filled(event, :session_changed, %{"session" => session}) when is_map(session) do
    %{event | status: Status.from_wire(session)}
  end

  defp filled(event, _name, _payload), do: event
end
