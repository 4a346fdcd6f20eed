defmodule ClaudeSession.Error do
  @moduledoc """
  Why something was not done. Functions answer `{:error, error}`; streams raise it.

  Match on `reason`, and on `details` where it has some, never on `message`, which is for people:

      case ClaudeSession.submit("research", prompt) do
        {:ok, text} -> text
        {:error, %{reason: :queue_full}} -> :later
        {:error, error} -> raise error
      end

  The reasons of the bridge are those of its `spec/errors.json`, as atoms: `:session_not_found`, `:prompt_too_large`,
  `:queue_full` and so on; `details` has what came with them. These are the client's own:

  | reason | meaning |
  |---|---|
  | `:interrupted`, `:failed`, `:cancelled`, `:unknown` | the turn ended so; `turn` has it, with the text that had come |
  | `:timeout` | no answer in the time that was given; a turn goes on, and the same `id` finds it |
  | `:disconnected` | the connection broke, and to ask again might do it twice |
  | `:not_started` | no such session was started in this VM |
  | `:session_deleted` | somebody deleted the session while it was used |
  | `:no_bridge` | no bridge was named, and none runs here |
  | `:unmatched_topic` | the bridge does not serve this, as an older one |
  | `:unexpected` | the bridge said what this version does not know; `details` has it |
  """

  alias ClaudeSession.Turn

  @codes ~w(unauthorized forbidden session_not_found session_exists invalid_name invalid_payload prompt_empty
    prompt_too_large prompt_rejected queue_full turn_not_found request_closed budget_exceeded session_failed
    session_stopped too_many_sessions backend_unavailable rate_limited binary_not_supported origin_refused not_found
    method_not_allowed payload_too_large unsupported_media_type internal)a
  @retryable ~w(queue_full too_many_sessions rate_limited internal)a
  @by_code Map.new(@codes, &{Atom.to_string(&1), &1})

  @own %{
    interrupted: "The turn was interrupted.",
    failed: "The turn failed.",
    cancelled: "The turn was cancelled before it ran.",
    unknown: "Nobody can tell how the turn ended.",
    timeout: "There was no answer in time.",
    disconnected: "The connection to the bridge broke.",
    not_started: "No such session was started here.",
    session_deleted: "The session was deleted.",
    no_bridge: "No bridge was named, and none runs here.",
    unmatched_topic: "The bridge does not serve this topic.",
    unexpected: "The bridge said what this version does not know."
  }

  defexception [:reason, :message, details: %{}, turn: nil]

  @typedoc "`details` has strings for keys, as they came; `turn` is the one that ended, where one did."
  @type t :: %__MODULE__{reason: atom, message: binary, details: map, turn: Turn.t() | nil}

  @impl true
  def exception(options), do: struct!(__MODULE__, options)

  @doc """
  Whether the same request may succeed later, as `spec/errors.json` has it; of the client's own, `:disconnected`
  may.

      iex> ClaudeSession.Error.retryable?(%ClaudeSession.Error{reason: :queue_full})
      true
      iex> ClaudeSession.Error.retryable?(%ClaudeSession.Error{reason: :forbidden})
      false
  """
  @doc since: "0.1.0"
  @spec retryable?(t) :: boolean
  def retryable?(%__MODULE__{reason: reason}), do: reason in [:disconnected | @retryable]

  @doc """
  The reasons that come from the bridge.

      iex> :queue_full in ClaudeSession.Error.codes()
      true
  """
  @doc since: "0.1.0"
  @spec codes() :: [atom]
  def codes, do: @codes

  @doc false
  @spec own(atom, keyword) :: t
  def own(reason, fields \\ []) when is_map_key(@own, reason) do
    struct!(__MODULE__, Keyword.merge([reason: reason, message: @own[reason]], fields))
  end

  @doc false
  # A reply with the status `error`. What a bridge says never becomes a new atom.
  @spec from_reply(term) :: t
  def from_reply(%{"reason" => code} = reply) when is_map_key(@by_code, code) do
    {message, details} = reply |> Map.delete("reason") |> Map.pop("message", code)
    %__MODULE__{reason: @by_code[code], message: message, details: details}
  end

  def from_reply(%{"reason" => "unmatched topic"} = reply), do: own(:unmatched_topic, details: reply)

  # Phoenix's own words for what a new attempt may mend.
  def from_reply(%{"reason" => "join crashed"} = reply),
    do: %__MODULE__{reason: :internal, message: "The bridge could not answer the join.", details: reply}

  def from_reply(reply),
    do: own(:unexpected, details: if(is_map(reply), do: reply, else: %{"response" => reply}))

  @doc false
  @spec of_turn(Turn.t()) :: t
  def of_turn(%Turn{status: status, error: error} = turn) do
    reason = if status in [:interrupted, :failed, :cancelled], do: status, else: :unknown
    own(reason, turn: turn, details: error || %{}, message: said(reason, error))
  end

  defp said(reason, %{"message" => why}) when is_binary(why), do: @own[reason] <> " " <> why
  defp said(reason, _error), do: @own[reason]
end
