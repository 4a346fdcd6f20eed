defmodule ClaudeSession.Asked do
  @moduledoc false
  # One prompt that somebody here waits for: the caller of `submit`, or the reader of a stream with its buffer. Pure.
  #
  # A stream's buffer has a bound. What is beyond it is not kept: the buffer is emptied, and the reader is given the
  # turn as it is by then, which has everything that the events had said.

  alias ClaudeSession.{Error, Event, Turn}

  # Of all events in a buffer, as they would be in Erlang's external format: tools may say 64 KiB in one event.
  @max_bytes 8 * 1024 * 1024

  @enforce_keys [:id, :session, :kind, :key, :payload]
  defstruct [
    :id,
    :session,
    :kind,
    :key,
    :payload,
    :from,
    :monitor,
    :pid,
    :timer,
    :begun,
    turn: nil,
    result: nil,
    failure: nil,
    events: [],
    count: 0,
    bytes: 0,
    max: 1_000,
    lagging: false,
    sought: false,
    as: :text,
    on_halt: :interrupt
  ]

  @typedoc """
  `kind` is `:abandoned` once nobody reads any more. `turn` is the turn's id, once it is known; `result` its end, as
  the wire has a turn, `failure` why there will be none. `lagging`: events were dropped.
  `sought`: it has ended, and is looked for in the history.
  """
  @type t :: %__MODULE__{}

  @doc "For the reader: an event of its turn."
  @spec put(t, Event.t()) :: t
  def put(%{kind: :stream, lagging: false} = asked, event) do
    bytes = asked.bytes + :erlang.external_size(event.payload)

    if asked.count >= asked.max or bytes > @max_bytes do
      %{asked | lagging: true, events: [], count: 0, bytes: 0}
    else
      %{asked | events: [event | asked.events], count: asked.count + 1, bytes: bytes}
    end
  end

  def put(asked, _event), do: asked

  @doc "For the reader: the turn as it is, in place of events that it has not seen."
  @spec catch_up(t) :: t
  def catch_up(%{kind: :stream} = asked),
    do: %{asked | lagging: true, events: [], count: 0, bytes: 0}

  def catch_up(asked), do: asked

  @doc "Whether there is anything to be read."
  @spec readable?(t) :: boolean
  def readable?(asked), do: asked.events != [] or asked.lagging or asked.result != nil or asked.failure != nil

  @doc """
  All that there is to read, and whether that was the end. `turn` is asked for the turn as it is now (nil where nothing
  of it is known) when events were dropped.
  """
  @spec read(t, (() -> map | nil)) :: {[Event.t()], boolean, t}
  def read(asked, turn) do
    now = if asked.lagging, do: asked.result || turn.()
    snapshot = if now, do: [snapshot(asked, now)], else: []
    events = snapshot ++ Enum.reverse(asked.events)
    finished? = asked.result != nil
    events = if finished? and not ended?(events), do: events ++ [ending(asked)], else: events
    {events, finished?, %{asked | events: [], count: 0, bytes: 0, lagging: false}}
  end

  defp ended?(events), do: match?(%Event{name: :turn_finished}, List.last(events))

  defp snapshot(asked, turn) do
    %Event{
      name: :snapshot,
      session: asked.session,
      turn: turn["id"],
      snapshot: Turn.from_wire(turn)
    }
  end

  # Its end was found and not told.
  defp ending(%{result: result} = asked) do
    Event.from_wire(asked.session, "turn_finished", Map.put(result, "turn", result["id"]))
  end

  @doc "How a caller is told of an end."
  @spec outcome(map, :text | :turn) :: {:ok, binary | Turn.t()} | {:error, Error.t()}
  def outcome(result, as) do
    case Turn.from_wire(result) do
      %Turn{status: :completed} = turn -> {:ok, if(as == :turn, do: turn, else: turn.text)}
      turn -> {:error, Error.of_turn(turn)}
    end
  end
end
