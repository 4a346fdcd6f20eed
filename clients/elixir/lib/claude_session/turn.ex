defmodule ClaudeSession.Turn do
  @moduledoc """
  A prompt and what became of it.

  `status` is `:queued`, `:running`, or how it ended: `:completed`, `:interrupted`, `:failed`, `:cancelled`, `:unknown`.
  `text` is the reply: the text of the turn's last message; while it runs, all that has come of it. `blocks` are
  text, thinking and tool calls in their order, as maps with strings for keys, as `spec/protocol.md` has them.
  `attachments` are the files that came with the prompt: `name`, `media_type` and `size`, without their bytes.
  `author` is the name of the token that asked, nil where a person typed in the terminal. Times are `DateTime`s.
  """

  alias ClaudeSession.Values

  defstruct [
    :id,
    :key,
    :prompt,
    :author,
    :source,
    :status,
    :error,
    :usage,
    :cost_usd,
    :queued_at,
    :started_at,
    :finished_at,
    :reason,
    text: "",
    blocks: [],
    attachments: []
  ]

  @type status :: :queued | :running | :completed | :interrupted | :failed | :cancelled | :unknown
  @type t :: %__MODULE__{
          id: binary,
          key: binary | nil,
          prompt: binary | nil,
          author: binary | nil,
          source: :client | :terminal | nil,
          status: status,
          text: binary,
          blocks: [map],
          error: map | nil,
          usage: map | nil,
          cost_usd: number | nil,
          queued_at: DateTime.t() | nil,
          started_at: DateTime.t() | nil,
          finished_at: DateTime.t() | nil,
          reason: binary | nil,
          attachments: [map]
        }

  @doc """
  Whether it has ended.

      iex> ClaudeSession.Turn.finished?(%ClaudeSession.Turn{status: :running})
      false
  """
  @doc since: "0.1.0"
  @spec finished?(t) :: boolean
  def finished?(%__MODULE__{status: status}), do: status not in [:queued, :running]

  @doc false
  @spec from_wire(map) :: t
  def from_wire(turn) do
    %__MODULE__{
      id: turn["id"],
      key: turn["key"],
      prompt: turn["prompt"],
      author: turn["author"],
      source: Values.source(turn["source"]),
      status: Values.turn_status(turn["status"]),
      text: turn["text"] || "",
      blocks: turn["blocks"] || [],
      error: turn["error"],
      usage: turn["usage"],
      cost_usd: turn["cost_usd"],
      queued_at: Values.time(turn["queued_at"]),
      started_at: Values.time(turn["started_at"]),
      finished_at: Values.time(turn["finished_at"]),
      reason: turn["reason"],
      attachments: turn["attachments"] || []
    }
  end
end
