defmodule ClaudeSession.Text do
  @moduledoc false
  # The text of one turn as a stream: what has to be said next so that whoever keeps all that was said has the text.
  #
  # Deltas are a preview that may be withdrawn (`discard`), told again under another block (the terminal), or read again
  # from the start (the bridge was restarted). So what was said is held against what the text is now: it goes on where
  # the one begins the other; it waits where the text is shorter; and where they part, which is when Claude began
  # its answer again, the text is said anew on a line of its own. What was said cannot be taken back.

  alias ClaudeSession.{Event, Turn}

  defstruct blocks: %{}, said: "", last: nil, even: true

  @typedoc "`even`: all of the text was said, and `last` is the last block's number; the case in which a delta is cheap."
  @type t :: %__MODULE__{
          blocks: %{optional(non_neg_integer) => binary},
          said: binary,
          last: non_neg_integer | nil,
          even: boolean
        }

  @doc "What an event adds, which may be nothing."
  @spec take(t, Event.t()) :: {binary, t}
  def take(text, %Event{payload: %{"parent" => parent}}) when parent != nil, do: {"", text}

  # The plain case: one more piece of the last block.
  def take(%{even: true, last: n} = text, %Event{name: :delta, kind: :text, block: n, text: more})
      when n != nil do
    {more, %{text | blocks: Map.update!(text.blocks, n, &(&1 <> more)), said: text.said <> more}}
  end

  def take(text, %Event{name: :delta, kind: :text, block: n, text: more}) do
    settled(%{text | blocks: Map.update(text.blocks, n, more, &(&1 <> more))})
  end

  def take(text, %Event{name: :block, kind: :text, block: n, text: whole}) do
    settled(%{text | blocks: Map.put(text.blocks, n, whole)})
  end

  def take(text, %Event{name: :discard, block: n}) do
    settled(%{text | blocks: Map.delete(text.blocks, n)})
  end

  def take(text, %Event{name: :snapshot, snapshot: %Turn{blocks: blocks}}) do
    found = for %{"kind" => "text"} = b <- blocks, b["parent"] == nil, into: %{}, do: {b["block"], b["text"]}
    settled(%{text | blocks: found})
  end

  # Whose blocks nobody has told, as of a slash command or a turn that was lost: the text of its end.
  def take(%{said: "", blocks: blocks} = text, %Event{name: :turn_finished, text: whole})
      when blocks == %{} and is_binary(whole),
      do: {whole, %{text | said: whole}}

  def take(text, _event), do: {"", text}

  defp settled(text) do
    now = whole(text.blocks)
    last = text.blocks |> Map.keys() |> Enum.max(fn -> nil end)
    said = byte_size(text.said)

    cond do
      String.starts_with?(now, text.said) ->
        more = binary_part(now, said, byte_size(now) - said)
        {more, %{text | said: now, last: last, even: true}}

      String.starts_with?(text.said, now) ->
        {"", %{text | last: last, even: false}}

      true ->
        {"\n" <> now, %{text | said: now, last: last, even: true}}
    end
  end

  # Blocks that follow each other are one message's; between others stands a tool or a thought.
  defp whole(blocks) do
    {text, _} =
      blocks
      |> Enum.reject(&(elem(&1, 1) == ""))
      |> Enum.sort()
      |> Enum.reduce({"", nil}, fn
        {n, text}, {"", nil} -> {text, n}
        {n, text}, {all, before} -> {all <> if(n == before + 1, do: "", else: "\n\n") <> text, n}
      end)

    text
  end
end
