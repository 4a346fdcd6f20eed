defmodule ClaudeSession.Supervisor do
  @moduledoc """
  Sessions under a supervisor, one for one: each is restarted by itself.

      children = [
        {ClaudeSession.Supervisor,
         url: "https://bridge.example", token: System.fetch_env!("CLAUDE_BRIDGE_TOKEN"),
         sessions: ["research", [name: "coding", backend: :tmux]]}
      ]

  A session's process holds a place in the conversation, not the conversation: that lives in the bridge. One that is
  restarted, also by a crash, joins again and finds everything as it is.

  ## Options

    * `:sessions` - names, or options of `ClaudeSession.start_link/2` with a `:name`; none by default
    * `:name` - the supervisor's own; `ClaudeSession.Supervisor` by default
    * whatever else `ClaudeSession.start_link/2` takes - for all sessions that do not say otherwise
  """

  use Supervisor

  alias ClaudeSession.Error

  @doc """
  Start it, with its sessions.

      iex> {:ok, supervisor} = ClaudeSession.Supervisor.start_link(name: nil, sessions: [])
      iex> Supervisor.which_children(supervisor)
      []
  """
  @doc since: "0.1.0"
  @spec start_link(keyword) :: Supervisor.on_start()
  def start_link(options \\ []) do
    {name, options} = Keyword.pop(options, :name, __MODULE__)
    Supervisor.start_link(__MODULE__, options, if(name, do: [name: name], else: []))
  end

  @doc """
  Start one more session under it; answers as `ClaudeSession.start_link/2` does.

      {:ok, pid} = ClaudeSession.Supervisor.start_session("visitor-17", backend: :api)
  """
  @doc since: "0.1.0"
  @spec start_session(Supervisor.supervisor(), binary, keyword) :: {:ok, pid} | {:error, Error.t() | term}
  def start_session(supervisor \\ __MODULE__, name, options \\ []) do
    spec = ClaudeSession.child_spec(Keyword.put(options, :name, name))

    case Supervisor.start_child(supervisor, spec) do
      # One that was stopped, or whose session was deleted, may be started again.
      {:error, :already_present} -> Supervisor.restart_child(supervisor, spec.id)
      result -> result
    end
  end

  @impl true
  def init(options) do
    {sessions, common} = Keyword.pop(options, :sessions, [])

    children =
      for session <- sessions do
        own = if is_list(session), do: session, else: [name: session]
        ClaudeSession.child_spec(Keyword.merge(common, own))
      end

    # A session's process that cannot live must not take those with it that can: joining again costs little.
    Supervisor.init(children, strategy: :one_for_one, max_restarts: 10 + length(children))
  end
end
