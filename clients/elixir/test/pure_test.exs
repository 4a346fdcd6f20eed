defmodule ClaudeSession.PureTest do
  @moduledoc "What is decided without a process: texts, views, buffers, options, and which bridge is meant."
  use ExUnit.Case, async: true

  alias ClaudeSession.{Asked, Error, Event, Options, Target, Text, Turn, View}

  doctest ClaudeSession.Backoff
  doctest ClaudeSession.Error
  doctest ClaudeSession.JSON
  doctest ClaudeSession.Turn

  describe "Text" do
    defp event(name, block, text, more \\ %{}) do
      Event.from_wire(
        "s",
        to_string(name),
        Map.merge(%{"turn" => "t", "block" => block, "kind" => "text", "text" => text}, more)
      )
    end

    defp snapshot(blocks) do
      %Event{name: :snapshot, snapshot: Turn.from_wire(%{"status" => "running", "blocks" => blocks})}
    end

    defp said(events) do
      {chunks, _} = Enum.map_reduce(events, %Text{}, &Text.take(&2, &1))
      Enum.reject(chunks, &(&1 == ""))
    end

    defp block(n, text), do: %{"block" => n, "kind" => "text", "text" => text}

    test "deltas as they come; the final block says nothing new" do
      assert said([event(:delta, 0, "a "), event(:delta, 0, "b"), event(:block, 0, "a b")]) == ["a ", "b"]
    end

    test "the final block says what no delta did" do
      assert said([event(:delta, 0, "a "), event(:block, 0, "a b c")]) == ["a ", "b c"]
    end

    test "thinking and sub-agents are not the reply" do
      thinking = event(:delta, 0, "hm", %{"kind" => "thinking"})
      assert said([thinking, event(:delta, 1, "a"), event(:delta, 2, "no", %{"parent" => "tool"})]) == ["a"]
    end

    test "messages around a tool stand apart, blocks of one do not" do
      assert said([event(:delta, 0, "Look:"), event(:delta, 2, "Done"), event(:delta, 3, ".")]) ==
               ["Look:", "\n\nDone", "."]
    end

    test "what is discarded and told again under another block, as by the terminal, is said once" do
      told = [
        event(:delta, 0, "a\n"),
        event(:delta, 0, "b\n"),
        event(:discard, 0, nil),
        event(:block, 1, "a\nb\nc")
      ]

      assert said(told) == ["a\n", "b\n", "c"]
    end

    test "what is begun again otherwise is said anew" do
      assert said([
               event(:delta, 0, "The"),
               event(:discard, 0, nil),
               event(:delta, 0, "An"),
               event(:delta, 0, "swer")
             ]) ==
               ["The", "\nAn", "swer"]
    end

    test "a snapshot ahead is caught up with, one behind is waited for" do
      assert said([event(:delta, 0, "a "), snapshot([block(0, "a b ")]), event(:delta, 0, "c")]) == [
               "a ",
               "b ",
               "c"
             ]

      assert said([
               event(:delta, 0, "a b "),
               snapshot([block(0, "a ")]),
               event(:delta, 0, "b "),
               event(:delta, 0, "c")
             ]) ==
               ["a b ", "c"]
    end

    test "wherever snapshots fall, what was said is the text" do
      words = for n <- 0..30, do: "w#{n} "

      for at <- 0..30, back <- 0..3 do
        {before, rest} = Enum.split(words, at)
        seen = Enum.drop(before, -back)
        again = Enum.take(before, -min(back, at))
        events = Enum.map(before, &event(:delta, 0, &1)) ++ [snapshot([block(0, Enum.join(seen))])]
        events = events ++ Enum.map(again ++ rest, &event(:delta, 0, &1))
        assert events |> said() |> Enum.join() == Enum.join(words)
      end
    end

    test "a turn whose blocks nobody told has the text of its end" do
      assert said([event(:turn_finished, nil, "compacted", %{"status" => "completed"})]) == ["compacted"]
    end
  end

  describe "View" do
    test "a number that was seen is known, one that is missing is a gap, and so is a merged one that begins too late" do
      view = %View{epoch: "e", seq: 5}
      delta = %{"turn" => "t", "block" => 0, "kind" => "text", "text" => "a"}
      assert :known = View.take(view, "delta", Map.put(delta, "seq", 5))
      assert :gap = View.take(view, "delta", Map.put(delta, "seq", 7))
      assert :gap = View.take(view, "delta", Map.merge(delta, %{"seq" => 9, "first_seq" => 8}))
      assert {:ok, %{seq: 9}} = View.take(view, "delta", Map.merge(delta, %{"seq" => 9, "first_seq" => 6}))
      assert :other = View.take(view, "presence_diff", %{"joins" => %{}})
    end

    test "a turn from its prompt to its end" do
      events = [
        {"turn_queued", %{"turn" => "t", "key" => "k", "prompt" => "p", "author" => "me"}},
        {"turn_started", %{"turn" => "t", "prompt" => "p", "author" => "me", "source" => "client"}},
        {"delta", %{"turn" => "t", "block" => 1, "kind" => "text", "text" => "a"}},
        {"delta", %{"turn" => "t", "block" => 1, "kind" => "text", "text" => "b"}},
        {"tool_started", %{"turn" => "t", "block" => 0, "tool" => "x", "name" => "Bash", "input" => %{}}},
        {"tool_finished",
         %{"turn" => "t", "tool" => "x", "output" => "o", "is_error" => false, "truncated" => false}}
      ]

      view = fold(%View{epoch: "e"}, events)

      assert %{"id" => "t", "key" => "k", "status" => "running", "text" => "ab", "blocks" => blocks} =
               View.turn(view, "t")

      assert [%{"kind" => "tool", "output" => "o"}, %{"text" => "ab"}] = blocks
      assert View.turn_by_key(view, "k")["id"] == "t"

      ended = fold(view, [{"turn_finished", %{"turn" => "t", "status" => "completed", "text" => "ab"}}])
      assert ended.open == nil
      assert %{"status" => "completed", "blocks" => ^blocks} = View.turn(ended, "t")
    end

    defp fold(view, events) do
      Enum.reduce(events, view, fn {event, payload}, view ->
        {:ok, view} = View.take(view, event, Map.put(payload, "seq", view.seq + 1))
        view
      end)
    end
  end

  describe "a stream's buffer" do
    test "has a bound, and beyond it the turn in place of its events" do
      asked = %Asked{id: 1, session: "s", kind: :stream, key: "k", payload: %{}, turn: "t", max: 3}
      full = Enum.reduce(1..3, asked, fn n, asked -> Asked.put(asked, event(:delta, 0, "#{n}")) end)
      assert {[_, _, _], false, _} = Asked.read(full, fn -> flunk("not needed") end)
      over = full |> Asked.put(event(:delta, 0, "4")) |> Asked.put(event(:delta, 0, "5"))
      assert over.events == []
      turn = %{"id" => "t", "status" => "running", "blocks" => [block(0, "12345")]}

      assert {[%Event{name: :snapshot, snapshot: %Turn{blocks: [_]}}], false, read} =
               Asked.read(over, fn -> turn end)

      refute Asked.readable?(read)
    end
  end

  describe "Target" do
    defp environ(map), do: &Map.get(map, &1)

    test "a URL in any of its forms" do
      for url <- ["http://h:4040", "ws://h:4040/socket", "ws://h:4040/socket/websocket", "http://h:4040/"] do
        assert {:ok, %Target{host: "h", port: 4040, path: "", tls: nil}} =
                 Target.find([url: url, token: "t"], environ(%{}))
      end

      assert {:ok, %Target{port: 443, path: "/claude", tls: []}} =
               Target.find([url: "https://h/claude", token: "t"], environ(%{}))
    end

    test "options before the environment, the environment before this machine" do
      env = %{"CLAUDE_BRIDGE_URL" => "http://env:1", "CLAUDE_BRIDGE_TOKEN" => "env", "HOME" => "/nowhere"}
      assert {:ok, %{host: "env", token: "env"}} = Target.find([], environ(env))

      assert {:ok, %{host: "opt", token: "opt"}} =
               Target.find([url: "http://opt:2", token: "opt"], environ(env))

      assert {:error, %Error{reason: :no_bridge}} = Target.find([], environ(%{"HOME" => "/nowhere"}))
      assert {:error, %Error{reason: :no_bridge}} = Target.find([url: "gopher://h", token: "t"], environ(%{}))
    end

    @tag :tmp_dir
    test "the bridge of this machine, and a token from its folder for this machine alone", %{tmp_dir: folder} do
      env = environ(%{"CLAUDE_BRIDGE_STATE_DIR" => folder})
      assert {:error, %Error{reason: :no_bridge}} = Target.find([], env)
      File.write!(Path.join(folder, "token"), "secret\n")

      note = %{pid: String.to_integer(System.pid()), host: "0.0.0.0", port: 4040, certificate: nil}
      File.write!(Path.join(folder, "bridge.json"), ClaudeSession.JSON.encode!(note))
      assert {:ok, %{host: "127.0.0.1", port: 4040, token: "secret", tls: nil}} = Target.find([], env)
      assert {:ok, %{token: "secret"}} = Target.find([url: "http://localhost:4040"], env)
      assert {:error, %Error{reason: :no_bridge}} = Target.find([url: "http://elsewhere:4040"], env)

      File.write!(Path.join(folder, "bridge.json"), ClaudeSession.JSON.encode!(%{note | certificate: "ab"}))
      assert {:ok, %{tls: [certificate: "ab"]}} = Target.find([], env)
      File.write!(Path.join(folder, "bridge.json"), "no json")
      assert {:error, %Error{reason: :no_bridge}} = Target.find([], env)
    end

    test "a token is not to be seen" do
      {:ok, target} = Target.find([url: "http://h:1", token: "secret"], environ(%{}))
      refute inspect(target) =~ "secret"
    end
  end

  describe "Options" do
    test "names of sessions, and keys that nobody knows" do
      assert {:ok, %{name: "a_b-1", as: "a_b-1", start: %{"backend" => :tmux}}} =
               Options.session(name: "a_b-1", backend: :tmux)

      assert {:ok, %{as: {:mine, 1}, start: nil}} = Options.session(name: "a", as: {:mine, 1}, start: false)

      for bad <- ["", "-a", "ä", "a\n", String.duplicate("a", 65), :atom],
          do: assert({:error, %{reason: :invalid_name}} = Options.session(name: bad))

      assert_raise ArgumentError, ~r/:modle/, fn -> Options.session(name: "a", modle: 1) end
    end

    test "a prompt is UTF-8, files are files, and a key is one of its own" do
      assert {:error, %Error{reason: :invalid_payload}} = Options.submission(<<0xFF>>, [])
      assert {:ok, "k", payload} = Options.submission("p", id: "k", attachments: [], mode: :steer)
      assert payload == %{"prompt" => "p", "id" => "k", "mode" => "steer"}

      for wrong <- [
            %{name: "a.png", media_type: "image/png"},
            %{name: "a.png", media_type: "image/png", data: 1},
            %{name: "a.png", media_type: "image/png", data: "", path: "/tmp/a.png"},
            "a.png"
          ] do
        assert_raise ArgumentError, ~r/an attachment is/, fn ->
          Options.submission("p", attachments: [wrong])
        end
      end

      assert {:ok, one, _} = Options.submission("p", [])
      assert {:ok, other, _} = Options.submission("p", [])
      assert one != other
    end

    test "answers" do
      assert Options.answer(:allow) == %{"decision" => "allow"}
      assert Options.answer({:deny, "no"}) == %{"decision" => "deny", "message" => "no"}

      assert Options.answer({:answers, %{"q" => "a"}}) == %{
               "decision" => "allow",
               "input" => %{"answers" => %{"q" => "a"}}
             }

      assert Options.answer(decision: :allow, suggestions: [0]) == %{
               "decision" => "allow",
               "suggestions" => [0]
             }

      assert_raise ArgumentError, fn -> Options.answer(decision: :maybe) end
    end
  end
end
