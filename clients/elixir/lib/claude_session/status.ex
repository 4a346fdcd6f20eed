defmodule ClaudeSession.Status do
  @moduledoc """
  A session as the bridge sees it; `ClaudeSession.status/1` and `ClaudeSession.fetch_sessions/1` answer it.

  `state` is `:starting`, `:idle`, `:busy`, `:waiting` (for an answer to a request), `:restarting`, `:stopped`,
  `:failed` or `:unknown`, and `reason` says why, where there is a reason. `attach` is the command that a person types to
  attach to it. `limited_until` is there while the account's limit is reached, and `budget`, with strings for keys, where one
  applies; prompts wait for the one and are refused by the other. `wire` is the whole object with strings for keys, as it came.
  """

  alias ClaudeSession.Values

  defstruct [
    :name,
    :backend,
    :state,
    :model,
    :cwd,
    :permission_mode,
    :conversation,
    :attach,
    :started_at,
    :turns,
    :viewers,
    :usage,
    :cost_usd,
    :node,
    :reason,
    :limited_until,
    :budget,
    wire: %{}
  ]

  @type state :: :starting | :idle | :busy | :waiting | :restarting | :stopped | :failed | :unknown
  @type t :: %__MODULE__{
          name: binary,
          backend: :headless | :tmux | :api | nil,
          state: state,
          model: binary | nil,
          cwd: binary | nil,
          permission_mode: binary | nil,
          conversation: binary | nil,
          attach: binary | nil,
          started_at: DateTime.t() | nil,
          turns: non_neg_integer | nil,
          viewers: non_neg_integer | nil,
          usage: map | nil,
          cost_usd: number | nil,
          node: binary | nil,
          reason: binary | nil,
          limited_until: DateTime.t() | nil,
          budget: map | nil,
          wire: map
        }

  @doc false
  @spec from_wire(map) :: t
  def from_wire(session) do
    %__MODULE__{
      name: session["name"],
      backend: Values.backend(session["backend"]),
      state: Values.state(session["state"]),
      model: session["model"],
      cwd: session["cwd"],
      permission_mode: session["permission_mode"],
      conversation: session["conversation"],
      attach: session["attach"],
      started_at: Values.time(session["started_at"]),
      turns: session["turns"],
      viewers: session["viewers"],
      usage: session["usage"],
      cost_usd: session["cost_usd"],
      node: session["node"],
      reason: session["reason"],
      limited_until: Values.time(session["limited_until"]),
      budget: session["budget"],
      wire: session
    }
  end
end
