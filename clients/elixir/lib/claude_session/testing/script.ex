defmodule ClaudeSession.Testing.Script do
  @moduledoc false
  # What a turn of the stand-in does, step by step.

  @type step ::
          {:say, :text | :thinking, [binary]}
          | {:request, binary, map, allowed :: [step], denied :: [step]}
          | {:refuse, binary, map}
          | {:end, binary}
          | :hang

  @spec reply([binary], keyword) :: [step]
  def reply(chunks, options) do
    thought = if options[:thinking], do: [{:say, :thinking, [options[:thinking]]}], else: []
    thought ++ [{:say, :text, chunks}, {:end, to_string(options[:status] || :completed)}]
  end

  @spec request(binary, map, keyword) :: [step]
  def request(tool, input, options) do
    denied = options[:denied] || reply(["I may not."], [])
    [{:request, tool, input, options[:allowed] || reply(["Done."], []), denied}]
  end

  @spec hang([binary]) :: [step]
  def hang(chunks), do: [{:say, :text, chunks}, :hang]

  @spec refuse(binary, map) :: [step]
  def refuse(code, details), do: [{:refuse, code, details}]
end
