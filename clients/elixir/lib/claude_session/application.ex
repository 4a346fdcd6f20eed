defmodule ClaudeSession.Application do
  @moduledoc false
  # The only names this package takes in a VM: one registry, and one supervisor for what sessions share.
  # `rest_for_one`: who was registered must not outlive the registry.

  use Application

  @impl true
  def start(_type, _args) do
    ClaudeSession.JSON.ready!()
    ClaudeSession.Telemetry.ready()

    children = [
      {Registry, keys: :unique, name: ClaudeSession.Registry},
      {DynamicSupervisor, strategy: :one_for_one, name: ClaudeSession.Shared}
    ]

    Supervisor.start_link(children, strategy: :rest_for_one)
  end
end
