defmodule ClaudeSession.TestBridge do
  @moduledoc false
  # A real bridge on the simulator, a process of its own with a folder of its own, for as long as the VM runs.

  @script Path.expand("bridge.py", __DIR__)
  @root Path.expand("../../../..", __DIR__)
  @start_ms 60_000

  defstruct [:port, :folder, :url, :token]

  @doc "`CLAUDE_SESSION_PYTHON` names the Python that has the bridge; the repository's own otherwise."
  def start do
    python = System.get_env("CLAUDE_SESSION_PYTHON") || Path.join(@root, ".venv/bin/python")

    folder =
      Path.join(System.tmp_dir!(), "claude_session-#{System.unique_integer([:positive])}-#{System.pid()}")

    File.mkdir_p!(folder)

    port =
      Port.open({:spawn_executable, python}, [
        :binary,
        :exit_status,
        line: 65_536,
        args: [@script, folder],
        cd: @root
      ])

    bridge = %__MODULE__{port: port, folder: folder}
    said(bridge)
  end

  def kill(bridge), do: command(bridge, "kill\n")
  def restart(bridge), do: command(bridge, "start\n")

  @doc "End it and all that it started."
  def stop(%{port: port, folder: folder}) do
    # The script ends when its stdin does; the reader of it here is gone by then.
    {:os_pid, pid} = Port.info(port, :os_pid)
    Port.close(port)
    until_gone(pid, System.monotonic_time(:millisecond) + @start_ms)
    File.rm_rf(folder)
  end

  def options(bridge), do: [url: bridge.url, token: bridge.token]

  defp command(bridge, line) do
    Port.command(bridge.port, line)
    said(bridge)
  end

  defp said(%{port: port} = bridge) do
    receive do
      {^port, {:data, {:eol, line}}} ->
        {:ok, %{"url" => url, "token" => token}} = ClaudeSession.JSON.decode(line)
        %{bridge | url: url, token: token}

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
