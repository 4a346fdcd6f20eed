defmodule ClaudeSession.Reader do
  @moduledoc false
  # The reading side of `ClaudeSession.stream/3`: runs in the process that reads, and keeps what it has said.

  alias ClaudeSession.{Calls, Error, Event, Text, Turn}

  @doc "A lazy stream: nothing is asked before the first pull, and leaving it early tells the session's process."
  @spec stream((() -> {:ok, pid, pos_integer} | {:error, Error.t()}), :text | :events) :: Enumerable.t()
  def stream(begin, as) do
    Stream.resource(
      fn ->
        case begin.() do
          {:ok, session, id} -> %{session: session, id: id, as: as, text: %Text{}, ended: nil}
          {:error, error} -> raise error
        end
      end,
      &pull/1,
      fn reader -> if reader.ended == nil, do: GenServer.cast(reader.session, {:halt, reader.id}) end
    )
  end

  defp pull(%{ended: %Error{} = error}), do: raise(error)
  defp pull(%{ended: :well} = reader), do: {:halt, reader}

  defp pull(reader) do
    case Calls.call(reader.session, {:pull, reader.id}) do
      {:events, events, finished?} -> say(events, reader, finished?)
      {:error, error} -> raise error
    end
  end

  defp say(events, %{as: :events} = reader, finished?) do
    {events, %{reader | ended: if(finished?, do: :well)}}
  end

  # What came before a bad end is said first; the next pull raises.
  defp say(events, %{as: :text} = reader, finished?) do
    {chunks, text} = Enum.map_reduce(events, reader.text, &Text.take(&2, &1))
    ended = if finished?, do: how(List.last(events))
    {Enum.reject(chunks, &(&1 == "")), %{reader | text: text, ended: ended}}
  end

  defp how(%Event{name: :turn_finished, status: :completed}), do: :well

  defp how(%Event{payload: payload, turn: turn}),
    do: Error.of_turn(Turn.from_wire(Map.put(payload, "id", turn)))
end
