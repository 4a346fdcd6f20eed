defmodule ClaudeSession.Session do
  @moduledoc false
  # The process behind a name: it follows one session of a bridge by its cursor, and tells whoever waits here. What it
  # knows is `View`; who waits for a prompt is `Asked`; the way to the bridge is `Link`; who follows, `Subscribers`.
  #
  # It never blocks. Who calls is answered when there is something to say, or when their own time is up.

  use GenServer, restart: :transient

  alias ClaudeSession.{
    Asked,
    Backoff,
    Error,
    Event,
    Link,
    Options,
    Subscribers,
    Target,
    Telemetry,
    Values,
    View
  }

  # Prompts that may wait here for an answer; as many as a session of the bridge queues.
  @max_asked 1_000
  # Turns of history that are looked through for one that ended while nobody here was looking.
  @page 50
  @pages 40
  # How often a bridge that is not where it was is looked for again on this machine.
  @look_ms 2_000
  # How often a subscriber that lags is looked at while nothing happens.
  @catch_up_ms 200

  # `phase`: `:down`, no connection; `:joining`; `:joined`; `:refused` with `error`, until somebody asks again.
  # `asked` is by number, in the order of asking; `turns` finds those of a turn.
  defstruct [
    :name,
    :as,
    :start,
    :connection,
    :target,
    :link,
    :error,
    :looking,
    phase: :down,
    joins: 0,
    view: %View{},
    next: 1,
    asked: %{},
    turns: %{},
    calls: %{},
    subscribers: Subscribers.new()
  ]

  @spec start_link(map) :: GenServer.on_start()
  def start_link(config), do: GenServer.start_link(__MODULE__, config, name: via(config.as))

  @spec via(term) :: GenServer.name()
  def via(as), do: {:via, Registry, {ClaudeSession.Registry, {:session, as}}}

  # --- its life ----------------------------------------------------------------------------------

  @impl true
  def init(config), do: {:ok, struct!(__MODULE__, config), {:continue, :look}}

  @impl true
  def handle_continue(:look, state), do: {:noreply, look(state)}

  # Where the bridge is, may be known only later: one that is not there is a state, and no crash.
  defp look(state) do
    case Target.find(state.connection) do
      {:ok, target} when target == state.target ->
        state

      {:ok, target} ->
        if state.link, do: Link.close(state.link)
        link = Link.open(target, "session:" <> state.name, Options.heartbeat(state.connection))
        %{state | target: target, link: link, error: nil, phase: :down}

      {:error, error} when state.link == nil ->
        look_later()
        fail_all(%{state | error: error}, error)

      {:error, _error} ->
        state
    end
  end

  defp look_later, do: Process.send_after(self(), :look, @look_ms)

  # --- what is asked of it -----------------------------------------------------------------------

  @impl true
  def handle_call({kind, key, payload, options}, {pid, _} = from, state) when kind in [:submit, :stream] do
    with {:ok, state} <- ready(state),
         :ok <- room(state) do
      asked = %Asked{
        id: state.next,
        session: state.name,
        kind: kind,
        key: key,
        payload: payload,
        begun: System.monotonic_time(),
        as: options.as,
        max: options.max_buffer,
        on_halt: options.on_halt,
        timer: timer(options.timeout, {:asked, state.next})
      }

      Telemetry.execute([:turn, :start], %{system_time: System.system_time()}, %{session: state.name, id: key})

      state = %{state | next: state.next + 1}

      if kind == :submit do
        {:noreply, submit(put(state, %{asked | from: from}), asked.id)}
      else
        asked = %{asked | pid: pid, monitor: Process.monitor(pid)}
        {:reply, {:ok, self(), asked.id}, submit(put(state, asked), asked.id)}
      end
    else
      {:error, error} -> {:reply, {:error, error}, state}
    end
  end

  def handle_call({:pull, id}, from, state) do
    case state.asked do
      %{^id => asked} -> {:noreply, deliver(state, %{asked | from: from})}
      _ -> {:reply, {:error, Error.own(:timeout)}, state}
    end
  end

  def handle_call({:push, event, payload, options}, from, state) do
    case ready(state) do
      {:ok, state} ->
        ref = make_ref()
        call = %{from: from, event: event, payload: payload, again: options.again, sent: 0}
        call = Map.put(call, :timer, timer(options.timeout, {:call, ref}))
        {:noreply, push(%{state | calls: Map.put(state.calls, ref, call)}, ref)}

      {:error, error} ->
        {:reply, {:error, error}, state}
    end
  end

  def handle_call(:subscribe, {pid, _}, state) do
    {:reply, {:ok, View.snapshot(state.view)},
     %{state | subscribers: Subscribers.add(state.subscribers, pid)}}
  end

  def handle_call(:unsubscribe, {pid, _}, state) do
    {:reply, :ok, %{state | subscribers: Subscribers.remove(state.subscribers, pid)}}
  end

  @impl true
  def handle_cast({:halt, id}, state) do
    case state.asked do
      %{^id => asked} -> {:noreply, abandon(state, asked)}
      _ -> {:noreply, state}
    end
  end

  @impl true
  def handle_info(:look, state), do: {:noreply, if(state.phase == :down, do: look(state), else: state)}

  def handle_info(:catch_up, state) do
    subscribers = Subscribers.catch_up(state.subscribers, state.as, fn -> snapshot(state) end)
    {:noreply, followed(%{state | looking: nil, subscribers: subscribers})}
  end

  def handle_info({:rejoin, joins}, %{joins: joins, phase: phase} = state) when phase != :joined do
    {:noreply, if(state.link && Link.up?(state.link), do: join(state), else: state)}
  end

  def handle_info({:rejoin, _joins}, state), do: {:noreply, state}

  def handle_info({:timeout, {:call, ref}}, state) do
    {:noreply, answer(state, ref, {:error, Error.own(:timeout)})}
  end

  def handle_info({:timeout, {:asked, id}}, state) do
    case state.asked do
      %{^id => asked} ->
        {:noreply,
         fail(state, asked, Error.own(:timeout, details: %{"id" => asked.key, "turn" => asked.turn}))}

      _ ->
        {:noreply, state}
    end
  end

  def handle_info(message, state) do
    case state.link && Link.take(state.link, message) do
      {news, link} -> news(news, %{state | link: link})
      _ -> {:noreply, other(message, state)}
    end
  end

  # A reader or a subscriber is gone.
  defp other({:DOWN, monitor, :process, pid, _reason}, state) do
    state = %{state | subscribers: Subscribers.remove(state.subscribers, pid)}

    case Enum.find(state.asked, fn {_id, asked} -> asked.monitor == monitor end) do
      {_id, asked} -> abandon(state, asked)
      nil -> state
    end
  end

  defp other(_message, state), do: state

  # --- what the bridge says ----------------------------------------------------------------------

  defp news(:up, state), do: {:noreply, join(%{state | error: nil})}

  defp news({:down, error, lost}, state) do
    if state.connection[:url] == nil, do: look_later()

    state =
      if state.phase == :joined,
        do: tell(state, %Event{name: :disconnected, session: state.name}),
        else: state

    state = lost(%{state | phase: :down, error: error}, lost)
    {:noreply, if(error.reason == :unauthorized, do: fail_all(state, error), else: state)}
  end

  defp news({:errored, lost}, state) do
    state = lost(%{state | phase: :joining}, lost)
    Process.send_after(self(), {:rejoin, state.joins}, Backoff.delay(4))
    {:noreply, state}
  end

  # The session was deleted: to join again would bring it back.
  defp news(:closed, state) do
    state = fail_all(state, Error.own(:session_deleted, details: %{"name" => state.name}))
    tell(state, %Event{name: :closed, session: state.name})
    {:stop, {:shutdown, :session_deleted}, state}
  end

  defp news({:reply, {:join, joins}, result}, %{joins: joins} = state) do
    case result do
      {:ok, reply} -> {:noreply, joined(state, View.joined(state.view, reply))}
      {:error, error} -> {:noreply, refused(state, error)}
    end
  end

  defp news({:reply, {:asked, id}, result}, state) do
    case {state.asked, result} do
      {%{^id => %{turn: nil} = asked}, {:ok, reply}} -> {:noreply, submitted(state, asked, reply)}
      {%{^id => %{turn: nil} = asked}, {:error, error}} -> {:noreply, fail(state, asked, error)}
      _ -> {:noreply, state}
    end
  end

  defp news({:reply, {:call, ref}, result}, state), do: {:noreply, answer(state, ref, result)}

  defp news({:reply, {:history, id, page}, result}, state) do
    case state.asked do
      %{^id => asked} -> {:noreply, looked_up(state, asked, page, result)}
      _ -> {:noreply, state}
    end
  end

  defp news({:event, event, payload}, state) when is_map(payload),
    do: {:noreply, happened(state, event, payload)}

  defp news(_nothing, state), do: {:noreply, state}

  # --- joining -----------------------------------------------------------------------------------

  # What was pushed to an earlier join may never be answered, so it is pushed again after this one.
  defp join(state) do
    payload = if state.start, do: %{"start" => state.start}, else: %{}
    after_ = View.cursor(state.view)
    payload = if after_, do: Map.put(payload, "after", after_), else: payload
    state = %{state | phase: :joining, joins: state.joins + 1}
    %{state | link: Link.push(state.link, {:join, state.joins}, "phx_join", payload)}
  end

  defp joined(state, {how, view}) do
    # To join starts nothing that somebody has stopped; to start it here does.
    stopped? = state.start != nil and state.view.epoch == nil and view.session["state"] == "stopped"
    state = %{state | phase: :joined, view: view, error: nil}
    state = if stopped?, do: %{state | link: Link.push(state.link, :nobody, "restart", %{})}, else: state

    state =
      if how == :snapshot, do: anew(state), else: tell(state, %Event{name: :connected, session: state.name})

    state = state.asked |> Map.keys() |> Enum.sort() |> Enum.reduce(state, &submit(&2, &1))
    state.calls |> Map.keys() |> Enum.reduce(state, &push(&2, &1))
  end

  # Nothing that was known counts any more: everybody is told how things are.
  defp anew(state) do
    state = tell(state, snapshot(state))

    for {id, _} <- Enum.sort(state.asked), reduce: state do
      state ->
        asked = state.asked[id]

        case if(asked.turn,
               do: View.turn(state.view, asked.turn),
               else: View.turn_by_key(state.view, asked.key)
             ) do
          nil -> state
          turn -> found(bind(state, asked, turn["id"]), id, turn)
        end
    end
  end

  defp refused(state, error) do
    state = %{state | phase: :refused, error: error}

    if Error.retryable?(error) do
      delay = if s = error.details["retry_after_s"], do: round(s * 1000), else: Backoff.delay(6)
      Process.send_after(self(), {:rejoin, state.joins}, delay)
      state
    else
      fail_all(state, error)
    end
  end

  # Whether to take something on that waits for the bridge; who was refused asks again.
  defp ready(%{phase: :down, error: %{reason: reason} = error}) when reason in [:unauthorized, :no_bridge],
    do: {:error, error}

  defp ready(%{phase: :refused} = state), do: {:ok, join(state)}
  defp ready(state), do: {:ok, state}

  # --- prompts -----------------------------------------------------------------------------------

  defp room(state) do
    if map_size(state.asked) < @max_asked do
      :ok
    else
      message = "#{@max_asked} prompts are already waiting here."
      {:error, %Error{reason: :queue_full, message: message, details: %{"limit" => @max_asked}}}
    end
  end

  # As often as it takes: the key makes it one prompt.
  defp submit(%{phase: :joined} = state, id) do
    case state.asked[id] do
      %{turn: nil, payload: payload} ->
        %{state | link: Link.push(state.link, {:asked, id}, "submit", payload)}

      # Known, and neither open nor among the latest: it ended meanwhile.
      %{turn: turn, result: nil} = asked ->
        if View.turn(state.view, turn), do: state, else: look_up(state, asked, nil, 1)

      _ended ->
        state
    end
  end

  defp submit(state, _id), do: state

  defp submitted(state, asked, %{"turn" => turn} = reply) do
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

  defp submitted(state, asked, reply), do: fail(state, asked, Error.own(:unexpected, details: reply))

  defp bind(state, %{kind: :abandoned} = asked, turn) do
    state |> put(%{asked | turn: turn}) |> call_off(turn) |> delete(asked)
  end

  defp bind(state, asked, turn) do
    ids = Map.get(state.turns, turn, [])
    ids = if asked.id in ids, do: ids, else: [asked.id | ids]
    put(%{state | turns: Map.put(state.turns, turn, ids)}, %{asked | turn: turn})
  end

  # The turn of somebody who waits, as it is: perhaps far on, perhaps at its end.
  defp found(state, id, turn) do
    case {state.asked[id], turn["status"]} do
      {nil, _} -> state
      {_asked, "queued"} -> state
      {asked, "running"} -> deliver(state, Asked.catch_up(asked))
      {asked, _ended} -> finish(state, Asked.catch_up(asked), turn)
    end
  end

  defp look_up(state, asked, before, page) do
    payload = if before, do: %{"limit" => @page, "before" => before}, else: %{"limit" => @page}
    %{state | link: Link.push(state.link, {:history, asked.id, page}, "history", payload)}
  end

  defp looked_up(state, asked, page, {:ok, %{"turns" => turns}}) do
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

  defp looked_up(state, asked, _page, {:error, error}), do: fail(state, asked, error)

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

  # To the reader, if it has asked and there is something.
  defp deliver(state, %{from: from, failure: failure} = asked) when from != nil and failure != nil do
    GenServer.reply(from, {:error, failure})
    delete(state, asked)
  end

  defp deliver(state, asked) do
    if asked.from != nil and Asked.readable?(asked) do
      {events, finished?, read} = Asked.read(asked, fn -> View.turn(state.view, asked.turn || "") end)
      GenServer.reply(asked.from, {:events, events, finished?})
      if finished?, do: delete(state, read), else: put(state, %{read | from: nil})
    else
      put(state, asked)
    end
  end

  defp fail(state, asked, error) do
    Telemetry.execute(
      [:turn, :exception],
      %{duration: since(asked)},
      Map.put(place(asked), :reason, error.reason)
    )

    case asked.kind do
      :stream -> deliver(state, %{asked | failure: error})
      :submit -> GenServer.reply(asked.from, {:error, error}) && delete(state, asked)
      :abandoned -> delete(state, asked)
    end
  end

  defp fail_all(state, error) do
    state = state.asked |> Map.values() |> Enum.reduce(state, &fail(&2, &1, error))
    state.calls |> Map.keys() |> Enum.reduce(state, &answer(&2, &1, {:error, error}))
  end

  # Nobody reads any more.
  defp abandon(state, %{on_halt: :continue} = asked), do: delete(state, asked)

  defp abandon(state, %{turn: nil} = asked) do
    if Link.pushed?(state.link, {:asked, asked.id}) do
      put(state, %{asked | kind: :abandoned, from: nil})
    else
      delete(state, asked)
    end
  end

  defp abandon(state, asked), do: state |> call_off(asked.turn) |> delete(asked)

  # Only what is known to run or to wait: the next turn is somebody else's.
  defp call_off(%{phase: :joined} = state, turn) do
    case View.turn(state.view, turn) do
      %{"status" => "running"} -> %{state | link: Link.push(state.link, :nobody, "interrupt", %{})}
      %{"status" => "queued"} -> %{state | link: Link.push(state.link, :nobody, "cancel", %{"turn" => turn})}
      _ -> state
    end
  end

  defp call_off(state, _turn), do: state

  # --- events ------------------------------------------------------------------------------------

  defp happened(%{phase: :joined} = state, word, payload) do
    case View.take(state.view, word, payload) do
      {:ok, view} -> told(%{state | view: view}, state.view, word, payload)
      # One before it is missing, which only a bridge that merges for a slow client brings about.
      :gap -> join(lost(state, Link.tags(state.link)))
      _known_or_unnumbered -> state
    end
  end

  defp happened(state, _word, _payload), do: state

  defp told(state, before, word, payload) do
    state = if word == "turn_queued" and payload["key"], do: bind_by_key(state, payload), else: state
    turn = turn_of(before, word, payload)
    ids = Map.get(state.turns, turn, [])

    if ids == [] and not Subscribers.any?(state.subscribers) do
      state
    else
      event = %{Event.from_wire(state.name, word, payload) | turn: turn}
      state = tell(state, event)
      state = Enum.reduce(ids, state, &deliver(&2, Asked.put(&2.asked[&1], event)))
      if word == "turn_finished", do: finish_all(state, turn), else: state
    end
  end

  defp turn_of(before, "request_closed", %{"request" => id}) do
    Enum.find_value(before.requests, &(&1["id"] == id && &1["turn"]))
  end

  defp turn_of(_before, "request_opened", %{"request" => request}), do: request["turn"]
  defp turn_of(_before, _word, payload), do: payload["turn"]

  defp bind_by_key(state, %{"key" => key, "turn" => turn}) do
    for {_id, %{key: ^key, turn: nil} = asked} <- state.asked,
        reduce: state,
        do: (state -> bind(state, asked, turn))
  end

  defp finish_all(state, turn) do
    result = View.turn(state.view, turn)

    for id <- Map.get(state.turns, turn, []), asked = state.asked[id], reduce: state do
      state -> finish(state, asked, result)
    end
  end

  defp tell(state, event) do
    followed(%{
      state
      | subscribers: Subscribers.tell(state.subscribers, state.as, event, fn -> snapshot(state) end)
    })
  end

  # Who lags when the last event comes is to hear of it, too.
  defp followed(%{looking: nil} = state) do
    if Subscribers.lagging?(state.subscribers),
      do: %{state | looking: Process.send_after(self(), :catch_up, @catch_up_ms)},
      else: state
  end

  defp followed(state), do: state

  defp snapshot(state), do: %Event{name: :snapshot, session: state.name, snapshot: View.snapshot(state.view)}

  # --- calls -------------------------------------------------------------------------------------

  # `nil`: only how things are.
  defp push(%{phase: :joined} = state, ref) do
    case state.calls[ref] do
      nil ->
        state

      %{event: nil} ->
        answer(state, ref, {:ok, View.snapshot(state.view)})

      call ->
        state = %{state | calls: Map.put(state.calls, ref, %{call | sent: call.sent + 1})}
        %{state | link: Link.push(state.link, {:call, ref}, call.event, call.payload)}
    end
  end

  defp push(state, _ref), do: state

  defp answer(state, ref, result) do
    case Map.pop(state.calls, ref) do
      {nil, _} ->
        state

      {call, calls} ->
        cancel(call.timer)
        GenServer.reply(call.from, told_twice(call, result))
        %{state | calls: calls}
    end
  end

  # An answer whose reply was lost and that was sent again is refused for having been given.
  defp told_twice(%{event: "answer", sent: sent, payload: %{"decision" => decision}}, {:error, error})
       when sent > 1 do
    outcome = if decision == "allow", do: "allowed", else: "denied"

    if match?(%{reason: :request_closed, details: %{"outcome" => ^outcome}}, error),
      do: {:ok, %{}},
      else: {:error, error}
  end

  defp told_twice(_call, result), do: result

  # What may not be done twice is not asked again.
  defp lost(state, tags) do
    for {:call, ref} <- tags, call = state.calls[ref], not call.again, reduce: state do
      state -> answer(state, ref, {:error, Error.own(:disconnected)})
    end
  end

  # --- small things ------------------------------------------------------------------------------

  defp put(state, asked), do: %{state | asked: Map.put(state.asked, asked.id, asked)}

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

  defp timer(:infinity, _what), do: nil
  defp timer(ms, what), do: Process.send_after(self(), {:timeout, what}, ms)

  defp cancel(nil), do: :ok
  defp cancel(timer), do: Process.cancel_timer(timer)

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
