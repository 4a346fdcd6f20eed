defmodule ClaudeSession.View do
  @moduledoc false
  # What is known of a session by its join and its events: a cursor, and how things are. Pure.
  #
  # Turns are kept as the wire has them, but for the blocks of the running one, which are a map by their number, so
  # that a delta costs as little in a long turn as in a short one.

  alias ClaudeSession.{Request, Status, Turn}

  # Ends of turns that may still be asked for; who asks later looks into the history.
  @finished 32

  defstruct epoch: nil, seq: 0, session: %{}, open: nil, blocks: %{}, queue: [], requests: [], finished: []

  @type t :: %__MODULE__{
          epoch: binary | nil,
          seq: non_neg_integer,
          session: map,
          open: map | nil,
          blocks: %{optional(non_neg_integer) => map},
          queue: [map],
          requests: [map],
          finished: [map]
        }

  @doc "The `after` of a join; nil before the first."
  @spec cursor(t) :: map | nil
  def cursor(%__MODULE__{epoch: nil}), do: nil
  def cursor(%__MODULE__{epoch: epoch, seq: seq}), do: %{"epoch" => epoch, "seq" => seq}

  @doc "A join's reply. `:recovered`: all that was missed follows. `:snapshot`: what was known is void."
  @spec joined(t, map) :: {:recovered | :snapshot, t}
  def joined(view, %{"recovered" => true} = reply),
    do: {:recovered, %{view | session: reply["session"] || %{}}}

  def joined(_view, reply) do
    open = reply["open_turn"]
    blocks = if open, do: Map.new(open["blocks"] || [], &{&1["block"], &1}), else: %{}

    {:snapshot,
     %__MODULE__{
       epoch: reply["epoch"],
       seq: reply["seq"] || 0,
       session: reply["session"] || %{},
       open: open && Map.delete(open, "blocks"),
       blocks: blocks,
       queue: reply["queue"] || [],
       requests: reply["requests"] || [],
       finished: (reply["turns"] || []) |> Enum.reverse() |> Enum.take(@finished)
     }}
  end

  @doc """
  Takes in an event. `:known`: it was there before. `:gap`: one before it is missing, so join again; the view is
  as it was. Events without a number (presence) are `:other`.
  """
  @spec take(t, binary, map) :: {:ok, t} | :known | :gap | :other
  def take(view, event, %{"seq" => seq} = payload) when is_integer(seq) do
    first = payload["first_seq"] || seq

    cond do
      seq <= view.seq -> :known
      first != view.seq + 1 -> :gap
      true -> {:ok, fold(%{view | seq: seq}, event, payload)}
    end
  end

  def take(_view, _event, _payload), do: :other

  @doc "A turn as it is now, however far it is; nil where it is not among what is kept."
  @spec turn(t, binary) :: map | nil
  def turn(%{open: %{"id" => id}} = view, id), do: open_turn(view)
  def turn(view, id), do: find(view.queue, "id", id) || find(view.finished, "id", id)

  @doc "The same by the key that its submit had."
  @spec turn_by_key(t, binary) :: map | nil
  def turn_by_key(%{open: %{"key" => key}} = view, key), do: open_turn(view)
  def turn_by_key(view, key), do: find(view.queue, "key", key) || find(view.finished, "key", key)

  @doc "Whether the turn is the one that runs."
  @spec running?(t, binary) :: boolean
  def running?(%{open: %{"id" => id}}, id), do: true
  def running?(_view, _id), do: false

  @doc "How things are, for people who begin to follow."
  @spec snapshot(t) :: ClaudeSession.Event.snapshot()
  def snapshot(view) do
    %{
      session: Status.from_wire(view.session),
      open_turn: if(view.open, do: Turn.from_wire(open_turn(view))),
      queue: Enum.map(view.queue, &Turn.from_wire/1),
      requests: Enum.map(view.requests, &Request.from_wire/1)
    }
  end

  @doc "The running turn with its blocks in order and its text so far; nil where none runs."
  @spec open_turn(t) :: map | nil
  def open_turn(%{open: nil}), do: nil

  def open_turn(view) do
    blocks = view.blocks |> Enum.sort() |> Enum.map(&elem(&1, 1))
    Map.merge(view.open, %{"blocks" => blocks, "text" => text(blocks)})
  end

  defp text(blocks) do
    for %{"kind" => "text", "text" => text} = block <- blocks, block["parent"] == nil, into: "", do: text
  end

  # --- events ------------------------------------------------------------------------------------

  defp fold(view, "turn_queued", %{"turn" => id} = payload) do
    # Once more for a turn that had started, where it waits again.
    view = if running?(view, id), do: %{view | open: nil, blocks: %{}}, else: view
    known = find(view.queue, "id", id) || %{"id" => id, "queued_at" => payload["at"], "source" => "client"}

    turn =
      Map.merge(known, Map.take(payload, ~w(key prompt author reason attachments)))
      |> Map.merge(%{"status" => "queued"})

    %{view | queue: Enum.reject(view.queue, &(&1["id"] == id)) ++ [turn]}
  end

  defp fold(view, "turn_started", %{"turn" => id} = payload) do
    queued = find(view.queue, "id", id) || %{"id" => id, "queued_at" => payload["at"]}

    open =
      queued
      |> Map.delete("reason")
      |> Map.merge(Map.take(payload, ~w(prompt author source attachments)))
      |> Map.merge(%{"status" => "running", "started_at" => payload["at"]})

    %{view | open: open, blocks: %{}, queue: Enum.reject(view.queue, &(&1["id"] == id))}
  end

  defp fold(view, "delta", %{"block" => n, "text" => text} = payload) do
    on_open(view, payload, fn blocks ->
      case blocks do
        %{^n => %{"text" => known} = block} -> %{blocks | n => %{block | "text" => known <> text}}
        _ -> Map.put(blocks, n, Map.take(payload, ~w(block kind text parent)))
      end
    end)
  end

  defp fold(view, "discard", %{"block" => n} = payload), do: on_open(view, payload, &Map.delete(&1, n))

  defp fold(view, "block", %{"block" => n} = payload) do
    on_open(view, payload, &Map.put(&1, n, Map.take(payload, ~w(block kind text parent))))
  end

  defp fold(view, "tool_started", %{"block" => n} = payload) do
    block = Map.take(payload, ~w(block tool name input parent))

    block = Map.merge(block, %{"kind" => "tool", "output" => nil, "is_error" => false, "truncated" => false})

    on_open(view, payload, &Map.put(&1, n, block))
  end

  defp fold(view, "tool_finished", %{"tool" => tool} = payload) do
    on_open(view, payload, fn blocks ->
      case Enum.find(blocks, fn {_n, block} -> block["tool"] == tool end) do
        {n, block} -> %{blocks | n => Map.merge(block, Map.take(payload, ~w(output is_error truncated)))}
        nil -> blocks
      end
    end)
  end

  defp fold(view, "request_opened", %{"request" => request}) do
    %{view | requests: view.requests ++ [request]}
  end

  defp fold(view, "request_closed", %{"request" => id}) do
    %{view | requests: Enum.reject(view.requests, &(&1["id"] == id))}
  end

  defp fold(view, "turn_finished", %{"turn" => id} = payload) do
    known = turn(view, id) || %{"id" => id}
    ended = Map.take(payload, ~w(status text error usage cost_usd)) |> Map.put("finished_at", payload["at"])
    view = if running?(view, id), do: %{view | open: nil, blocks: %{}}, else: view

    %{
      view
      | queue: Enum.reject(view.queue, &(&1["id"] == id)),
        finished: Enum.take([Map.merge(known, ended) | view.finished], @finished)
    }
  end

  defp fold(view, "session_changed", %{"session" => session}), do: %{view | session: session}
  defp fold(view, _event, _payload), do: view

  defp on_open(view, %{"turn" => id}, change) do
    if running?(view, id), do: %{view | blocks: change.(view.blocks)}, else: view
  end

  defp on_open(view, _payload, _change), do: view

  defp find(turns, key, value), do: Enum.find(turns, &(&1[key] == value))
end
