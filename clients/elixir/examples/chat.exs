# A conversation in the terminal, with the bridge of this machine (`make run`):
#
#     LC_ALL=C.UTF-8 mix run examples/chat.exs [NAME]
#
# An empty line ends it. The session stays, and is as you left it the next time.

name = List.first(System.argv()) || "chat"
{:ok, _pid} = ClaudeSession.start_link(name)

case ClaudeSession.status(name) do
  {:ok, status} -> IO.puts("#{name}: #{status.state}. Look at it with: #{status.attach}\n")
  {:error, error} -> IO.puts(:stderr, error.message) && System.halt(1)
end

ask = fn request ->
  IO.puts("\nClaude wants to use #{request.tool}: #{inspect(request.input)}")
  if IO.gets("May it? [y/N] ") =~ ~r/^y/i, do: :allow, else: :deny
end

fn -> IO.gets("> ") end
|> Stream.repeatedly()
|> Stream.take_while(&(is_binary(&1) and String.trim(&1) != ""))
|> Enum.each(fn prompt ->
  for event <- ClaudeSession.stream(name, String.trim(prompt), as: :events) do
    case event do
      %{name: :delta, kind: :text, text: text} -> IO.write(text)
      %{name: :tool_started, payload: %{"name" => tool}} -> IO.puts("\n[#{tool}]")
      %{name: :request_opened, request: request} -> ClaudeSession.answer(name, request, ask.(request))
      %{name: :turn_finished, status: :completed} -> IO.puts("\n")
      %{name: :turn_finished, status: status} -> IO.puts("\n(#{status})\n")
      _ -> :ok
    end
  end
end)
