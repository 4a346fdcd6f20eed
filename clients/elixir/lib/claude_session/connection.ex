defmodule ClaudeSession.Connection do
  @moduledoc false
  # One socket to one bridge, shared by all topics of this VM that are there. It connects, comes back, keeps alive, and
  # carries frames; what a topic's cursor is, and what to say again, its owner knows.
  #
  # An owner is a process with one topic. It is sent `{ClaudeSession.Connection, ref, what}`, `ref` being `attach`'s:
  #
  #     {:up, generation}              join now; what is pushed names this generation
  #     {:down, error}                 nothing that was pushed and not answered will be answered
  #     {:reply, tag, :ok | :error, response}
  #     {:event, event, payload}       payload `{:binary, data}` for bytes
  #     :closed                        `phx_close` that nobody asked for: the topic is gone
  #     :errored                       `phx_error`: join again
  #
  # Owners never wait for it, and it never waits for them: all of it is messages, but for `attach`.

  use GenServer, restart: :temporary

  alias ClaudeSession.{Backoff, Error, Socket, Target, Telemetry, Wire}

  require Logger

  # The bridge closes a socket that says nothing for 60 s.
  @heartbeat_ms 30_000
  @connect_ms 10_000
  # How long a socket that nobody uses stays: long enough for a session that is started again at once.
  @linger_ms 5_000
  # It answers at once, but for a peer that takes nothing, which is given up sooner than this.
  @attach_ms 30_000
  # A bridge that refuses the token may be given another; that is a person's doing.
  @refused_ms 5_000

  defstruct target: nil,
            heartbeat_ms: @heartbeat_ms,
            socket: nil,
            connecting: nil,
            generation: 0,
            attempts: 0,
            since: nil,
            refs: 0,
            beat: nil,
            owners: %{},
            topics: %{},
            waiting: %{},
            error: nil,
            idle: nil

  # --- for owners --------------------------------------------------------------------------------

  @doc """
  Become the owner of a topic, on this bridge's connection, which is started where there is none yet. Returns the
  connection, to be monitored, and the reference that its messages carry.
  """
  @spec attach(Target.t(), binary, keyword) :: {:ok, pid, reference}
  def attach(target, topic, options \\ []), do: attach(target, topic, options, 0)

  # A topic has one owner on a socket, because to join it again is to replace the first join. So a second owner
  # in this VM (a session that was started under two names) has a socket of its own.
  defp attach(target, topic, options, number) do
    conn = ensure(target, options, number)

    case GenServer.call(conn, {:attach, topic}, @attach_ms) do
      {:ok, ref} -> {:ok, conn, ref}
      :taken -> attach(target, topic, options, number + 1)
    end
  catch
    # It ended while it was asked, as for want of owners.
    :exit, {reason, _} when reason in [:noproc, :normal, :shutdown] ->
      attach(target, topic, options, number)
  end

  defp ensure(target, options, number) do
    digest = :crypto.hash(:sha256, :erlang.term_to_binary({target, options}))
    name = {:via, Registry, {ClaudeSession.Registry, {:connection, digest, number}}}

    with nil <- GenServer.whereis(name) do
      case DynamicSupervisor.start_child(ClaudeSession.Shared, {__MODULE__, {target, options, name}}) do
        {:ok, pid} -> pid
        {:error, {:already_started, pid}} -> pid
      end
    end
  end

  @doc "Push; `payload` is JSON. The reply carries `tag`. A push of another generation is dropped."
  @spec push(pid, reference, pos_integer, term, binary, binary) :: :ok
  def push(conn, ref, generation, tag, event, payload) do
    GenServer.cast(conn, {:push, ref, generation, tag, event, payload})
  end

  @doc "Push bytes."
  @spec push_binary(pid, reference, pos_integer, term, binary, binary) :: :ok
  def push_binary(conn, ref, generation, tag, event, data) do
    GenServer.cast(conn, {:push, ref, generation, tag, event, {:binary, data}})
  end

  @doc "Leave the topic; nothing more of it is told."
  @spec detach(pid, reference) :: :ok
  def detach(conn, ref), do: GenServer.cast(conn, {:detach, ref})

  # --- its life ----------------------------------------------------------------------------------

  @doc false
  def start_link({target, options, name}), do: GenServer.start_link(__MODULE__, {target, options}, name: name)

  @impl true
  def init({target, options}) do
    Process.flag(:trap_exit, true)
    state = %__MODULE__{target: target, heartbeat_ms: options[:heartbeat_ms] || @heartbeat_ms}
    {:ok, linger(state), {:continue, :connect}}
  end

  @impl true
  def handle_continue(:connect, state), do: {:noreply, connect(state)}

  @impl true
  def handle_call({:attach, topic}, _from, state) when is_map_key(state.topics, topic) do
    {:reply, :taken, state}
  end

  def handle_call({:attach, topic}, {pid, _}, state) do
    ref = make_ref()
    owner = %{pid: pid, ref: ref, topic: topic, monitor: Process.monitor(pid), join_ref: nil}
    state = put_owner(%{state | idle: nil}, owner)

    cond do
      state.socket -> tell(owner, {:up, state.generation})
      state.error -> tell(owner, {:down, state.error})
      true -> :ok
    end

    {:reply, {:ok, ref}, state}
  end

  @impl true
  def handle_cast({:push, ref, generation, tag, event, payload}, %{generation: generation} = state)
      when state.socket != nil do
    case state.owners do
      %{^ref => owner} -> {:noreply, push(state, owner, tag, event, payload)}
      _ -> {:noreply, state}
    end
  end

  def handle_cast({:push, _, _, _, _, _}, state), do: {:noreply, state}

  def handle_cast({:detach, ref}, state) do
    case state.owners do
      %{^ref => owner} ->
        Process.demonitor(owner.monitor, [:flush])
        {:noreply, drop_owner(state, owner)}

      _ ->
        {:noreply, state}
    end
  end

  @impl true
  def handle_info({:connected, pid, result}, %{connecting: {pid, monitor}} = state) do
    Process.demonitor(monitor, [:flush])
    state = %{state | connecting: nil}

    case result do
      {:ok, socket} -> opened(state, socket)
      {:error, reason} -> {:noreply, failed(state, reason)}
    end
  end

  def handle_info({:DOWN, monitor, :process, pid, reason}, %{connecting: {pid, monitor}} = state) do
    {:noreply, failed(%{state | connecting: nil}, reason)}
  end

  def handle_info({:DOWN, monitor, :process, _pid, _reason}, state) do
    case Enum.find(state.owners, fn {_ref, owner} -> owner.monitor == monitor end) do
      {_ref, owner} -> {:noreply, drop_owner(state, owner)}
      nil -> {:noreply, state}
    end
  end

  def handle_info({:retry, generation}, %{generation: generation, socket: nil, connecting: nil} = state) do
    {:noreply, connect(state)}
  end

  def handle_info({:beat, generation}, %{generation: generation} = state) when state.socket != nil do
    if state.beat do
      {:noreply, lost(state, :heartbeat_unanswered)}
    else
      beat_later(state)
      ref = Integer.to_string(state.refs + 1)
      frame = Wire.encode(nil, ref, "phoenix", "heartbeat", "{}")
      {:noreply, write(%{state | refs: state.refs + 1, beat: ref}, {:text, IO.iodata_to_binary(frame)})}
    end
  end

  def handle_info({:linger, idle}, %{idle: idle} = state), do: {:stop, :normal, state}

  def handle_info(message, %{socket: socket} = state) when socket != nil do
    case Socket.read(socket, message) do
      {:ok, messages, socket} ->
        state = Enum.reduce(messages, %{state | socket: socket}, &take/2)
        if state.socket, do: Socket.next(state.socket)
        {:noreply, state}

      {:broken, code, messages} ->
        state = Enum.reduce(messages, state, &take/2)
        if state.socket, do: Socket.send(state.socket, {:close, code, ""})
        {:noreply, lost(state, {:broken, code})}

      {:closed, reason} ->
        {:noreply, lost(state, reason)}

      :other ->
        {:noreply, state}
    end
  end

  # Timers and links of what is no more.
  def handle_info(_message, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, %{socket: socket}) when socket != nil do
    Socket.send(socket, {:close, 1000, ""})
    Socket.close(socket)
  end

  def terminate(_reason, _state), do: :ok

  # The token is in it.
  @impl true
  def format_status(_reason, [_dictionary, state]),
    do: Map.take(state, [:target, :generation, :attempts, :error])

  # --- the socket --------------------------------------------------------------------------------

  # Elsewhere, so that a bridge that does not answer keeps nobody waiting here.
  defp connect(state) do
    %{target: target} = state
    parent = self()

    connecting =
      spawn_monitor(fn ->
        result = Socket.connect(target, @connect_ms)
        with {:ok, socket} <- result, do: Socket.give(socket, parent)
        send(parent, {:connected, self(), result})
      end)

    %{state | connecting: connecting, since: System.monotonic_time()}
  end

  defp opened(state, socket) do
    state = %{state | socket: socket, generation: state.generation + 1, error: nil, beat: nil}

    Telemetry.execute(
      [:connection, :open],
      %{duration: System.monotonic_time() - state.since, attempts: state.attempts},
      place(state)
    )

    beat_later(state)
    Socket.next(socket)
    for {_, owner} <- state.owners, do: tell(owner, {:up, state.generation})
    {:noreply, %{state | since: System.monotonic_time()}}
  end

  defp failed(state, reason) do
    error = error(reason)
    if state.error != error, do: for({_, owner} <- state.owners, do: tell(owner, {:down, error}))
    Logger.debug("claude_session: no connection to #{Target.authority(state.target)}: #{inspect(reason)}")
    retry(%{state | error: error}, reason)
  end

  defp lost(%{socket: nil} = state, _reason), do: state

  defp lost(state, reason) do
    Socket.close(state.socket)
    duration = System.monotonic_time() - state.since
    Telemetry.execute([:connection, :close], %{duration: duration}, Map.put(place(state), :reason, reason))
    Logger.debug("claude_session: connection to #{Target.authority(state.target)} lost: #{inspect(reason)}")
    error = error(reason)
    for {_, owner} <- state.owners, do: tell(owner, {:down, error})
    owners = Map.new(state.owners, fn {ref, owner} -> {ref, %{owner | join_ref: nil}} end)

    retry(%{state | socket: nil, owners: owners, waiting: %{}, beat: nil, error: error}, reason)
  end

  defp retry(state, reason) do
    delay = if match?({:refused, _}, reason), do: @refused_ms, else: Backoff.delay(state.attempts)
    # A timer of an earlier connection must not find this one.
    state = %{state | attempts: state.attempts + 1, generation: state.generation + 1}
    Process.send_after(self(), {:retry, state.generation}, delay)
    state
  end

  defp error({:refused, status}) when status in [401, 403] do
    %Error{
      reason: :unauthorized,
      message: "The bridge does not take this token.",
      details: %{"status" => status}
    }
  end

  defp error(reason),
    do: Error.own(:disconnected, details: %{"cause" => inspect(reason, limit: 20, printable_limit: 200)})

  defp beat_later(state), do: Process.send_after(self(), {:beat, state.generation}, state.heartbeat_ms)

  defp write(state, message) do
    case Socket.send(state.socket, message) do
      :ok -> state
      {:error, reason} -> lost(state, reason)
    end
  end

  # --- what comes --------------------------------------------------------------------------------

  defp take(_message, %{socket: nil} = state), do: state
  defp take({:ping, data}, state), do: write(state, {:pong, data})
  defp take({:pong, _data}, state), do: state

  defp take({:close, code, _reason}, state) do
    Socket.send(state.socket, {:close, code, ""})
    lost(state, {:closed, code})
  end

  defp take({kind, data}, state) when kind in [:text, :binary] do
    case Wire.decode(kind, data) do
      {:ok, message} ->
        message(message, state)

      {:error, _reason} ->
        Socket.send(state.socket, {:close, 1007, ""})
        lost(state, :malformed)
    end
  end

  defp message({_join_ref, ref, "phoenix", "phx_reply", _payload}, %{beat: ref} = state) do
    %{state | beat: nil, attempts: 0}
  end

  defp message({_join_ref, ref, _topic, "phx_reply", payload}, state) when ref != nil do
    case Map.pop(state.waiting, ref) do
      {nil, _} ->
        state

      {{owner_ref, tag}, waiting} ->
        owner = state.owners[owner_ref]
        status = if payload["status"] == "ok", do: :ok, else: :error
        if owner, do: tell(owner, {:reply, tag, status, payload["response"]})
        # Who is answered has a connection that works.
        %{state | waiting: waiting, attempts: 0}
    end
  end

  defp message({join_ref, _ref, topic, event, payload}, state) do
    with %{^topic => ref} <- state.topics, %{^ref => owner} <- state.owners do
      told(state, owner, join_ref, event, payload)
    else
      _ -> state
    end
  end

  # Of an earlier join, or to nobody who is joined.
  defp told(state, %{join_ref: nil}, _join_ref, _event, _payload), do: state

  defp told(state, %{join_ref: own}, join_ref, _event, _payload) when join_ref != nil and join_ref != own,
    do: state

  defp told(state, owner, _join_ref, "phx_close", _payload), do: unjoined(state, owner, :closed)
  defp told(state, owner, _join_ref, "phx_error", _payload), do: unjoined(state, owner, :errored)

  defp told(state, owner, _join_ref, event, payload) do
    tell(owner, {:event, event, payload})
    state
  end

  defp unjoined(state, owner, what) do
    tell(owner, what)
    forget_waiting(put_owner(state, %{owner | join_ref: nil}), owner.ref)
  end

  # --- what goes ---------------------------------------------------------------------------------

  defp push(state, owner, tag, event, payload) do
    ref = Integer.to_string(state.refs + 1)
    owner = if event == "phx_join", do: %{owner | join_ref: ref}, else: owner
    waiting = Map.put(state.waiting, ref, {owner.ref, tag})
    state = put_owner(%{state | refs: state.refs + 1, waiting: waiting}, owner)
    write(state, frame(owner, ref, event, payload))
  end

  defp frame(owner, ref, event, {:binary, data}) do
    {:binary, IO.iodata_to_binary(Wire.encode_binary(owner.join_ref || "", ref, owner.topic, event, data))}
  end

  defp frame(owner, ref, event, payload) do
    {:text, IO.iodata_to_binary(Wire.encode(owner.join_ref, ref, owner.topic, event, payload))}
  end

  # --- owners ------------------------------------------------------------------------------------

  defp put_owner(state, owner) do
    %{
      state
      | owners: Map.put(state.owners, owner.ref, owner),
        topics: Map.put(state.topics, owner.topic, owner.ref)
    }
  end

  defp drop_owner(state, owner) do
    owner = state.owners[owner.ref] || owner

    state =
      if state.socket && owner.join_ref do
        ref = Integer.to_string(state.refs + 1)
        frame = Wire.encode(owner.join_ref, ref, owner.topic, "phx_leave", "{}")
        write(%{state | refs: state.refs + 1}, {:text, IO.iodata_to_binary(frame)})
      else
        state
      end

    state = %{
      state
      | owners: Map.delete(state.owners, owner.ref),
        topics: Map.delete(state.topics, owner.topic)
    }

    linger(forget_waiting(state, owner.ref))
  end

  defp forget_waiting(state, owner_ref) do
    %{state | waiting: Map.reject(state.waiting, fn {_, {ref, _}} -> ref == owner_ref end)}
  end

  defp linger(%{owners: owners} = state) when owners == %{} do
    idle = make_ref()
    Process.send_after(self(), {:linger, idle}, @linger_ms)
    %{state | idle: idle}
  end

  defp linger(state), do: state

  defp tell(owner, what), do: send(owner.pid, {__MODULE__, owner.ref, what})
  defp place(state), do: %{host: state.target.host, port: state.target.port}
end
