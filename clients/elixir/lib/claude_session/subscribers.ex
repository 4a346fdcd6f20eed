defmodule ClaudeSession.Subscribers do
  @moduledoc false
  # Processes that are sent a session's events as messages. Nobody can slow a session down: one whose mailbox grows
  # beyond a bound is sent nothing, and then, once it has caught up, a snapshot in place of what it missed.

  alias ClaudeSession.Event

  # A LiveView that renders works through hundreds in the time in which its mailbox is looked at again.
  @bound 5_000
  # A mailbox's length is looked at with every so many events; it costs a lock.
  @every 64

  defstruct pids: %{}, count: 0

  @type t :: %__MODULE__{pids: %{optional(pid) => {reference, :following | :lagging}}, count: non_neg_integer}

  @spec new() :: t
  def new, do: %__MODULE__{}

  @spec any?(t) :: boolean
  def any?(subscribers), do: subscribers.pids != %{}

  @doc "Once is enough: who is one already stays one."
  @spec add(t, pid) :: t
  def add(%{pids: pids} = subscribers, pid) when is_map_key(pids, pid), do: subscribers

  def add(subscribers, pid) do
    %{subscribers | pids: Map.put(subscribers.pids, pid, {Process.monitor(pid), :following})}
  end

  @doc "Also for who is gone."
  @spec remove(t, pid) :: t
  def remove(subscribers, pid) do
    {found, pids} = Map.pop(subscribers.pids, pid)
    with {monitor, _} <- found, do: Process.demonitor(monitor, [:flush])
    %{subscribers | pids: pids}
  end

  @doc "Send an event; `snapshot` makes what a subscriber that had lagged is sent in its place."
  @spec tell(t, term, Event.t(), (() -> Event.t())) :: t
  def tell(%{pids: pids} = subscribers, _as, _event, _snapshot) when pids == %{}, do: subscribers

  def tell(subscribers, as, event, snapshot) do
    look? = rem(subscribers.count, @every) == 0

    pids =
      Map.new(subscribers.pids, fn {pid, {monitor, how}} ->
        {pid, {monitor, tell_one(pid, how, look?, as, event, snapshot)}}
      end)

    %{subscribers | pids: pids, count: subscribers.count + 1}
  end

  @doc "Whether anybody has to be looked at again, though nothing more happens."
  @spec lagging?(t) :: boolean
  def lagging?(subscribers), do: Enum.any?(subscribers.pids, &match?({_, {_, :lagging}}, &1))

  @doc "Those that had lagged and do not any more are sent a snapshot."
  @spec catch_up(t, term, (() -> Event.t())) :: t
  def catch_up(subscribers, as, snapshot) do
    pids =
      Map.new(subscribers.pids, fn
        {pid, {monitor, :lagging}} -> {pid, {monitor, tell_one(pid, :lagging, true, as, nil, snapshot)}}
        following -> following
      end)

    %{subscribers | pids: pids}
  end

  defp tell_one(pid, :following, look?, as, event, _snapshot) do
    if look? and length_of(pid) > @bound do
      :lagging
    else
      send(pid, {ClaudeSession, as, event})
      :following
    end
  end

  defp tell_one(pid, :lagging, _look?, as, _event, snapshot) do
    if length_of(pid) > div(@bound, 2) do
      :lagging
    else
      send(pid, {ClaudeSession, as, snapshot.()})
      :following
    end
  end

  # Of a process elsewhere nothing can be known; the distribution has bounds of its own.
  defp length_of(pid) when node(pid) == node() do
    case Process.info(pid, :message_queue_len) do
      {:message_queue_len, length} -> length
      nil -> 0
    end
  end

  defp length_of(_pid), do: 0
end
