defmodule ClaudeSession.TestingTest do
  @moduledoc "The stand-in by its own examples, and the client by it: what a real bridge does too seldom to wait for."
  use ExUnit.Case, async: false

  import ClaudeSession.Testing

  alias ClaudeSession.{Cutter, Error, Event, Turn}

  doctest ClaudeSession.Testing
  doctest ClaudeSession.Supervisor
  doctest ClaudeSession, except: [local_sessions: 0]

  # Sessions that an example was linked to end a moment after it.
  setup do
    for name <- ClaudeSession.local_sessions(),
        {pid, _} <- Registry.lookup(ClaudeSession.Registry, {:session, name}) do
      monitor = Process.monitor(pid)
      assert_receive {:DOWN, ^monitor, _, _, _}
    end

    bridge = start_supervised!(ClaudeSession.Testing)
    [bridge: bridge, options: options(bridge)]
  end

  defp session(options, name \\ "demo", more \\ []) do
    start_supervised!({ClaudeSession, [name: name, as: make_ref()] ++ more ++ options}, id: make_ref())
  end

  test "a connection that breaks in the middle of a turn loses nothing", %{bridge: bridge, options: options} do
    pid = session(options)
    expect_submit(bridge, "demo", open_request("Bash", %{}, allowed: reply_with(["a", "b"])))
    {:ok, _} = ClaudeSession.subscribe(pid)
    task = Task.async(fn -> pid |> ClaudeSession.stream("x", as: :events) |> Enum.map(& &1.name) end)
    assert_receive {ClaudeSession, _, %Event{name: :request_opened, request: request}}
    disconnect(bridge)
    assert_receive {ClaudeSession, _, %Event{name: :disconnected}}
    assert_receive {ClaudeSession, _, %Event{name: :connected}}
    assert :ok = ClaudeSession.answer(pid, request, :allow)

    assert Task.await(task) ==
             [
               :turn_queued,
               :turn_started,
               :request_opened,
               :request_closed,
               :delta,
               :delta,
               :block,
               :turn_finished
             ]
  end

  test "a connection that breaks between a prompt's reply and its first event loses nothing",
       %{bridge: bridge, options: options} do
    cutter = Cutter.start(options[:url], [0, 0, 1_000])
    pid = session(url: cutter.url, token: options[:token])
    expect_submit(bridge, "demo", open_request("Bash", %{}, allowed: reply_with(["a", "b"])))
    {:ok, _} = ClaudeSession.subscribe(pid)
    stream = Task.async(fn -> pid |> ClaudeSession.stream("x", id: "k") |> Enum.join() end)
    submit = Task.async(fn -> ClaudeSession.submit(pid, "x", id: "k") end)
    assert_receive {ClaudeSession, _, %Event{name: :request_opened, request: request}}
    # What was asked before is answered by now, whatever it was.
    assert {:ok, []} = ClaudeSession.history(pid)
    assert :ok = ClaudeSession.answer(pid, request, :allow)
    assert {Task.await(stream), Task.await(submit)} == {"ab", {:ok, "ab"}}
    assert Cutter.cuts(cutter) == 2
  end

  test "a bridge that was restarted tells a snapshot, and the turn goes on", %{
    bridge: bridge,
    options: options
  } do
    pid = session(options)

    expect_submit(
      bridge,
      "demo",
      [{:say, :text, ["a "]}] ++ open_request("Bash", %{}, allowed: reply_with(["b"]))
    )

    {:ok, _} = ClaudeSession.subscribe(pid)
    task = Task.async(fn -> pid |> ClaudeSession.stream("x") |> Enum.join() end)
    assert_receive {ClaudeSession, _, %Event{name: :request_opened, request: request}}
    submitted = Task.async(fn -> ClaudeSession.submit(pid, "y") end)
    disconnect(bridge, epoch: :new)

    assert_receive {ClaudeSession, _,
                    %Event{name: :snapshot, snapshot: %{open_turn: %Turn{text: "a "}, requests: [^request]}}}

    assert :ok = ClaudeSession.answer(pid, request, :allow)
    assert Task.await(task) == "a b"
    assert {:ok, "You said: y"} = Task.await(submitted)
  end

  test "many turns at once, each with its own text", %{options: options} do
    pid = session(options)

    texts =
      1..200
      |> Task.async_stream(&{&1, ClaudeSession.submit(pid, "p#{&1}")}, max_concurrency: 200)
      |> Enum.to_list()

    for {:ok, {n, answer}} <- texts, do: assert(answer == {:ok, "You said: p#{n}"})
  end

  test "one socket for a thousand sessions", %{bridge: bridge, options: options} do
    pids = for n <- 1..1_000, do: session(options, "s#{n}")

    answers =
      pids
      |> Task.async_stream(&ClaudeSession.submit(&1, "hello"), max_concurrency: 100, timeout: 60_000)
      |> Enum.uniq()

    assert answers == [ok: {:ok, "You said: hello"}]
    assert map_size(:sys.get_state(bridge).peers) == 1
    disconnect(bridge)
    assert {:ok, "You said: again"} = ClaudeSession.submit(hd(pids), "again")
    assert map_size(:sys.get_state(bridge).peers) == 1
  end

  @tag timeout: 300_000
  test "a slow reader holds no more than its bound, and has the whole text", %{
    bridge: bridge,
    options: options
  } do
    pid = session(options)
    chunks = for n <- 1..100_000, do: "w#{n} "
    expect_submit(bridge, "demo", reply_with(chunks))

    told =
      pid
      |> ClaudeSession.stream("x", max_buffer: 500)
      |> Stream.with_index()
      |> Enum.map(fn {chunk, n} ->
        # It takes one, and no more before the turn is over.
        if n == 0 do
          await_end(pid)
          for {_, asked} <- :sys.get_state(pid).asked, do: assert(asked.count <= 500)
        end

        chunk
      end)

    assert Enum.join(told) == Enum.join(chunks)
    # What it was first given, and what waited at the end.
    assert length(told) <= 1_000
  end

  # It subscribes as well, and reads its mailbox: a subscriber that lags is told a snapshot.
  defp await_end(pid) do
    {:ok, now} = ClaudeSession.subscribe(pid)
    if now.open_turn, do: drain()
    :ok = ClaudeSession.unsubscribe(pid)
  end

  defp drain do
    receive do
      {ClaudeSession, _, %Event{name: :turn_finished}} -> :ok
      {ClaudeSession, _, %Event{name: :snapshot, snapshot: %{open_turn: nil}}} -> :ok
      {ClaudeSession, _, _} -> drain()
    end
  end

  test "a subscriber that does not read is sent no more than a bound, and then how things are",
       %{bridge: bridge, options: options} do
    pid = session(options)
    expect_submit(bridge, "demo", reply_with(for n <- 1..20_000, do: "w#{n} "))
    {:ok, _} = ClaudeSession.subscribe(pid)
    {:ok, _} = ClaudeSession.submit(pid, "x")
    {:message_queue_len, waiting} = Process.info(self(), :message_queue_len)
    assert waiting < 6_000
    assert :ok = drain()
  end

  test "a reader that dies leaves nothing behind, and its turn is interrupted", %{
    bridge: bridge,
    options: options
  } do
    pid = session(options)
    expect_submit(bridge, "demo", hang(["a"]))
    {:ok, _} = ClaudeSession.subscribe(pid)
    reader = spawn(fn -> pid |> ClaudeSession.stream("x") |> Enum.each(fn "a" -> exit(:boom) end) end)
    monitor = Process.monitor(reader)
    assert_receive {:DOWN, ^monitor, _, _, _}
    assert_receive {ClaudeSession, _, %Event{name: :turn_finished, status: :interrupted}}
    assert %{asked: asked, turns: turns} = :sys.get_state(pid)
    assert {asked, turns} == {%{}, %{}}
  end

  test "a turn that failed is raised after its text, and is an event where events are asked for",
       %{bridge: bridge, options: options} do
    pid = session(options)
    for _ <- 1..2, do: expect_submit(bridge, "demo", reply_with(["half"], status: :failed))
    me = self()

    assert_raise Error, ~r/It was to fail/, fn ->
      pid |> ClaudeSession.stream("x") |> Enum.each(&send(me, {:chunk, &1}))
    end

    assert_received {:chunk, "half"}
    assert %Event{status: :failed} = pid |> ClaudeSession.stream("x", as: :events) |> Enum.at(-1)
  end

  test "what times out is not heard of again", %{bridge: bridge, options: options} do
    pid = session(options)
    expect_submit(bridge, "demo", open_request("Bash", %{}, allowed: reply_with(["late"])))
    {:ok, _} = ClaudeSession.subscribe(pid)

    assert {:error, %Error{reason: :timeout, details: %{"turn" => _}}} =
             ClaudeSession.submit(pid, "x", timeout: 100, id: "k")

    assert_receive {ClaudeSession, _, %Event{name: :request_opened, request: request}}
    next = Task.async(fn -> ClaudeSession.submit(pid, "y") end)
    :ok = ClaudeSession.answer(pid, request, :allow)
    assert Task.await(next) == {:ok, "You said: y"}
    assert ClaudeSession.submit(pid, "x", id: "k") == {:ok, "late"}
    assert Enum.reject(elem(Process.info(self(), :messages), 1), &match?({ClaudeSession, _, _}, &1)) == []
  end

  test "a pool answers each its own", %{bridge: bridge, options: options} do
    expect_submit(bridge, "pool:default", "first", reply_with(["one"]))
    assert {:ok, "one"} = ClaudeSession.ask("first", options)

    answers =
      1..50
      |> Task.async_stream(&{&1, ClaudeSession.ask("q#{&1}", options)}, max_concurrency: 50)
      |> Enum.to_list()

    for {:ok, {n, answer}} <- answers, do: assert(answer == {:ok, "You said: q#{n}"})
    assert {:ok, %Turn{status: :completed}} = ClaudeSession.ask("whole", [as: :turn] ++ options)
    for _ <- 1..2, do: assert({:ok, "You said: once"} = ClaudeSession.ask("once", [id: "k"] ++ options))
    assert Enum.count(prompts(bridge, "pool:default"), &(&1 == "once")) == 1
    verify!(bridge)
  end

  test "files that go with a prompt", %{bridge: bridge, options: options} do
    pid = session(options)
    file = %{name: "a.txt", media_type: "text/plain", data: "drei"}
    expect_submit(bridge, "demo", "", reply_with(["Three."]))

    assert {:ok, %Turn{text: "Three.", attachments: [%{"name" => "a.txt", "size" => 4}]}} =
             ClaudeSession.submit(pid, "", attachments: [file], as: :turn)

    assert {:error, %Error{reason: :prompt_empty}} = ClaudeSession.submit(pid, "")
  end

  test "an unexpected prompt fails, and is said", %{bridge: bridge, options: options} do
    pid = session(options)
    expect_submit(bridge, "demo", "wanted", reply_with(["x"]))
    assert {:error, %Error{reason: :failed}} = ClaudeSession.submit(pid, "other")
    assert_raise RuntimeError, ~r/"other" came/, fn -> verify!(bridge) end
  end

  test "stopped, and started again; deleted, and gone", %{options: options} do
    {:ok, pid} = ClaudeSession.start_link("demo", options)
    assert {:ok, _} = ClaudeSession.submit(pid, "a")
    assert :ok = ClaudeSession.stop("demo")
    refute Process.alive?(pid)
    {:ok, pid} = ClaudeSession.start_link("demo", options)
    assert {:ok, _} = ClaudeSession.submit(pid, "b")
    assert ["demo"] = ClaudeSession.list_sessions(options)
    Process.unlink(pid)
    monitor = Process.monitor(pid)
    assert :ok = ClaudeSession.delete("demo", options)
    assert_receive {:DOWN, ^monitor, _, _, {:shutdown, :session_deleted}}
    assert {:error, %Error{reason: :not_started}} = ClaudeSession.submit("demo", "c")
  end

  test "sessions under a supervisor, and more of them", %{options: options} do
    name = :"supervisor#{System.unique_integer([:positive])}"
    sessions = ["one", [name: "two", as: {:second, 2}]]
    start_supervised!({ClaudeSession.Supervisor, [name: name, sessions: sessions] ++ options})
    assert {:ok, _} = ClaudeSession.submit("one", "a")
    assert {:ok, _} = ClaudeSession.submit({:second, 2}, "a")
    assert {:ok, pid} = ClaudeSession.Supervisor.start_session(name, "three", options)
    assert ["one", "three", {:second, 2}] -- ClaudeSession.local_sessions() == []
    # A crash is survived: the conversation is elsewhere.
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^monitor, _, _, _}

    wait_until(fn ->
      match?({:ok, [_]}, ClaudeSession.history("three")) or match?({:ok, []}, ClaudeSession.history("three"))
    end)

    assert :ok = ClaudeSession.stop("three")
    assert {:ok, _} = ClaudeSession.Supervisor.start_session(name, "three", options)
  end

  test "no bridge is a state, and no crash; it is found when it comes", %{options: options} do
    {:ok, listener} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, port} = :inet.port(listener)
    :gen_tcp.close(listener)
    away = [url: "http://127.0.0.1:#{port}", token: options[:token]]
    pid = session(away)
    assert {:error, %Error{reason: :timeout}} = ClaudeSession.submit(pid, "x", timeout: 100)
    assert {:error, %Error{reason: reason}} = ClaudeSession.fetch_sessions(away)
    assert reason in [:disconnected, :timeout]
    assert Process.alive?(pid)
  end

  test "a bridge that answers no heartbeat is left", %{options: _options} do
    {:ok, listener} = :gen_tcp.listen(0, [:binary, ip: {127, 0, 0, 1}, packet: :http_bin, active: false])
    {:ok, port} = :inet.port(listener)
    pid = session([url: "http://127.0.0.1:#{port}", token: "t"], "demo", heartbeat_ms: 50)

    for _ <- 1..2 do
      {:ok, socket} = :gen_tcp.accept(listener, 10_000)
      mute(socket, nil)
      # It says its join and one heartbeat, and then closes what does not answer.
      assert closed?(socket)
    end

    assert Process.alive?(pid)
  end

  defp mute(socket, key) do
    case :gen_tcp.recv(socket, 0, 5_000) do
      {:ok, {:http_header, _, name, _, value}} ->
        mute(socket, if(String.downcase(to_string(name)) == "sec-websocket-key", do: value, else: key))

      {:ok, :http_eoh} ->
        head = "HTTP/1.1 101 S\r\nupgrade: websocket\r\nsec-websocket-accept: "
        :gen_tcp.send(socket, [head, ClaudeSession.Frame.accept(key), "\r\n\r\n"])
        :inet.setopts(socket, packet: :raw)

      {:ok, _} ->
        mute(socket, key)
    end
  end

  defp closed?(socket) do
    case :gen_tcp.recv(socket, 0, 5_000) do
      {:ok, _} -> closed?(socket)
      {:error, reason} -> reason == :closed
    end
  end

  defp wait_until(done?, tries \\ 500) do
    cond do
      done?.() ->
        :ok

      tries == 0 ->
        flunk("it did not come about")

      true ->
        receive do
        after
          10 -> wait_until(done?, tries - 1)
        end
    end
  end
end
