defmodule ClaudeSession.Wire do
  @moduledoc false
  # The frames of Phoenix Channels, version 2, of the client's side. Payloads going out are JSON already: whoever
  # pushes encodes, so that what cannot be encoded fails there and not in the connection that all share.

  alias ClaudeSession.JSON

  @type ref :: binary | nil
  @type message ::
          {join_ref :: ref, ref, topic :: binary, event :: binary, payload :: map | {:binary, binary}}

  @doc "A text frame's content; `payload` is JSON."
  @spec encode(ref, ref, binary, binary, iodata) :: iodata
  def encode(join_ref, ref, topic, event, payload) do
    [?[, quoted(join_ref), ?,, quoted(ref), ?,, JSON.encode!(topic), ?,, JSON.encode!(event), ?,, payload, ?]]
  end

  defp quoted(nil), do: "null"
  defp quoted(ref), do: [?", ref, ?"]

  @doc "A binary frame's content: a push with bytes. Names have at most 255 bytes."
  @spec encode_binary(binary, binary, binary, binary, binary) :: iodata
  def encode_binary(join_ref, ref, topic, event, data) do
    [
      <<0, byte_size(join_ref), byte_size(ref), byte_size(topic), byte_size(event)>>,
      [join_ref, ref, topic, event, data]
    ]
  end

  @doc """
  The bytes of a `submit` with files: the length of its payload, the payload, where each file's `size` stands for its
  data, and the data of all, one after the other.
  """
  @spec with_files(map, [{map, binary}]) :: binary
  def with_files(payload, files) do
    said = for {file, data} <- files, do: Map.put(file, "size", byte_size(data))
    json = JSON.encode!(Map.put(payload, "attachments", said))
    IO.iodata_to_binary([<<byte_size(json)::32>>, json | Enum.map(files, &elem(&1, 1))])
  end

  @doc "The other side of `with_files`: the payload, and the data of each file."
  @spec files(binary) :: {:ok, map, [binary]} | :error
  def files(<<size::32, json::binary-size(size), bytes::binary>>) do
    with {:ok, %{"attachments" => files} = payload} <- JSON.decode(json),
         {found, ""} <- Enum.map_reduce(files, bytes, &split_at(&1["size"], &2)) do
      {:ok, payload, found}
    else
      _ -> :error
    end
  end

  def files(_bytes), do: :error

  defp split_at(size, bytes) when size <= byte_size(bytes) do
    <<file::binary-size(size), rest::binary>> = bytes
    {file, rest}
  end

  defp split_at(_size, _bytes), do: {"", nil}

  @doc "The other side of `encode_binary`."
  @spec decode_push(binary) :: {:ok, [binary]} | :error
  def decode_push(
        <<0, j, r, t, e, join_ref::binary-size(j), ref::binary-size(r), topic::binary-size(t),
          event::binary-size(e), data::binary>>
      ),
      do: {:ok, [join_ref, ref, topic, event, data]}

  def decode_push(_frame), do: :error

  @doc "What a frame of the server says. A push and a broadcast have no `ref`, a broadcast no `join_ref`."
  @spec decode(:text | :binary, binary) :: {:ok, message} | {:error, term}
  def decode(:text, text) do
    case JSON.decode(text) do
      {:ok, [join_ref, ref, topic, event, payload]}
      when is_binary(topic) and is_binary(event) and is_map(payload) and
             (is_binary(join_ref) or is_nil(join_ref)) and (is_binary(ref) or is_nil(ref)) ->
        {:ok, {join_ref, ref, topic, event, payload}}

      {:ok, _other} ->
        {:error, :no_message}

      {:error, reason} ->
        {:error, reason}
    end
  end

  def decode(
        :binary,
        <<0, j, t, e, join_ref::binary-size(j), topic::binary-size(t), event::binary-size(e), data::binary>>
      ),
      do: {:ok, {join_ref, nil, topic, event, {:binary, data}}}

  def decode(
        :binary,
        <<1, j, r, t, s, join_ref::binary-size(j), ref::binary-size(r), topic::binary-size(t),
          status::binary-size(s), data::binary>>
      ) do
    {:ok, {join_ref, ref, topic, "phx_reply", %{"status" => status, "response" => {:binary, data}}}}
  end

  def decode(:binary, <<2, t, e, topic::binary-size(t), event::binary-size(e), data::binary>>),
    do: {:ok, {nil, nil, topic, event, {:binary, data}}}

  def decode(:binary, _frame), do: {:error, :no_message}
end
