# The Elixir client's side of `bench.elixir`: `elixir -pa EBIN elixir_client.exs URL TOKEN`. It says a line of JSON when it is
# up, and one for each line that it is asked.

defmodule Bench do
  alias ClaudeSession.JSON

  def main([url, token]) do
    {:ok, _} = Application.ensure_all_started(:claude_session)
    System.trap_signal(:sigterm, fn -> System.halt(0) end)
    say(%{up: true})
    :stdio |> IO.stream(:line) |> Enum.each(&asked(&1, url: url, token: token))
  end

  defp asked(line, options) do
    {:ok, command} = JSON.decode(line)
    say(perform(command, options))
  end

  defp perform(%{"do" => "echo", "trips" => trips}, options) do
    took =
      for _ <- 1..trips do
        {took, {:ok, _sessions}} = timed(fn -> ClaudeSession.fetch_sessions(options) end)
        took / 1_000
      end

    %{took: took}
  end

  defp perform(%{"do" => "turn", "prompt" => prompt}, options) do
    with {:ok, _} <- ClaudeSession.start_link("elixir", options), do: {:ok, _} = ClaudeSession.status("elixir")

    {took, bytes} =
      timed(fn -> "elixir" |> ClaudeSession.stream(prompt) |> Enum.reduce(0, &(byte_size(&1) + &2)) end)

    %{took_s: took / 1_000_000_000, bytes: bytes}
  end

  # In ns.
  defp timed(work) do
    began = System.monotonic_time(:nanosecond)
    result = work.()
    {System.monotonic_time(:nanosecond) - began, result}
  end

  defp say(values), do: IO.puts(JSON.encode!(values))
end

Bench.main(System.argv())
