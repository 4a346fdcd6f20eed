defmodule ClaudeSession.Values do
  @moduledoc false
  # The wire's words that are atoms here. Sets are closed, so that no server can make atoms; a word that is not known
  # becomes what the type has for "not known".

  @turns ~w(queued running completed interrupted failed cancelled unknown)a
  @states ~w(starting idle busy waiting restarting stopped failed unknown)a
  @backends ~w(headless tmux api)a
  @kinds ~w(text thinking)a
  @requests ~w(permission question plan)a
  @sources ~w(client terminal)a
  @outcomes ~w(allowed denied withdrawn expired)a
  @events ~w(turn_queued turn_started steered delta discard block tool_started tool_finished request_opened
    request_closed turn_finished session_changed)a

  for {name, words, otherwise} <- [
        {:turn_status, @turns, :unknown},
        {:state, @states, :unknown},
        {:backend, @backends, nil},
        {:block_kind, @kinds, nil},
        {:request_kind, @requests, nil},
        {:source, @sources, nil},
        {:outcome, @outcomes, nil},
        {:event, @events, nil}
      ] do
    @words Map.new(words, &{Atom.to_string(&1), &1})
    def unquote(name)(word), do: Map.get(unquote(Macro.escape(@words)), word, unquote(otherwise))
  end

  @doc "RFC 3339 as a `DateTime`; nil for what is none."
  def time(nil), do: nil

  def time(said) do
    case DateTime.from_iso8601(said) do
      {:ok, time, _offset} -> time
      {:error, _} -> nil
    end
  end
end
