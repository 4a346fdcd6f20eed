defmodule ClaudeSession.Telemetry do
  @moduledoc """
  Events for `:telemetry`, where that library is there; otherwise nothing is done.

  | event | measurements | metadata |
  |---|---|---|
  | `[:claude_session, :turn, :start]` | `system_time` | `session`, `id` |
  | `[:claude_session, :turn, :stop]` | `duration`, `cost_usd` (or nil) | `session`, `id`, `turn`, `status` |
  | `[:claude_session, :turn, :exception]` | `duration` | `session`, `id`, `reason` |
  | `[:claude_session, :connection, :open]` | `duration` of connecting, `attempts` before it | `host`, `port` |
  | `[:claude_session, :connection, :close]` | `duration` that it was open | `host`, `port`, `reason` |

  `duration` and `system_time` are in native units. A turn begins when `ClaudeSession.submit/3` is called, or a stream of
  `ClaudeSession.stream/3` is first read, and stops when its caller is told how it ended; `exception` stands for what
  ended without a turn (refused, timed out). No prompt, no reply and no token is in any of them.
  """

  @key {__MODULE__, :there?}

  @doc false
  def ready, do: :persistent_term.put(@key, Code.ensure_loaded?(:telemetry))

  @doc false
  @spec execute([atom], map, map) :: :ok
  def execute(event, measurements, metadata) do
    if :persistent_term.get(@key, false) do
      :telemetry.execute([:claude_session | event], measurements, metadata)
    end

    :ok
  end
end
