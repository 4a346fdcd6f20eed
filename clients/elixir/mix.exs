defmodule ClaudeSession.MixProject do
  use Mix.Project

  @version "0.1.0"

  def project do
    [
      app: :claude_session,
      version: @version,
      elixir: "~> 1.14",
      start_permanent: Mix.env() == :prod,
      elixirc_paths: elixirc_paths(Mix.env()),
      deps: deps(),
      # Whichever of them is there is used; none is a dependency.
      xref: [exclude: [JSON, Jason, :json, :jiffy, :telemetry]],
      test_coverage: [summary: [threshold: 80]],
      description: "Claude sessions behind claude-bridge, as processes of an Elixir application",
      package: package(),
      name: "ClaudeSession",
      docs: docs()
    ]
  end

  def application do
    [mod: {ClaudeSession.Application, []}, extra_applications: [:logger, :crypto, :ssl]]
  end

  defp elixirc_paths(:test), do: ["lib", "test/support"]
  defp elixirc_paths(_), do: ["lib"]

  # Mix without Hex refuses a project that lists any package, even an optional one; where Hex is, these are the
  # optional ones that this package knows.
  defp deps do
    if Code.ensure_loaded?(Hex) and System.get_env("CLAUDE_SESSION_NO_DEPS") == nil do
      [
        {:jason, "~> 1.4", optional: true},
        {:telemetry, "~> 1.0", optional: true},
        {:ex_doc, "~> 0.34", only: :docs, runtime: false}
      ]
    else
      []
    end
  end

  defp package do
    [
      licenses: ["Apache-2.0"],
      links: %{},
      files: ~w(lib guides examples mix.exs .formatter.exs README.md CHANGELOG.md LICENSE)
    ]
  end

  defp docs do
    [
      main: "readme",
      extras: ["README.md", "CHANGELOG.md" | Path.wildcard("guides/*.md")],
      groups_for_extras: [Guides: ~r"guides/"],
      groups_for_modules: [
        Values: [ClaudeSession.Event, ClaudeSession.Turn, ClaudeSession.Request, ClaudeSession.Status]
      ]
    ]
  end
end
