defmodule ClaudeSession.Prompts do
  @moduledoc false
  # Who waits for a prompt, in a session's process: from the submit, by way of the turn that it became, to the end. These
  # are functions of `Session`'s state; what they push and answer goes by its link and its callers.

  alias ClaudeSession.{Asked, Error, Link, Telemetry, Values, View}

  # Prompts that may wait here for an answer; as many as a session of the bridge queues.
  @max_asked 1_000
  # Turns of history that are looked through for one that ended while nobody here was looking.
  @page 50
  @pages 40

  @doc "Whether one more may wait."
  def room(state) do
    if map_size(state.asked) < @max_asked do
      :ok
    else
      message = "#{@max_asked} prompts are already waiting here."
      {:error, %Error{reason: :queue_full, message: message, details: %{"limit" => @max_asked}}}
    end
  end

  @doc "Push it, as often as it takes: the key makes it one prompt."
  def submit(%{phase: :joined} = state, id) do
    case state.asked[id] do
      %{turn: nil, payload: payload} ->
        %{state | link: Link.push(state.link, {:asked, id}, "submit", payload)}

      %{sought: true} = asked ->
        look_up(state, asked, nil, 1)

      # Its events come, or have come.
      _known ->
        state
    end
  end

  def submit(state, _id), do: state

  @doc "The reply to a submit."
  def submitted(state, asked, %{"turn" => turn} = reply) do
    state = bind(state, asked, turn)

    case View.turn(state.view, turn) do
      nil ->
        if reply["status"] in ~w(queued running),
          do: state,
          else: look_up(state, state.asked[asked.id], nil, 1)

      known ->
        found(state, asked.id, known)
    end
  end

  def submitted(state, asked, reply), do: fail(state, asked, Error.own(:unexpected, details: reply))

  @doc "The prompt has become this turn."
  def bind(state, %{kind: :abandoned} = asked, turn) do
    state |> put(%{asked | turn: turn}) |> call_off(turn) |> delete(asked)
  end

  def bind(state, asked, turn) do
    ids = Map.get(state.turns, turn, [])
    ids = if asked.id in ids, do: ids, else: [asked.id | ids]
    put(%{state | turns: Map.put(state.turns, turn, ids)}, %{asked | turn: turn})
  end

  @doc "After a snapshot: its turn is neither open nor among the latest, so it ended meanwhile."
  def seek(state, %{turn: nil}), do: state
  def seek(state, asked), do: put(state, %{asked | sought: true})

  @doc "The turn of somebody who waits, as it is: perhaps far on, perhaps at its end."
  def found(state, id, turn) do
    case {state.asked[id], turn["status"]} do
      {nil, _} -> state
      {_asked, "queued"} -> state
      {asked, "running"} -> deliver(state, Asked.catch_up(asked))
      {asked, _ended} -> finish(state, Asked.catch_up(asked), turn)
    end
  end

  defp look_up(state, asked, before, page) do
    payload = if before, do: %{"limit" => @page, "before" => before}, else: %{"limit" => @page}
    state = put(state, %{asked | sought: true})
    %{state | link: Link.push(state.link, {:history, asked.id, page}, "history", payload)}
  end

  @doc "A page of the history."
  def looked_up(state, asked, page, {:ok, %{"turns" => turns}}) do
    case Enum.find(turns, &(&1["id"] == asked.turn)) do
      nil when turns == [] or page == @pages ->
        message = "The turn has ended, and the history does not have it any more."

        fail(state, asked, %Error{reason: :turn_not_found, message: message, details: %{"turn" => asked.turn}})

      nil ->
        look_up(state, asked, hd(turns)["id"], page + 1)

      turn ->
        found(state, asked.id, turn)
    end
  end

  def looked_up(state, asked, _page, {:error, error}), do: fail(state, asked, error)

  defp finish(state, %{kind: :submit} = asked, turn) do
    GenServer.reply(asked.from, Asked.outcome(turn, asked.as))
    stopped(asked, turn)
    delete(state, asked)
  end

  defp finish(state, %{kind: :stream} = asked, turn) do
    stopped(asked, turn)
    deliver(state, %{asked | result: turn})
  end

  defp finish(state, asked, _turn), do: delete(state, asked)

  @doc "To the reader, if it has asked and there is something."
  def deliver(state, %{from: from, failure: failure} = asked) when from != nil and failure != nil do
    GenServer.reply(from, {:error, failure})
    delete(state, asked)
  end

  def deliver(state, asked) do
    if asked.from != nil and Asked.readable?(asked) do
      {events, finished?, read} = Asked.read(asked, fn -> View.turn(state.view, asked.turn || "") end)
      GenServer.reply(asked.from, {:events, events, finished?})
      if finished?, do: delete(state, read), else: put(state, %{read | from: nil})
    else
      put(state, asked)
    end
  end

  @doc "There will be no end of it."
  def fail(state, asked, error) do
    Telemetry.execute(
      [:turn, :exception],
      %{duration: since(asked)},
      Map.put(place(asked), :reason, error.reason)
    )

    case asked.kind do
      :stream ->
        deliver(state, %{asked | failure: error})

      :submit ->
        GenServer.reply(asked.from, {:error, error})
        delete(state, asked)

      :abandoned ->
        delete(state, asked)
    end
  end

  @doc "Nobody reads any more."
  def abandon(state, %{on_halt: :continue} = asked), do: delete(state, asked)

  def abandon(state, %{turn: nil} = asked) do
    if Link.pushed?(state.link, {:asked, asked.id}) do
      put(state, %{asked | kind: :abandoned, from: nil})
    else
      delete(state, asked)
    end
  end

  def abandon(state, asked), do: state |> call_off(asked.turn) |> delete(asked)

  # Only what is known to run or to wait: the next turn is somebody else's.
  defp call_off(%{phase: :joined} = state, turn) do
    case View.turn(state.view, turn) do
      %{"status" => "running"} -> %{state | link: Link.push(state.link, :nobody, "interrupt", %{})}
      %{"status" => "queued"} -> %{state | link: Link.push(state.link, :nobody, "cancel", %{"turn" => turn})}
      _ -> state
    end
  end

  defp call_off(state, _turn), do: state

  @doc "A turn was queued under a key that somebody here may have given it."
  def bind_by_key(state, %{"key" => key, "turn" => turn}) do
    for {_id, %{key: ^key, turn: nil} = asked} <- state.asked,
        reduce: state,
        do: (state -> bind(state, asked, turn))
  end

  @doc "A turn has ended: everybody who waits for it is told."
  def finish_all(state, turn) do
    result = View.turn(state.view, turn)

    for id <- Map.get(state.turns, turn, []), asked = state.asked[id], reduce: state do
      state -> finish(state, asked, result)
    end
  end

  @doc "Keep it as it is now."
  def put(state, asked), do: %{state | asked: Map.put(state.asked, asked.id, asked)}

  defp delete(state, asked) do
    cancel(asked.timer)
    if asked.monitor, do: Process.demonitor(asked.monitor, [:flush])

    turns =
      case List.delete(Map.get(state.turns, asked.turn, []), asked.id) do
        [] -> Map.delete(state.turns, asked.turn)
        ids -> Map.put(state.turns, asked.turn, ids)
      end

    %{state | asked: Map.delete(state.asked, asked.id), turns: turns}
  end

  @doc "Say `{:timeout, what}` to this process when somebody's time is up."
  def timer(:infinity, _what), do: nil
  def timer(ms, what), do: Process.send_after(self(), {:timeout, what}, ms)

  @doc "It is not needed any more."
  def cancel(nil), do: :ok
  def cancel(timer), do: Process.cancel_timer(timer)

  defp stopped(asked, turn) do
    measured = %{duration: since(asked), cost_usd: turn["cost_usd"]}

    Telemetry.execute(
      [:turn, :stop],
      measured,
      Map.merge(place(asked), %{turn: turn["id"], status: Values.turn_status(turn["status"])})
    )
  end

  defp place(asked), do: %{session: asked.session, id: asked.key}
  defp since(asked), do: System.monotonic_time() - asked.begun
end
