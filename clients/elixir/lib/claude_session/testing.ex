defmodule ClaudeSession.Testing do
  @moduledoc """
  A stand-in bridge for your own tests: no Claude, no network, no waiting.

      defmodule MyApp.ReviewerTest do
        use ExUnit.Case, async: true
        import ClaudeSession.Testing

        test "a review is asked for" do
          bridge = start_supervised!(ClaudeSession.Testing)
          start_supervised!({ClaudeSession, [name: "reviewer", as: :mine] ++ options(bridge)})

          expect_submit(bridge, "reviewer", &(&1 =~ "Please review"), reply_with(["Looks ", "good."]))
          assert {:ok, "Looks good."} = MyApp.Reviewer.review(:mine, "x = 1")
        end
      end

  It is a server on this machine's loopback that speaks the bridge's protocol over WebSockets, so that everything of
  this package is under test as it runs elsewhere: a `disconnect/1` is a connection that breaks. It listens on a
  port of its own; each test may have one, with sessions under names of its own (`:as`).

  Prompts that nothing was expected for are answered with `You said: …`, as the bridge's simulator does.
  """

  use GenServer

  alias ClaudeSession.Testing.{Peer, Script, World}

  @typedoc "What a turn does; `reply_with/2` and the others make it."
  @opaque script :: [Script.step()]

  # --- starting ----------------------------------------------------------------------------------

  @doc """
  Start one, linked; `start_supervised!(ClaudeSession.Testing)` in a test.

      iex> {:ok, bridge} = ClaudeSession.Testing.start_link()
      iex> [url: "http://127.0.0.1:" <> _, token: _] = ClaudeSession.Testing.options(bridge)
  """
  @doc since: "0.1.0"
  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(options \\ []), do: GenServer.start_link(__MODULE__, options)

  @doc """
  The options that lead here, for `ClaudeSession.start_link/2`, `ClaudeSession.ask/2` and the others.

      iex> {:ok, bridge} = ClaudeSession.Testing.start_link()
      iex> ClaudeSession.list_sessions(ClaudeSession.Testing.options(bridge))
      []
  """
  @doc since: "0.1.0"
  @spec options(pid) :: keyword
  def options(bridge), do: GenServer.call(bridge, :options)

  # --- scripts -----------------------------------------------------------------------------------

  @doc """
  The next prompt to this session (or, with a name like `"pool:default"`, to this pool) does what the script says.

  `prompt` says which prompts are meant: a string that it is, a regular expression, a function, or `:any`. Expectations are
  met in their order, each by one prompt; a prompt that the next one does not mean is answered with a turn that failed,
  and `verify!/1` says so.

      iex> import ClaudeSession.Testing
      iex> {:ok, bridge} = start_link()
      iex> expect_submit(bridge, "demo", ~r/weather/, reply_with(["Sunny."]))
      iex> {:ok, pid} = ClaudeSession.start_link("demo", options(bridge))
      iex> ClaudeSession.submit(pid, "How is the weather?")
      {:ok, "Sunny."}
  """
  @doc since: "0.1.0"
  @spec expect_submit(pid, binary, :any | binary | Regex.t() | (binary -> boolean), script) :: :ok
  def expect_submit(bridge, session, prompt \\ :any, script) do
    GenServer.call(bridge, {:expect, session, prompt, script})
  end

  @doc """
  A reply in these pieces. Options: `:thinking`, text thought before; `:status` (`:completed`), how the turn ends.

      iex> import ClaudeSession.Testing
      iex> {:ok, bridge} = start_link()
      iex> expect_submit(bridge, "demo", reply_with(["a", "b"]))
      iex> {:ok, pid} = ClaudeSession.start_link("demo", options(bridge))
      iex> pid |> ClaudeSession.stream("letters") |> Enum.join()
      "ab"
  """
  @doc since: "0.1.0"
  @spec reply_with([binary], keyword) :: script
  def reply_with(chunks, options \\ []), do: Script.reply(chunks, options)

  @doc """
  Claude asks for a permission to run `tool` with `input`; the script goes on when it is answered, with `allowed` or
  `denied`.

      iex> import ClaudeSession.Testing
      iex> {:ok, bridge} = start_link()
      iex> expect_submit(bridge, "demo", open_request("Bash", %{"command" => "ls"}, allowed: reply_with(["Done."])))
      iex> {:ok, pid} = ClaudeSession.start_link("demo", options(bridge))
      iex> {:ok, _} = ClaudeSession.subscribe(pid)
      iex> asking = Task.async(fn -> ClaudeSession.submit(pid, "List them") end)
      iex> receive do
      ...>   {ClaudeSession, "demo", %{name: :request_opened, request: request}} -> ClaudeSession.answer(pid, request, :allow)
      ...> end
      :ok
      iex> Task.await(asking)
      {:ok, "Done."}
  """
  @doc since: "0.1.0"
  @spec open_request(binary, map, allowed: script, denied: script) :: script
  def open_request(tool, input, options \\ []), do: Script.request(tool, input, options)

  @doc """
  The turn stops here and runs until it is interrupted: for tests of `ClaudeSession.interrupt/1` and of time-outs.

      iex> import ClaudeSession.Testing
      iex> {:ok, bridge} = start_link()
      iex> expect_submit(bridge, "demo", hang(["So "]))
      iex> {:ok, pid} = ClaudeSession.start_link("demo", options(bridge))
      iex> {:error, %{reason: :timeout}} = ClaudeSession.submit(pid, "hello", timeout: 50)
      iex> {:ok, turn} = ClaudeSession.interrupt(pid)
      iex> is_binary(turn)
      true
  """
  @doc since: "0.1.0"
  @spec hang([binary]) :: script
  def hang(chunks \\ []), do: Script.hang(chunks)

  @doc """
  The prompt is refused with one of the bridge's codes.

      iex> import ClaudeSession.Testing
      iex> {:ok, bridge} = start_link()
      iex> expect_submit(bridge, "demo", refuse("queue_full", %{"limit" => 1}))
      iex> {:ok, pid} = ClaudeSession.start_link("demo", options(bridge))
      iex> {:error, %{reason: :queue_full, details: %{"limit" => 1}}} = ClaudeSession.submit(pid, "hello")
  """
  @doc since: "0.1.0"
  @spec refuse(binary, map) :: script
  def refuse(code, details \\ %{}), do: Script.refuse(code, details)

  # --- disturbing --------------------------------------------------------------------------------

  @doc """
  Break every connection, as a network does. Sessions and turns go on, and clients come back. With `epoch: :new` the
  bridge was restarted, and tells them a snapshot.

      iex> import ClaudeSession.Testing
      iex> {:ok, bridge} = start_link()
      iex> {:ok, pid} = ClaudeSession.start_link("demo", options(bridge))
      iex> {:ok, _} = ClaudeSession.submit(pid, "hello")
      iex> disconnect(bridge)
      iex> ClaudeSession.submit(pid, "again")
      {:ok, "You said: again"}
  """
  @doc since: "0.1.0"
  @spec disconnect(pid, keyword) :: :ok
  def disconnect(bridge, options \\ []), do: GenServer.call(bridge, {:disconnect, options[:epoch] == :new})

  @doc """
  The prompts that a session was given, in their order.

      iex> import ClaudeSession.Testing
      iex> {:ok, bridge} = start_link()
      iex> {:ok, pid} = ClaudeSession.start_link("demo", options(bridge))
      iex> {:ok, _} = ClaudeSession.submit(pid, "hello")
      iex> prompts(bridge, "demo")
      ["hello"]
  """
  @doc since: "0.1.0"
  @spec prompts(pid, binary) :: [binary]
  def prompts(bridge, session), do: GenServer.call(bridge, {:prompts, session})

  @doc """
  Raise where something that was expected has not come, or something came that was not.

      iex> import ClaudeSession.Testing
      iex> {:ok, bridge} = start_link()
      iex> expect_submit(bridge, "demo", reply_with(["never"]))
      iex> verify!(bridge)
      ** (RuntimeError) expected of a session "demo", and not submitted: a prompt for :any
  """
  @doc since: "0.1.0"
  @spec verify!(pid) :: :ok
  def verify!(bridge) do
    case GenServer.call(bridge, :wrong) do
      [] -> :ok
      wrong -> raise Enum.join(wrong, "\n")
    end
  end

  # --- the server --------------------------------------------------------------------------------

  @impl true
  def init(_options) do
    Process.flag(:trap_exit, true)
    loopback = {127, 0, 0, 1}
    {:ok, listener} = :gen_tcp.listen(0, [:binary, active: false, ip: loopback, nodelay: true, backlog: 1024])
    {:ok, port} = :inet.port(listener)
    bridge = self()
    token = Base.url_encode64(:crypto.strong_rand_bytes(12))
    spawn_link(fn -> Peer.accept(listener, bridge, token) end)
    {:ok, %{listener: listener, port: port, token: token, peers: %{}, world: World.new()}}
  end

  @impl true
  def handle_call(:options, _from, state) do
    {:reply, [url: "http://127.0.0.1:#{state.port}", token: state.token], state}
  end

  def handle_call({:expect, session, prompt, script}, _from, state) do
    {:reply, :ok, %{state | world: World.expect(state.world, session, prompt, script)}}
  end

  def handle_call({:prompts, session}, _from, state), do: {:reply, World.prompts(state.world, session), state}
  def handle_call(:wrong, _from, state), do: {:reply, World.wrong(state.world), state}

  def handle_call({:disconnect, restarted?}, _from, state) do
    for {peer, _} <- state.peers, do: Peer.cut(peer)
    world = if restarted?, do: World.restarted(state.world), else: state.world
    {:reply, :ok, %{state | peers: %{}, world: World.left(world, Map.keys(state.peers))}}
  end

  # From a peer: what its client says. The answers are sent before the next message is looked at, in order.
  def handle_call({:message, message}, {peer, _}, state) when is_map_key(state.peers, peer) do
    {out, world} = World.message(state.world, peer, message)
    for {to, frame} <- out, is_map_key(state.peers, to), do: Peer.say(to, frame)
    {:reply, :ok, %{state | world: world}}
  end

  def handle_call({:message, _message}, _from, state), do: {:reply, :ok, state}

  def handle_call(:hello, {peer, _}, state) do
    {:reply, :ok, %{state | peers: Map.put(state.peers, peer, Process.monitor(peer))}}
  end

  @impl true
  def handle_info({:DOWN, _monitor, :process, peer, _reason}, state) do
    {:noreply, %{state | peers: Map.delete(state.peers, peer), world: World.left(state.world, [peer])}}
  end

  def handle_info(_exit, state), do: {:noreply, state}
end
