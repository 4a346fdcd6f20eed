defmodule ClaudeSession.BridgeTest do
  @moduledoc "A real bridge, with the real CLI on the simulator, headless and in the terminal."
  use ExUnit.Case, async: false

  alias ClaudeSession.{Cutter, Error, Event, TestBridge, Turn}

  @moduletag :bridge
  @moduletag timeout: 120_000

  setup_all do
    bridge = start_supervised!({TestBridge, shutdown: 60_000})
    [bridge: bridge, options: TestBridge.options(bridge)]
  end

  # A CLI takes its time to start, so tests that leave a session as they found it share one.
  setup context do
    if context[:shared] do
      start_supervised!({ClaudeSession, [name: "shared"] ++ context.options})
      [name: "shared"]
    else
      name = "t#{System.unique_integer([:positive])}"
      on_exit(fn -> ClaudeSession.delete(name, context.options) end)
      [name: name]
    end
  end

  defp sim(prompt, directive), do: "#{prompt} [[sim #{ClaudeSession.JSON.encode!(directive)}]]"
  defp words(n), do: Enum.map_join(0..(n - 1), &if(rem(&1, 10) == 9, do: "w#{&1} \n", else: "w#{&1} "))

  test "the three calls of the original design", %{options: options, name: name} do
    {:ok, pid} = ClaudeSession.start_link(name, options)
    assert {:ok, "You said: What is consciousness?"} = ClaudeSession.submit(name, "What is consciousness?")
    assert name in ClaudeSession.list_sessions(options)
    assert {:error, {:already_started, ^pid}} = ClaudeSession.start_link(name, options)
  end

  for backend <- [:headless, :tmux] do
    test "a #{backend} session: submit, stream, history, status", %{options: options, name: name} do
      start_supervised!({ClaudeSession, [name: name, backend: unquote(backend)] ++ options})
      prompt = sim("count", %{words: 25, gap_ms: 2})

      assert name |> ClaudeSession.stream(prompt) |> Enum.join() |> String.trim_trailing() ==
               String.trim_trailing(words(25))

      assert {:ok, %Turn{status: :completed, text: text, source: :client}} =
               ClaudeSession.submit(name, prompt, as: :turn)

      assert text == String.trim_trailing(words(25))
      assert {:ok, [_, %Turn{text: ^text}]} = ClaudeSession.history(name)
      assert {:ok, %{backend: unquote(backend), name: ^name, state: :idle}} = ClaudeSession.status(name)

      if unquote(backend) == :tmux do
        {:ok, terminal} = ClaudeSession.Terminal.start_link(name, options)
        assert_receive {ClaudeSession.Terminal, ^name, {:screen, %{screen: screen}}}
        assert screen =~ "w24"
        :ok = ClaudeSession.Terminal.input(terminal, "typed")
        assert_receive {ClaudeSession.Terminal, ^name, {:output, bytes}} when is_binary(bytes)
        :ok = ClaudeSession.Terminal.input(terminal, String.duplicate("\b", 5))
        GenServer.stop(terminal)
      end
    end
  end

  @tag :shared
  test "events of a turn, in order, to a stream and to a subscriber", %{name: name} do
    {:ok, _now} = ClaudeSession.subscribe(name)

    events =
      name |> ClaudeSession.stream(sim("think", %{words: 5, thinking: "hm"}), as: :events) |> Enum.to_list()

    assert [%Event{name: :turn_queued}, %Event{name: :turn_started} | _] = events
    assert %Event{name: :turn_finished, status: :completed, text: "w0 w1 w2 w3 w4"} = List.last(events)
    assert Enum.any?(events, &match?(%{name: :delta, kind: :thinking}, &1))
    assert [turn] = events |> Enum.map(& &1.turn) |> Enum.uniq()
    assert_receive {ClaudeSession, ^name, %Event{name: :turn_finished, turn: ^turn}}
  end

  @tag :shared
  test "a permission is asked for and answered", %{name: name} do
    {:ok, _now} = ClaudeSession.subscribe(name)

    prompt =
      sim("write", %{
        tools: [["Bash", %{command: "touch nothing-there && echo done", description: "x"}]],
        text: "ok"
      })

    task = Task.async(fn -> ClaudeSession.submit(name, prompt) end)
    assert_receive {ClaudeSession, ^name, %Event{name: :request_opened, request: request}}, 30_000
    assert {:ok, [^request]} = ClaudeSession.requests(name)
    assert :ok = ClaudeSession.answer(name, request, {:deny, "no"})
    assert {:error, %Error{reason: :request_closed}} = ClaudeSession.answer(name, request, :allow)

    assert_receive {ClaudeSession, ^name,
                    %Event{name: :request_closed, turn: turn, payload: %{"outcome" => "denied"}}}

    assert turn == request.turn
    assert {:ok, "ok"} = Task.await(task, 60_000)
  end

  @tag :shared
  test "an interrupted turn is an error with its text", %{name: name} do
    prompt = sim("long", %{words: 5000, gap_ms: 20})
    task = Task.async(fn -> ClaudeSession.submit(name, prompt) end)
    {:ok, _} = ClaudeSession.subscribe(name)
    assert_receive {ClaudeSession, ^name, %Event{name: :delta}}, 30_000
    assert {:ok, turn} = ClaudeSession.interrupt(name)

    assert {:error, %Error{reason: :interrupted, turn: %Turn{id: ^turn, text: "w0" <> _}}} =
             Task.await(task, 30_000)

    assert {:ok, nil} = ClaudeSession.interrupt(name)
  end

  @tag :shared
  test "leaving a stream early interrupts its turn, and the next is untouched", %{name: name} do
    assert [_, _] = name |> ClaudeSession.stream(sim("long", %{words: 5000, gap_ms: 20})) |> Enum.take(2)
    assert {:ok, "w0 w1 w2"} = ClaudeSession.submit(name, sim("short", %{words: 3}))
    assert {:ok, [%{status: :interrupted}, %{status: :completed}]} = ClaudeSession.history(name, limit: 2)
  end

  @tag :shared
  test "the same id is the same turn, while it runs and when it is long over", %{options: options, name: name} do
    prompt = sim("once", %{words: 40, gap_ms: 5})
    tasks = for _ <- 1..3, do: Task.async(fn -> ClaudeSession.submit(name, prompt, id: "mine", as: :turn) end)

    assert [{:ok, turn}, {:ok, turn}, {:ok, turn}] =
             Task.await_many(tasks, 60_000) |> Enum.map(&without_times/1)

    :ok = stop_supervised({ClaudeSession, name})
    start_supervised!({ClaudeSession, [name: name] ++ options})
    assert {:ok, text} = ClaudeSession.submit(name, prompt, id: "mine")
    assert text == turn.text
    assert name |> ClaudeSession.stream(prompt, id: "mine") |> Enum.join() |> String.trim() == turn.text
    assert {:ok, turns} = ClaudeSession.history(name)
    assert [_one] = Enum.filter(turns, &(&1.key == "mine"))
    assert {:error, %Error{reason: :invalid_payload}} = ClaudeSession.submit(name, "another", id: "mine")
  end

  test "what is refused is an error with the bridge's reason", %{options: options, name: name} do
    start_supervised!({ClaudeSession, [name: name, start: false] ++ options})
    assert {:error, %Error{reason: :session_not_found}} = ClaudeSession.submit(name, "hello")
    assert {:error, %Error{reason: :not_started}} = ClaudeSession.submit("nobody", "hello")
    assert {:error, %Error{reason: :invalid_name}} = ClaudeSession.start_link("no spaces", options)
    assert_raise ArgumentError, ~r/modle/, fn -> ClaudeSession.start_link(name, modle: "opus") end
    # Somebody starts it: whoever asks again finds it.
    start_supervised!({ClaudeSession, [name: name, as: :other] ++ options}, id: :other)
    assert {:ok, %{name: ^name}} = ClaudeSession.status(:other)
    assert {:ok, "You said: hello"} = ClaudeSession.submit(name, "hello")
    assert {:error, %Error{reason: :prompt_empty}} = ClaudeSession.submit(name, "")
  end

  test "a wrong token is said at once", %{options: [{:url, url} | _], name: name} do
    start_supervised!({ClaudeSession, name: name, url: url, token: "wrong"})
    assert {:error, %Error{reason: :unauthorized}} = ClaudeSession.submit(name, "hello")

    assert {:error, %Error{reason: :unauthorized}} = ClaudeSession.fetch_sessions(url: url, token: "wrong")
  end

  test "stop ends both, the conversation stays; delete ends all who follow", %{options: options, name: name} do
    {:ok, pid} = ClaudeSession.start_link(name, options)
    assert {:ok, _} = ClaudeSession.submit(name, "hello")
    assert :ok = ClaudeSession.stop(name)
    refute Process.alive?(pid)
    {:ok, pid} = ClaudeSession.start_link(name, options)
    assert {:ok, [%{prompt: "hello"}]} = ClaudeSession.history(name)
    assert {:ok, _} = ClaudeSession.submit(name, "again")
    Process.unlink(pid)
    monitor = Process.monitor(pid)
    {:ok, _} = ClaudeSession.subscribe(name)
    assert :ok = ClaudeSession.delete(name, options)
    assert_receive {ClaudeSession, ^name, %Event{name: :closed}}
    assert_receive {:DOWN, ^monitor, _, _, {:shutdown, :session_deleted}}
  end

  @tag :shared
  test "a live screen: the picture, what is written on it, keys", %{options: options, name: name} do
    {:ok, %{state: _}} = ClaudeSession.status(name)
    {:ok, terminal} = ClaudeSession.Terminal.start_link(name, options)
    assert_receive {ClaudeSession.Terminal, ^name, {:screen, %{cols: cols, rows: _}}}
    :ok = ClaudeSession.Terminal.resize(terminal, cols + 1, 30)
    wide = cols + 1
    assert_receive {ClaudeSession.Terminal, ^name, {:screen, %{cols: ^wide, rows: 30}}}

    # A headless CLI's pane echoes nothing; the keys are for whoever attaches. That they are taken is what can be seen.
    :ok = ClaudeSession.Terminal.input(terminal, "x")
    assert {:ok, _} = ClaudeSession.submit(name, "hello")
    assert Process.alive?(terminal)
    monitor = Process.monitor(terminal)
    GenServer.stop(terminal)
    assert_receive {:DOWN, ^monitor, _, _, :normal}
    assert {:error, %Error{reason: :invalid_name}} = ClaudeSession.Terminal.start_link("no spaces", options)
  end

  # 20 here, 200 in the soak: every reconnect takes its time.
  for {allow, half, count} <- [{1, false, 20}, {1, true, 20}, {7, false, 60}, {1, false, 200}, {1, true, 200}] do
    @tag :shared
    @tag soak: count == 200
    test "#{count} words, cut after #{allow}, #{if half, do: "in", else: "between"} frames: the text, once",
         %{options: options, name: name} do
      cutter = Cutter.start(options[:url], unquote(allow), unquote(half))
      start_supervised!({ClaudeSession, name: name, as: :cut, url: cutter.url, token: options[:token]})
      prompt = sim("count", %{words: unquote(count), gap_ms: 10})
      expected = unquote(count) |> words() |> String.trim_trailing()

      assert {:ok, ^expected} = ClaudeSession.submit(:cut, prompt <> " a", timeout: 90_000)
      assert :cut |> ClaudeSession.stream(prompt <> " b") |> Enum.join() |> String.trim_trailing() == expected
      assert {:ok, [a, b]} = ClaudeSession.history(name, limit: 2)
      assert {a.prompt, b.prompt} == {prompt <> " a", prompt <> " b"}
      assert Cutter.cuts(cutter) > unquote(div(count, allow))
      Cutter.stop(cutter)
    end
  end

  # Each run kills it at another event of its turn.
  for {runs, soak} <- [{20, false}, {200, true}] do
    @tag :shared
    @tag soak: soak
    @tag timeout: 900_000
    test "the connection is killed at one event after the other of a turn of 200 deltas, #{runs} runs: the text, once",
         %{options: options, name: name} do
      expected = 200 |> words() |> String.trim_trailing()

      for run <- 1..unquote(runs) do
        prompt = sim("run #{run} of #{unquote(runs)}", %{words: 200, gap_ms: 1})
        at = run * unquote(div(200, runs))
        cutter = Cutter.start(options[:url], [at, 1_000_000], rem(run, 2) == 0)
        session = [name: name, as: {:killed, run}, url: cutter.url, token: options[:token]]
        pid = start_supervised!({ClaudeSession, session}, id: run)
        stream = Task.async(fn -> pid |> ClaudeSession.stream(prompt, id: prompt) |> Enum.join() end)

        assert {:ok, ^expected} = ClaudeSession.submit(pid, prompt, id: prompt, timeout: 60_000)
        assert String.trim_trailing(Task.await(stream, 60_000)) == expected
        assert Cutter.cuts(cutter) == 1, "the turn has no #{at} events"
        assert {:ok, turns} = ClaudeSession.history(pid, limit: 2)
        assert Enum.count(turns, &(&1.prompt == prompt)) == 1
        :ok = stop_supervised!(run)
        Cutter.stop(cutter)
      end
    end
  end

  @tag :shared
  test "files go as the bytes they are, more of them than base64 has room for", %{name: name} do
    file = %{name: "größe.txt", media_type: "text/plain", data: "drei\n"}
    said = %{"name" => "größe.txt", "media_type" => "text/plain", "size" => 5}

    assert {:ok, %Turn{attachments: [^said], text: text}} =
             ClaudeSession.submit(name, "read it", attachments: [file], as: :turn)

    assert text =~ "read it"
    assert {:ok, [%Turn{attachments: [^said]}]} = ClaudeSession.history(name, limit: 1)

    # It waits behind another, and is taken back before Claude is shown any of it.
    {:ok, _} = ClaudeSession.subscribe(name)
    before = Task.async(fn -> ClaudeSession.submit(name, sim("long", %{words: 5000, gap_ms: 20})) end)
    assert_receive {ClaudeSession, ^name, %Event{name: :delta}}, 30_000
    large = %{name: "a.pdf", media_type: "application/pdf", data: "%PDF-" <> :binary.copy("x", 4_400_000)}
    asked = Task.async(fn -> ClaudeSession.submit(name, "", attachments: [large, large]) end)
    size = byte_size(large.data)

    assert_receive {ClaudeSession, ^name,
                    %Event{
                      name: :turn_queued,
                      turn: queued,
                      payload: %{"attachments" => [_, %{"size" => ^size}]}
                    }},
                   30_000

    assert :ok = ClaudeSession.cancel(name, queued)
    assert {:error, %Error{reason: :cancelled}} = Task.await(asked)
    assert {:ok, _} = ClaudeSession.interrupt(name)
    assert {:error, %Error{reason: :interrupted}} = Task.await(before, 30_000)

    assert {:error, %Error{reason: :invalid_payload, details: %{"field" => "attachments.0.media_type"}}} =
             ClaudeSession.submit(name, "x", attachments: [%{file | media_type: "video/mp4"}])

    # The bridge would close the socket for it, and again for the next attempt.
    for {prompt, files} <- [{"x", [large, large, large]}, {String.duplicate("x", 10_000_000), []}] do
      assert {:error, %Error{reason: :payload_too_large, details: %{"limit" => _}}} =
               ClaudeSession.submit(name, prompt, attachments: files, timeout: 10_000)
    end
  end

  defp without_times({:ok, turn}), do: {:ok, %{turn | queued_at: nil, started_at: nil, finished_at: nil}}
  defp without_times(other), do: other
end
