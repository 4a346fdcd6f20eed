defmodule ClaudeSession.PoolTest do
  @moduledoc "Pools of a real bridge, whose workers run the real CLI on the simulator."
  use ExUnit.Case, async: false

  alias ClaudeSession.{Cutter, Error, TestBridge, Turn}

  @moduletag :bridge
  @moduletag timeout: 120_000

  # An event of a pool has no number.
  @delta ~s("delta")

  setup_all do
    bridge = start_supervised!({TestBridge, shutdown: 60_000})
    [bridge: bridge, options: TestBridge.options(bridge)]
  end

  defp sim(prompt, count),
    do: "#{prompt} [[sim #{ClaudeSession.JSON.encode!(%{words: count, gap_ms: 10})}]]"

  defp words(n),
    do:
      String.trim_trailing(Enum.map_join(0..(n - 1), &if(rem(&1, 10) == 9, do: "w#{&1} \n", else: "w#{&1} ")))

  test "an answer, from a session that nobody sees", %{options: options} do
    assert {:ok, "You said: What is 2 + 2?"} = ClaudeSession.ask("What is 2 + 2?", options)

    assert {:ok, %Turn{status: :completed, text: "You said: And 3 + 3?"}} =
             ClaudeSession.ask("And 3 + 3?", [as: :turn] ++ options)

    assert ClaudeSession.list_sessions(options) == []
  end

  test "many at once, each its own", %{options: options} do
    answers =
      1..20
      |> Task.async_stream(&{&1, ClaudeSession.ask("q#{&1}", options)}, max_concurrency: 20, timeout: 90_000)
      |> Enum.to_list()

    assert length(answers) == 20
    for {:ok, {n, answer}} <- answers, do: assert(answer == {:ok, "You said: q#{n}"})
  end

  test "the same id is the same question, while it is answered and when that is over", %{options: options} do
    prompt = sim("once", 40)
    ask = fn -> ClaudeSession.ask(prompt, [id: "mine", as: :turn] ++ options) end
    expected = words(40)
    asked = for _ <- 1..3, do: Task.async(ask)
    turns = for {:ok, turn} <- Task.await_many(asked, 60_000), do: {turn.id, turn.text}
    assert [{id, ^expected}] = Enum.uniq(turns)
    assert {:ok, %Turn{id: ^id, text: ^expected}} = ask.()

    assert {:error, %Error{reason: :invalid_payload}} = ClaudeSession.ask("another", [id: "mine"] ++ options)
  end

  test "what does not come in time is there later, under its id", %{options: options} do
    prompt = sim("slow", 60)
    asked = [id: "late"] ++ options
    assert {:error, %Error{reason: :timeout}} = ClaudeSession.ask(prompt, [timeout: 100] ++ asked)
    assert ClaudeSession.ask(prompt, asked) == {:ok, words(60)}
  end

  test "what is refused is an error with the bridge's reason", %{options: [{:url, url} | _] = options} do
    assert {:error, %Error{reason: :prompt_empty}} = ClaudeSession.ask("", options)
    assert {:error, %Error{reason: :session_not_found}} = ClaudeSession.ask("x", [pool: "nowhere"] ++ options)
    assert {:error, %Error{reason: :invalid_name}} = ClaudeSession.ask("x", [pool: "no spaces"] ++ options)
    assert {:error, %Error{reason: :unauthorized}} = ClaudeSession.ask("x", url: url, token: "wrong")
  end

  for half <- [false, true] do
    test "the connection is cut with every third delta, #{if half, do: "in", else: "between"} frames: the answer, once",
         %{options: options} do
      cutter = Cutter.start(options[:url], [3, 3, 3, 3, 1_000], unquote(half), @delta)
      connection = [url: cutter.url, token: options[:token]]
      assert ClaudeSession.ask(sim("cut #{unquote(half)}", 100), connection) == {:ok, words(100)}
      assert Cutter.cuts(cutter) == 4
      Cutter.stop(cutter)
    end
  end

  test "the bridge is killed in the middle of an answer: the answer, once", %{
    bridge: bridge,
    options: options
  } do
    cutter = Cutter.start(options[:url], 1_000, false, @delta)
    connection = [url: cutter.url, token: options[:token], as: :turn]
    asked = Task.async(fn -> ClaudeSession.ask(sim("killed", 200), connection) end)
    wait_until(fn -> Cutter.events(cutter) > 20 end)
    TestBridge.kill(bridge)
    TestBridge.restart(bridge)
    expected = words(200)
    assert {:ok, %Turn{status: :completed, text: ^expected}} = Task.await(asked, 60_000)
    assert Cutter.connections(cutter) > 1
    Cutter.stop(cutter)
  end

  defp wait_until(done?, tries \\ 3_000) do
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
