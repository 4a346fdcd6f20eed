defmodule ClaudeSession.Request do
  @moduledoc """
  Something that Claude asks and waits for: `ClaudeSession.answer/3` answers it.

  `kind` is `:permission` (may `tool` be run with `input`), `:question` (`input` has the questions) or `:plan`.
  `suggestions` are rules that an answer may take along, by their index. It waits until somebody answers, here or
  elsewhere, unless the bridge's configuration says otherwise.
  """

  alias ClaudeSession.Values

  defstruct [:id, :kind, :turn, :tool, :call, :opened_at, input: %{}, suggestions: []]

  @type t :: %__MODULE__{
          id: binary,
          kind: :permission | :question | :plan | nil,
          turn: binary | nil,
          tool: binary | nil,
          call: binary | nil,
          input: map,
          suggestions: [map],
          opened_at: DateTime.t() | nil
        }

  @doc false
  @spec from_wire(map) :: t
  def from_wire(request) do
    %__MODULE__{
      id: request["id"],
      kind: Values.request_kind(request["kind"]),
      turn: request["turn"],
      tool: request["tool"],
      call: request["call"],
      input: request["input"] || %{},
      suggestions: request["suggestions"] || [],
      opened_at: Values.time(request["opened_at"])
    }
  end
end
