defmodule ClaudeSession.Frame do
  @moduledoc false
  # WebSocket frames (RFC 6455) as pure functions: bytes to frames and back, and frames to messages. Knows no socket.

  defstruct role: :client, max: 16 * 1024 * 1024, buffer: "", part: nil

  @typedoc """
  What has come of a message. `role` is our own side's: a client masks what it sends, and takes nothing that is
  masked. A message of more than `max` bytes is not taken; the bridge's largest, a snapshot, has 4 MB.
  """
  @type t :: %__MODULE__{
          role: :client | :server,
          max: pos_integer,
          buffer: binary,
          part: nil | {:text | :binary, iodata, non_neg_integer}
        }
  @type message ::
          {:text | :binary | :ping | :pong, binary} | {:close, code :: 1000..4999 | nil, reason :: binary}

  @opcodes %{0 => :continuation, 1 => :text, 2 => :binary, 8 => :close, 9 => :ping, 10 => :pong}
  @numbers Map.new(@opcodes, fn {number, name} -> {name, number} end)
  @control [:close, :ping, :pong]

  @protocol_error 1002
  @not_utf8 1007
  @too_big 1009

  @doc "A message as one frame. `mask` is for tests; a client's is random, a server has none."
  @spec encode(message, :client | :server, binary | nil) :: iodata
  def encode(message, role, mask \\ nil)

  def encode({:close, nil, _reason}, role, mask), do: frame(:close, "", role, mask)

  def encode({:close, code, reason}, role, mask),
    do: frame(:close, <<code::16, reason::binary>>, role, mask)

  def encode({opcode, payload}, role, mask), do: frame(opcode, payload, role, mask)

  defp frame(opcode, payload, :server, _mask) do
    [<<1::1, 0::3, @numbers[opcode]::4>>, size(byte_size(payload), 0), payload]
  end

  defp frame(opcode, payload, :client, mask) do
    mask = mask || :crypto.strong_rand_bytes(4)
    [<<1::1, 0::3, @numbers[opcode]::4>>, size(byte_size(payload), 1), mask, masked(payload, mask)]
  end

  defp size(n, bit) when n < 126, do: <<bit::1, n::7>>
  defp size(n, bit) when n < 65_536, do: <<bit::1, 126::7, n::16>>
  defp size(n, bit), do: <<bit::1, 127::7, n::64>>

  defp masked("", _mask), do: ""

  defp masked(payload, mask) do
    size = byte_size(payload)
    :crypto.exor(payload, binary_part(:binary.copy(mask, div(size + 3, 4)), 0, size))
  end

  @doc """
  Takes in what was received; the messages that are complete by it, in order. After an error, which is the close
  code to answer with, nothing more can be read.
  """
  @spec take(t, binary) :: {:ok, [message], t} | {:error, 1002 | 1007 | 1009, [message]}
  def take(%__MODULE__{buffer: buffer} = state, data) do
    messages(%{state | buffer: buffer <> data}, [])
  end

  defp messages(state, done) do
    with {:frame, fin, opcode, payload, rest} <- split(state),
         {:ok, found, state} <- assemble(%{state | buffer: rest}, fin, opcode, payload) do
      messages(state, found ++ done)
    else
      :more -> {:ok, Enum.reverse(done), state}
      {:error, code} -> {:error, code, Enum.reverse(done)}
    end
  end

  # --- one frame ---------------------------------------------------------------------------------

  defp split(%{buffer: <<_fin::1, rsv::3, _::4, _::binary>>}) when rsv != 0, do: {:error, @protocol_error}

  defp split(%{buffer: <<fin::1, _::3, op::4, mask::1, size::7, rest::binary>>} = state) do
    opcode = @opcodes[op]

    cond do
      opcode == nil -> {:error, @protocol_error}
      mask != if(state.role == :server, do: 1, else: 0) -> {:error, @protocol_error}
      opcode in @control and (fin == 0 or size > 125) -> {:error, @protocol_error}
      true -> sized(state, fin, opcode, mask, size, rest)
    end
  end

  defp split(_state), do: :more

  defp sized(state, fin, opcode, mask, 126, <<size::16, rest::binary>>),
    do: body(state, fin, opcode, mask, size, rest)

  defp sized(state, fin, opcode, mask, 127, <<size::64, rest::binary>>),
    do: body(state, fin, opcode, mask, size, rest)

  defp sized(_state, _fin, _opcode, _mask, size, _rest) when size > 125, do: :more
  defp sized(state, fin, opcode, mask, size, rest), do: body(state, fin, opcode, mask, size, rest)

  defp body(%{max: max}, _fin, _opcode, _mask, size, _rest) when size > max, do: {:error, @too_big}

  defp body(_state, fin, opcode, 1, size, rest) do
    case rest do
      <<mask::binary-4, payload::binary-size(size), rest::binary>> ->
        {:frame, fin, opcode, masked(payload, mask), rest}

      _ ->
        :more
    end
  end

  defp body(_state, fin, opcode, 0, size, rest) do
    case rest do
      <<payload::binary-size(size), rest::binary>> -> {:frame, fin, opcode, payload, rest}
      _ -> :more
    end
  end

  # --- frames to messages ------------------------------------------------------------------------

  defp assemble(state, 1, :close, ""), do: {:ok, [{:close, nil, ""}], state}

  defp assemble(state, 1, :close, <<code::16, reason::binary>>)
       when code in 1000..1003 or code in 1007..1014 or code in 3000..4999 do
    if String.valid?(reason), do: {:ok, [{:close, code, reason}], state}, else: {:error, @not_utf8}
  end

  defp assemble(_state, 1, :close, _payload), do: {:error, @protocol_error}

  defp assemble(state, 1, opcode, payload) when opcode in [:ping, :pong],
    do: {:ok, [{opcode, payload}], state}

  defp assemble(%{part: nil}, _fin, :continuation, _payload), do: {:error, @protocol_error}

  defp assemble(%{part: {_, _, _}}, _fin, opcode, _payload) when opcode != :continuation,
    do: {:error, @protocol_error}

  defp assemble(state, fin, opcode, payload) do
    {kind, begun, size} = state.part || {opcode, [], 0}
    size = size + byte_size(payload)
    whole = [begun, payload]

    cond do
      size > state.max -> {:error, @too_big}
      fin == 0 -> {:ok, [], %{state | part: {kind, whole, size}}}
      true -> complete(%{state | part: nil}, kind, IO.iodata_to_binary(whole))
    end
  end

  defp complete(state, :text, text) do
    if String.valid?(text), do: {:ok, [{:text, text}], state}, else: {:error, @not_utf8}
  end

  defp complete(state, :binary, data), do: {:ok, [{:binary, data}], state}

  @doc "The answer to a client's `Sec-WebSocket-Key`."
  @spec accept(binary) :: binary
  def accept(key), do: Base.encode64(:crypto.hash(:sha, key <> "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
end
