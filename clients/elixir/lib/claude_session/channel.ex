defmodule ClaudeSession.Channel do
  @moduledoc false
  # The process of a topic that has no numbers: the lobby, and pools. It is started by who asks something, and goes
  # when nobody has for a while.

  use GenServer, restart: :temporary

  alias ClaudeSession.{Asked, Backoff, Error, Link, Options, Target}

  # Long enough that a page which lists sessions every few seconds joins once.
  @idle_ms 30_000

  defstruct [:topic, :link, :error, phase: :down, asks: %{}]

  @doc "One event and its reply. Fails at once where there is no connection."
  @spec call(keyword, binary, binary, map, timeout) :: {:ok, map} | {:error, Error.t()}
  def call(options, topic, event, payload, timeout) do
    request(options, topic, %{kind: :call, event: event, payload: payload, timeout: timeout})
  end

  @doc "A question to a pool, and the turn that answers it. It is asked again under its id until there is an answer."
  @spec ask(keyword, binary, map, :text | :turn, timeout) ::
          {:ok, binary | ClaudeSession.Turn.t()} | {:error, Error.t()}
  def ask(options, topic, payload, as, timeout) do
    request(options, topic, %{kind: :ask, event: "ask", payload: payload, as: as, timeout: timeout})
  end

  defp request(options, topic, request) do
    with {:ok, target} <- Target.find(options) do
      GenServer.call(ensure(target, topic, Options.heartbeat(options)), request, :infinity)
    end
  catch
    # It went for want of anything to do, as it was asked.
    :exit, {reason, {GenServer, :call, _}} when reason in [:normal, :noproc] ->
      request(options, topic, request)

    :exit, {_reason, {GenServer, :call, _}} ->
      {:error, Error.own(:disconnected)}
  end

  defp ensure(target, topic, options) do
    digest = :crypto.hash(:sha256, :erlang.term_to_binary({target, options}))
    name = {:via, Registry, {ClaudeSession.Registry, {:channel, digest, topic}}}

    with nil <- GenServer.whereis(name) do
      case DynamicSupervisor.start_child(ClaudeSession.Shared, {__MODULE__, {target, topic, options, name}}) do
        {:ok, pid} -> pid
        {:error, {:already_started, pid}} -> pid
      end
    end
  end

  @doc false
  def start_link({target, topic, options, name}) do
    GenServer.start_link(__MODULE__, {target, topic, options}, name: name)
  end

  @impl true
  def init({target, topic, options}) do
    {:ok, %__MODULE__{topic: topic}, {:continue, {:open, target, options}}}
  end

  # Not in `init`: the supervisor that waits for that is asked for the connection as well.
  @impl true
  def handle_continue({:open, target, options}, state) do
    {:noreply, %{state | link: Link.open(target, state.topic, options)}, @idle_ms}
  end

  @impl true
  def handle_call(%{kind: kind}, _from, %{phase: :down, error: error} = state)
      when error != nil and (kind == :call or error.reason == :unauthorized) do
    {:reply, {:error, error}, state, @idle_ms}
  end

  def handle_call(request, from, state) do
    ref = make_ref()
    if request.timeout != :infinity, do: Process.send_after(self(), {:timeout, ref}, request.timeout)
    state = %{state | asks: Map.put(state.asks, ref, Map.merge(request, %{from: from, turn: nil}))}
    state = if state.phase == :refused, do: join(state), else: push(state, ref)
    {:noreply, state, @idle_ms}
  end

  @impl true
  def handle_info(:timeout, %{asks: asks} = state) when asks == %{}, do: {:stop, :normal, state}
  def handle_info(:timeout, state), do: {:noreply, state, @idle_ms}

  def handle_info({:timeout, ref}, state) do
    {:noreply, answer(state, ref, {:error, Error.own(:timeout)}), @idle_ms}
  end

  def handle_info(:rejoin, state) do
    {:noreply, if(state.phase == :errored, do: join(state), else: state), @idle_ms}
  end

  def handle_info(message, state) do
    case Link.take(state.link, message) do
      {news, link} -> {:noreply, news(news, %{state | link: link}), @idle_ms}
      :other -> {:noreply, state, @idle_ms}
    end
  end

  defp news(:up, state), do: join(%{state | error: nil})

  # A question that was asked goes on without us; whatever else was wanted, was wanted now.
  defp news({:down, error, _lost}, state) do
    kinds = if error.reason == :unauthorized, do: [:call, :ask], else: [:call]
    fail(%{state | phase: :down, error: error}, kinds, error)
  end

  defp news({:errored, _lost}, state) do
    Process.send_after(self(), :rejoin, Backoff.delay(4))
    %{state | phase: :errored}
  end

  defp news(:closed, state), do: fail(%{state | phase: :refused}, [:call, :ask], Error.own(:disconnected))

  defp news({:reply, :join, {:ok, _reply}}, state) do
    state.asks |> Map.keys() |> Enum.reduce(%{state | phase: :joined}, &push(&2, &1))
  end

  defp news({:reply, :join, {:error, error}}, state),
    do: fail(%{state | phase: :refused}, [:call, :ask], error)

  defp news({:reply, {:ask, ref}, result}, state) do
    case {state.asks[ref], result} do
      {nil, _} -> state
      {%{kind: :call}, result} -> answer(state, ref, result)
      {ask, {:ok, reply}} -> asked(state, ref, ask, reply)
      {_ask, error} -> answer(state, ref, error)
    end
  end

  defp news({:event, "turn_finished", %{"turn" => turn} = payload}, state) do
    for {ref, %{turn: ^turn, as: as}} <- state.asks, reduce: state do
      state -> answer(state, ref, Asked.outcome(Map.put(payload, "id", turn), as))
    end
  end

  defp news(_other, state), do: state

  # The same id again finds the question that runs, or its finished turn.
  defp asked(state, ref, ask, %{"turn" => %{"id" => turn, "status" => status} = known}) do
    if status in ~w(queued running),
      do: %{state | asks: %{state.asks | ref => %{ask | turn: turn}}},
      else: answer(state, ref, Asked.outcome(known, ask.as))
  end

  defp asked(state, ref, ask, %{"turn" => turn}),
    do: %{state | asks: %{state.asks | ref => %{ask | turn: turn}}}

  defp asked(state, ref, _ask, reply),
    do: answer(state, ref, {:error, Error.own(:unexpected, details: reply)})

  defp join(state), do: %{state | phase: :joining, link: Link.push(state.link, :join, "phx_join", %{})}

  defp push(%{phase: :joined} = state, ref) do
    %{event: event, payload: payload} = state.asks[ref]
    %{state | link: Link.push(state.link, {:ask, ref}, event, payload)}
  end

  defp push(state, _ref), do: state

  defp answer(state, ref, result) do
    case Map.pop(state.asks, ref) do
      {nil, _} ->
        state

      {ask, asks} ->
        GenServer.reply(ask.from, result)
        %{state | asks: asks}
    end
  end

  defp fail(state, kinds, error) do
    for {ref, %{kind: kind}} <- state.asks, kind in kinds, reduce: state do
      state -> answer(state, ref, {:error, error})
    end
  end
end
