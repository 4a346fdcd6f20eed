defmodule ClaudeSession.TestBridge do
  @moduledoc false
  # A real bridge on the simulator: a process of its own with a folder of its own, which goes with this one.

  use GenServer

  @script Path.expand("bridge.py", __DIR__)
  @root Path.expand("../../../..", __DIR__)
  @start_ms 60_000

  @doc "`CLAUDE_SESSION_PYTHON` names the Python that has the bridge; the repository's own otherwise."
  def start_link(_options), do: GenServer.start_link(__MODULE__, nil)

  @doc "What `ClaudeSession.start_link/2` takes to come here."
  def options(bridge), do: GenServer.call(bridge, :options, @start_ms)

  @doc "As the kernel does when memory is short; its sessions live on."
  def kill(bridge), do: GenServer.call(bridge, {:command, "kill\n"}, @start_ms)

  @doc "On the same folder and port."
  def restart(bridge), do: GenServer.call(bridge, {:command, "start\n"}, @start_ms)

  @impl true
  def init(nil) do
    Process.flag(:trap_exit, true)
    python = System.get_env("CLAUDE_SESSION_PYTHON") || Path.join(@root, ".venv/bin/python")

    folder =
      Path.join(System.tmp_dir!(), "claude_session-#{System.pid()}-#{System.unique_integer([:positive])}")

    File.mkdir_p!(folder)

    settings = [:binary, :exit_status, line: 65_536, args: [@script, folder], cd: @root]
    port = Port.open({:spawn_executable, python}, settings)
    {:ok, %{port: port, folder: folder, options: said(port)}}
  end

  @impl true
  def handle_call(:options, _from, state), do: {:reply, state.options, state}

  def handle_call({:command, line}, _from, state) do
    Port.command(state.port, line)
    {:reply, said(state.port), state}
  end

  # The script ends what it began when its stdin ends.
  @impl true
  def terminate(_reason, %{port: port, folder: folder}) do
    {:os_pid, pid} = Port.info(port, :os_pid)
    Port.close(port)
    until_gone(pid, System.monotonic_time(:millisecond) + @start_ms)
    File.rm_rf(folder)
  end

  defp said(port) do
    receive do
      {^port, {:data, {:eol, line}}} ->
        {:ok, %{"url" => url, "token" => token}} = ClaudeSession.JSON.decode(line)
        [url: url, token: token]

      {^port, {:exit_status, status}} ->
        raise "the bridge did not start: #{status}"
    after
      @start_ms -> raise "the bridge says nothing"
    end
  end

  defp until_gone(pid, deadline) do
    if File.dir?("/proc/#{pid}") and System.monotonic_time(:millisecond) < deadline do
      receive do
      after
        20 -> until_gone(pid, deadline)
      end
    end
  end
end
