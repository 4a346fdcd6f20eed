defmodule ClaudeSession.KilledTest do
  @moduledoc "The bridge is killed in the middle of turns and started again: their text comes, once."
  use ExUnit.Case, async: false

  alias ClaudeSession.{TestBridge, Turn}

  @moduletag :bridge

  setup do
    bridge = start_supervised!({TestBridge, []})
    [bridge: bridge, options: TestBridge.options(bridge)]
  end

  for {times, soak} <- [{2, false}, {20, true}] do
    @tag soak: soak
    @tag timeout: 600_000
    test "#{times} times", %{bridge: bridge, options: options} do
      :rand.seed(:exsss, ExUnit.configuration()[:seed])
      start_supervised!({ClaudeSession, [name: "killed"] ++ options})
      {:ok, _} = ClaudeSession.submit("killed", "hello")
      whole = String.trim_trailing(words(100))

      for round <- 1..unquote(times) do
        prompt = ~s(#{round} [[sim {"words": 100, "gap_ms": 20}]])
        submit = Task.async(fn -> ClaudeSession.submit("killed", prompt <> " a", as: :turn) end)
        stream = Task.async(fn -> "killed" |> ClaudeSession.stream(prompt <> " b") |> Enum.join() end)

        # Some way into the first of the two turns, or the second.
        after_deltas(:rand.uniform(150))
        TestBridge.kill(bridge)
        TestBridge.restart(bridge)

        assert {:ok, %Turn{text: ^whole}} = Task.await(submit, 60_000)
        assert String.trim_trailing(Task.await(stream, 60_000)) == whole
      end

      {:ok, turns} = ClaudeSession.history("killed")
      assert length(turns) == 1 + 2 * unquote(times)
      assert Enum.all?(turns, &(&1.status == :completed))
    end
  end

  defp after_deltas(count) do
    {:ok, _} = ClaudeSession.subscribe("killed")
    for _ <- 1..count, do: assert_receive({ClaudeSession, "killed", %{name: :delta}}, 30_000)
    ClaudeSession.unsubscribe("killed")
    flush()
  end

  defp flush do
    receive do
      {ClaudeSession, _, _} -> flush()
    after
      0 -> :ok
    end
  end

  defp words(n), do: Enum.map_join(0..(n - 1), &if(rem(&1, 10) == 9, do: "w#{&1} \n", else: "w#{&1} "))
end
