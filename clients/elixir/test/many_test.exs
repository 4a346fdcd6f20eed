defmodule ClaudeSession.ManyTest do
  @moduledoc "As many sessions, and as many deltas, as a real bridge is asked for by one VM."
  use ExUnit.Case, async: false

  alias ClaudeSession.{Cutter, Event, TestBridge}

  @moduletag :bridge
  @moduletag :soak
  @moduletag timeout: 600_000

  setup_all do
    bridge = start_supervised!({TestBridge, shutdown: 60_000})
    [options: TestBridge.options(bridge)]
  end

  test "a thousand sessions over one socket, also after it broke", %{options: options} do
    cutter = Cutter.start(options[:url], [100, 1_000_000])
    connection = [url: cutter.url, token: options[:token], backend: :api]
    names = for n <- 1..1_000, do: "s#{n}"
    for name <- names, do: start_supervised!({ClaudeSession, [name: name] ++ connection}, id: name)

    answers =
      names
      |> Task.async_stream(&{&1, ClaudeSession.submit(&1, "I am #{&1}")},
        max_concurrency: 50,
        timeout: 300_000
      )
      |> Enum.to_list()

    assert length(answers) == 1_000
    for {:ok, {name, answer}} <- answers, do: assert(answer == {:ok, "You said: I am #{name}"})
    assert {Cutter.cuts(cutter), Cutter.connections(cutter)} == {1, 2}
    assert names -- ClaudeSession.list_sessions(options) == []
    Cutter.stop(cutter)
  end

  test "100,000 deltas to a reader that is slow: no more than its bound waits, and it has the whole text",
       %{options: options} do
    pid = start_supervised!({ClaudeSession, [name: "slow", backend: :api] ++ options})
    # Who subscribes before it has joined is told a snapshot, which is not the turn's end.
    {:ok, _} = ClaudeSession.status(pid)
    {:ok, _} = ClaudeSession.subscribe(pid)
    watching = Task.async(fn -> most_waiting(pid, 0) end)
    prompt = ~s(count [[sim {"words": 100000}]])

    told =
      pid
      |> ClaudeSession.stream(prompt, max_buffer: 500)
      |> Stream.with_index()
      |> Enum.map(fn {chunk, n} ->
        # It takes one, and no more before the turn is over.
        if n == 0, do: drain()
        chunk
      end)

    send(watching.pid, :over)
    assert Task.await(watching) in 1..500

    assert {:ok, [turn]} = ClaudeSession.history(pid)
    assert String.trim_trailing(Enum.join(told)) == turn.text
    assert turn.text |> String.split() |> length() == 100_000
    assert length(told) <= 1_000
  end

  # Events that waited for the reader, at the worst of many moments.
  defp most_waiting(pid, most) do
    receive do
      :over -> most
    after
      0 ->
        counts = for {_, asked} <- :sys.get_state(pid).asked, do: asked.count
        most_waiting(pid, Enum.max([most | counts]))
    end
  end

  defp drain do
    receive do
      {ClaudeSession, _, %Event{name: :turn_finished}} -> :ok
      {ClaudeSession, _, %Event{name: :snapshot, snapshot: %{open_turn: nil}}} -> :ok
      {ClaudeSession, _, _} -> drain()
    after
      120_000 -> flunk("the turn does not end")
    end
  end
end
