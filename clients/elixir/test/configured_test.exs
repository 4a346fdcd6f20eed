defmodule ClaudeSession.ConfiguredTest do
  @moduledoc "Libraries that are there or not: both are settings of the whole VM, so nothing runs beside this."
  use ExUnit.Case, async: false

  import ClaudeSession.Testing

  alias ClaudeSession.{JSON, Telemetry}

  defmodule OtherJSON do
    def decode(text), do: {:ok, {:other, text}}
    def encode_to_iodata!(_term), do: ["oth", "er"]
  end

  test "another JSON library" do
    before = Application.fetch_env!(:claude_session, :json_library)
    Application.put_env(:claude_session, :json_library, OtherJSON)
    on_exit(fn -> Application.put_env(:claude_session, :json_library, before) end)
    assert {JSON.encode!(%{}), JSON.decode("x")} == {"other", {:ok, {:other, "x"}}}
  end

  test "what is not to be said in JSON is raised where it was given, and costs nobody else anything" do
    bridge = start_supervised!(ClaudeSession.Testing)
    pid = start_supervised!({ClaudeSession, [name: "json"] ++ options(bridge)})
    assert_raise ArgumentError, fn -> ClaudeSession.answer(pid, "r", {:answers, %{"q" => {:tuple}}}) end
    assert_raise ArgumentError, fn -> ClaudeSession.start_link("other", model: <<0xFF>>) end
    assert {:ok, _} = ClaudeSession.submit(pid, "hello")
    assert Process.alive?(pid)
  end

  test "telemetry, where it is there: a turn, one that was refused, and connections; no prompt in any" do
    # The library itself is not to be had here.
    Code.compile_string(~s|
      defmodule :telemetry do
        def execute(event, measurements, metadata), do: send(:told_to, {event, measurements, metadata})
      end
    |)

    Process.register(self(), :told_to)
    Telemetry.ready()

    on_exit(fn ->
      :code.purge(:telemetry)
      :code.delete(:telemetry)
      Telemetry.ready()
    end)

    bridge = start_supervised!(ClaudeSession.Testing)
    pid = start_supervised!({ClaudeSession, [name: "told", as: :told] ++ options(bridge)})
    expect_submit(bridge, "told", reply_with(["secret"]))
    expect_submit(bridge, "told", refuse("queue_full"))
    assert {:ok, "secret"} = ClaudeSession.submit(pid, "secret", id: "k")
    assert {:error, _} = ClaudeSession.submit(pid, "secret", id: "l")
    disconnect(bridge)

    assert_receive {[:claude_session, :connection, :open], %{duration: _, attempts: 0},
                    %{host: "127.0.0.1", port: _}}

    assert_receive {[:claude_session, :turn, :start], %{system_time: _}, %{session: "told", id: "k"}}

    assert_receive {[:claude_session, :turn, :stop], %{duration: d, cost_usd: _},
                    %{id: "k", status: :completed} = metadata}
                   when d > 0

    assert_receive {[:claude_session, :turn, :exception], %{duration: _}, %{id: "l", reason: :queue_full}}
    assert_receive {[:claude_session, :connection, :close], %{duration: _}, %{reason: _}}
    refute inspect(metadata) =~ "secret"
  end
end
