defmodule ClaudeSession.JSON do
  @moduledoc """
  The JSON library that is used: the configured one, else the first that is there.

      config :claude_session, json_library: Jason

  Known are `JSON` (Elixir 1.18 and later), `Jason`, `:json` (OTP 27 and later) and `:jiffy`, looked for in this order.
  Any other module will do that has `decode/1`, answering `{:ok, term}` or `{:error, reason}`, and
  `encode_to_iodata!/1`, as Jason has them. Without any of them the application does not start, and says so.
  """

  @known [JSON, Jason, :json, :jiffy]

  @doc """
  The library in use.

      iex> is_atom(ClaudeSession.JSON.library())
      true
  """
  @doc since: "0.1.0"
  @spec library() :: module
  def library do
    case Application.fetch_env(:claude_session, :json_library) do
      {:ok, chosen} -> chosen
      :error -> found()
    end
  end

  @doc """
  A term as JSON. Raises where it has something that JSON has not, as bytes that are no UTF-8.

      iex> ClaudeSession.JSON.encode!(%{"prompt" => "hello", "model" => nil})
      ...> |> ClaudeSession.JSON.decode()
      {:ok, %{"model" => nil, "prompt" => "hello"}}
  """
  @doc since: "0.1.0"
  @spec encode!(term) :: binary
  def encode!(term), do: IO.iodata_to_binary(encode_with(library(), term))

  @doc """
  What a JSON text says: objects as maps with strings for keys, `null` as `nil`.

      iex> ClaudeSession.JSON.decode(~s([null,{"a":1.5}]))
      {:ok, [nil, %{"a" => 1.5}]}

      iex> {:error, _} = ClaudeSession.JSON.decode("[1,")
  """
  @doc since: "0.1.0"
  @spec decode(binary) :: {:ok, term} | {:error, term}
  def decode(text), do: decode_with(library(), text)

  @doc false
  def ready! do
    if found = library(), do: Application.put_env(:claude_session, :json_library, found)
    Code.ensure_loaded(library())
    :ok
  end

  defp found do
    Enum.find(@known, &Code.ensure_loaded?/1) ||
      raise """
      ClaudeSession needs a JSON library: Elixir 1.18 or later has one, as has OTP 27. Otherwise add
      {:jason, "~> 1.4"} to your dependencies, or install jiffy (Debian: erlang-jiffy), or name another with
      `config :claude_session, json_library: MyJSON`.
      """
  end

  defp encode_with(JSON, term), do: JSON.encode_to_iodata!(term)
  defp encode_with(:json, term), do: :json.encode(term, &json_value/2)

  defp encode_with(:jiffy, term) do
    :jiffy.encode(term, [:use_nil])
  catch
    # jiffy throws, or raises bare terms, where others raise.
    _, reason -> raise ArgumentError, "not to be said in JSON: #{inspect(reason)}"
  end

  defp encode_with(library, term), do: library.encode_to_iodata!(term)

  # :json writes every atom but three as a string.
  defp json_value(nil, _encode), do: "null"
  defp json_value(value, encode), do: :json.encode_value(value, encode)

  defp decode_with(JSON, text), do: JSON.decode(text)

  defp decode_with(:json, text) do
    {value, :ok, rest} = :json.decode(text, :ok, %{null: nil})
    if String.trim(rest) == "", do: {:ok, value}, else: {:error, {:rest, rest}}
  rescue
    e -> {:error, e}
  end

  defp decode_with(:jiffy, text) do
    # Copied: else a word of a delta keeps the whole packet that brought it.
    {:ok, :jiffy.decode(text, [:return_maps, :use_nil, :copy_strings])}
  rescue
    e -> {:error, e}
  catch
    _, reason -> {:error, reason}
  end

  defp decode_with(library, text), do: library.decode(text)
end
