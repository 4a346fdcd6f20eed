defmodule ClaudeSession.Session do
  @moduledoc false
  # The process behind a name: it follows one session of a bridge by its cursor, and tells whoever waits here. What it
  # knows is `View`; who waits for a prompt is `Asked`, and `Prompts` what is done about it; the way to the
  # bridge is `Link`; who follows, `Subscribers`.
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
    Prompts,
    Subscribers,
    Target,
    Telemetry,
    View
  }

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
        state = left(state)
        link = Link.open(target, "session:" <> state.name, Options.heartbeat(state.connection))
        %{state | target: target, link: link, error: nil, phase: :down}

      {:error, error} when state.link == nil ->
        look_later()
        fail_all(%{state | error: error}, error)

      {:error, _error} ->
        state
    end
  end

  defp left(%{link: nil} = state), do: state

  defp left(state) do
    Link.close(state.link)
    lost(state, Link.tags(state.link))
  end

  defp look_later, do: Process.send_after(self(), :look, @look_ms)

  # --- what is asked of it -----------------------------------------------------------------------

  @impl true
  def handle_call({kind, key, payload, options}, {pid, _} = from, state) when kind in [:submit, :stream] do
    with {:ok, state} <- ready(state),
         :ok <- Prompts.room(state) do
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
        timer: Prompts.timer(options.timeout, {:asked, state.next})
      }

      Telemetry.execute([:turn, :start], %{system_time: System.system_time()}, %{session: state.name, id: key})

      state = %{state | next: state.next + 1}

      if kind == :submit do
        {:noreply, Prompts.submit(Prompts.put(state, %{asked | from: from}), asked.id)}
      else
        asked = %{asked | pid: pid, monitor: Process.monitor(pid)}
        {:reply, {:ok, self(), asked.id}, Prompts.submit(Prompts.put(state, asked), asked.id)}
      end
    else
      {:error, error} -> {:reply, {:error, error}, state}
    end
  end

  def handle_call({:pull, id}, from, state) do
    case state.asked do
      %{^id => asked} -> {:noreply, Prompts.deliver(state, %{asked | from: from})}
      _ -> {:reply, {:error, Error.own(:timeout)}, state}
    end
  end

  def handle_call({:push, event, payload, options}, from, state) do
    case ready(state) do
      {:ok, state} ->
        ref = make_ref()
        call = %{from: from, event: event, payload: payload, again: options.again, sent: 0}
        call = Map.put(call, :timer, Prompts.timer(options.timeout, {:call, ref}))
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
      %{^id => asked} -> {:noreply, Prompts.abandon(state, asked)}
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
         Prompts.fail(state, asked, Error.own(:timeout, details: %{"id" => asked.key, "turn" => asked.turn}))}

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
      {_id, asked} -> Prompts.abandon(state, asked)
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
      {%{^id => %{turn: nil} = asked}, {:ok, reply}} -> {:noreply, Prompts.submitted(state, asked, reply)}
      {%{^id => %{turn: nil} = asked}, {:error, error}} -> {:noreply, Prompts.fail(state, asked, error)}
      _ -> {:noreply, state}
    end
  end

  defp news({:reply, {:call, ref}, result}, state), do: {:noreply, answer(state, ref, result)}

  defp news({:reply, {:history, id, page}, result}, state) do
    case state.asked do
      %{^id => asked} -> {:noreply, Prompts.looked_up(state, asked, page, result)}
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

    state = state.asked |> Map.keys() |> Enum.sort() |> Enum.reduce(state, &Prompts.submit(&2, &1))
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
          nil -> Prompts.seek(state, asked)
          turn -> Prompts.found(Prompts.bind(state, asked, turn["id"]), id, turn)
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
    state = if word == "turn_queued" and payload["key"], do: Prompts.bind_by_key(state, payload), else: state
    turn = turn_of(before, word, payload)
    ids = Map.get(state.turns, turn, [])

    if ids == [] and not Subscribers.any?(state.subscribers) do
      state
    else
      event = %{Event.from_wire(state.name, word, payload) | turn: turn}
      state = tell(state, event)
      state = Enum.reduce(ids, state, &Prompts.deliver(&2, Asked.put(&2.asked[&1], event)))
      if word == "turn_finished", do: Prompts.finish_all(state, turn), else: state
    end
  end

  defp turn_of(before, "request_closed", %{"request" => id}) do
    Enum.find_value(before.requests, &(&1["id"] == id && &1["turn"]))
  end

  defp turn_of(_before, "request_opened", %{"request" => request}), do: request["turn"]
  defp turn_of(_before, _word, payload), do: payload["turn"]

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
        Prompts.cancel(call.timer)
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

  defp fail_all(state, error) do
    state = state.asked |> Map.values() |> Enum.reduce(state, &Prompts.fail(&2, &1, error))
    state.calls |> Map.keys() |> Enum.reduce(state, &answer(&2, &1, {:error, error}))
  end
end
