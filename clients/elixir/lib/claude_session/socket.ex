defmodule ClaudeSession.Socket do
  @moduledoc false
  # A WebSocket over `:gen_tcp` or `:ssl`: connecting and the handshake, which block until a deadline and are done in
  # a process of their own, then sending and reading. Which process owns it is its user's affair.

  alias ClaudeSession.{Frame, Target}

  @enforce_keys [:module, :socket]
  defstruct [:module, :socket, frame: %Frame{}]

  @type t :: %__MODULE__{module: :gen_tcp | :ssl, socket: term, frame: Frame.t()}

  # A peer that takes nothing for so long is gone: the heartbeat would say the same a little later.
  @send_ms 10_000

  @doc """
  Connect and shake hands, within `timeout` ms. `{:refused, status}`: an HTTP status in place of the upgrade.

  TLS is verified against the system's authorities and the host's name, unless the target has options of its own or
  names the one certificate that may be shown.
  """
  @spec connect(Target.t(), timeout :: pos_integer) ::
          {:ok, t} | {:error, {:refused, pos_integer} | :timeout | term}
  def connect(%Target{} = target, timeout) do
    deadline = System.monotonic_time(:millisecond) + timeout

    with {:ok, socket} <- open(target, deadline) do
      case shake_hands(socket, target, deadline) do
        :ok ->
          {:ok, socket}

        error ->
          close(socket)
          error
      end
    end
  end

  @doc "Hand the socket to another process, which reads it from now on, one packet at a time."
  @spec give(t, pid) :: :ok | {:error, term}
  def give(%__MODULE__{module: module, socket: socket}, pid), do: module.controlling_process(socket, pid)

  @doc "Ask for the next packet, as a message to the owner."
  @spec next(t) :: :ok | {:error, term}
  def next(%__MODULE__{module: :gen_tcp, socket: socket}), do: :inet.setopts(socket, active: :once)
  def next(%__MODULE__{module: :ssl, socket: socket}), do: :ssl.setopts(socket, active: :once)

  @spec send(t, Frame.message()) :: :ok | {:error, term}
  def send(%__MODULE__{module: module, socket: socket, frame: frame}, message) do
    module.send(socket, Frame.encode(message, frame.role))
  end

  @doc "What a message of the owner's mailbox is: `:other` where it is not this socket's."
  @spec read(t, term) ::
          {:ok, [Frame.message()], t}
          | {:broken, pos_integer, [Frame.message()]}
          | {:closed, term}
          | :other
  def read(%__MODULE__{socket: socket} = ws, {tag, socket, data}) when tag in [:tcp, :ssl] do
    case Frame.take(ws.frame, data) do
      {:ok, messages, frame} -> {:ok, messages, %{ws | frame: frame}}
      {:error, code, messages} -> {:broken, code, messages}
    end
  end

  def read(%__MODULE__{socket: socket}, {tag, socket}) when tag in [:tcp_closed, :ssl_closed],
    do: {:closed, :closed}

  def read(%__MODULE__{socket: socket}, {tag, socket, reason}) when tag in [:tcp_error, :ssl_error],
    do: {:closed, reason}

  def read(_ws, _message), do: :other

  @spec close(t) :: :ok
  def close(%__MODULE__{module: module, socket: socket}) do
    module.close(socket)
    :ok
  end

  # --- connecting --------------------------------------------------------------------------------

  defp open(target, deadline) do
    tcp = [:binary, active: false, nodelay: true, send_timeout: @send_ms, send_timeout_close: true]

    Enum.reduce_while(addresses(target.host), {:error, :nxdomain}, fn {address, family}, _ ->
      case open(target, address, [family | tcp], deadline) do
        {:ok, socket} -> {:halt, {:ok, socket}}
        error -> {:cont, error}
      end
    end)
  end

  # A name may lead to either family; a literal address says which.
  defp addresses(host) do
    case :inet.parse_address(String.to_charlist(host)) do
      {:ok, address} when tuple_size(address) == 8 -> [{address, :inet6}]
      {:ok, address} -> [{address, :inet}]
      {:error, _} -> for family <- [:inet6, :inet], do: {String.to_charlist(host), family}
    end
  end

  defp open(%{tls: nil, port: port}, address, options, deadline) do
    with {:ok, socket} <- :gen_tcp.connect(address, port, options, left(deadline)) do
      {:ok, %__MODULE__{module: :gen_tcp, socket: socket}}
    end
  end

  defp open(%{tls: tls, port: port, host: host}, address, options, deadline) do
    options = options ++ tls_options(tls, host)

    with {:ok, socket} <- :ssl.connect(address, port, options, left(deadline)) do
      ws = %__MODULE__{module: :ssl, socket: socket}

      if shows?(socket, tls[:certificate]) do
        {:ok, ws}
      else
        close(ws)
        {:error, {:tls, :other_certificate}}
      end
    end
  end

  defp tls_options(tls, host) do
    {certificate, own} = Keyword.pop(tls, :certificate)

    verified =
      cond do
        certificate != nil ->
          # Compared by `shows?` before anything is said: it says more than any authority.
          [verify: :verify_none]

        Keyword.has_key?(own, :cacerts) or Keyword.has_key?(own, :cacertfile) or own[:verify] == :verify_none ->
          verified(host)

        true ->
          [cacerts: :public_key.cacerts_get()] ++ verified(host)
      end

    Keyword.merge(verified, own)
  end

  defp verified(host) do
    [
      verify: :verify_peer,
      depth: 10,
      server_name_indication: String.to_charlist(host),
      customize_hostname_check: [match_fun: :public_key.pkix_verify_hostname_match_fun(:https)]
    ]
  end

  defp shows?(_socket, nil), do: true

  defp shows?(socket, certificate) do
    case :ssl.peercert(socket) do
      {:ok, der} -> Base.encode16(:crypto.hash(:sha256, der), case: :lower) == String.downcase(certificate)
      {:error, _} -> false
    end
  end

  # --- the handshake -----------------------------------------------------------------------------

  # OTP reads the answer's head as packets of HTTP; what follows it is raw again, whatever came with it.
  defp shake_hands(ws, target, deadline) do
    key = Base.encode64(:crypto.strong_rand_bytes(16))

    request = [
      ["GET ", Target.path(target), " HTTP/1.1\r\nHost: ", Target.authority(target)],
      "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ",
      [key, "\r\n\r\n"]
    ]

    with :ok <- setopts(ws, packet: :http_bin, packet_size: 16_384),
         :ok <- ws.module.send(ws.socket, request),
         {:ok, {:http_response, _version, status, _phrase}} <- receive_packet(ws, deadline),
         {:ok, headers} <- headers(ws, deadline, %{}),
         :ok <- upgraded(status, headers, key) do
      setopts(ws, packet: :raw, packet_size: 0)
    else
      {:ok, {:http_error, _line}} -> {:error, :not_http}
      {:ok, other} -> {:error, {:unexpected, other}}
      error -> error
    end
  end

  defp headers(ws, deadline, found) do
    case receive_packet(ws, deadline) do
      {:ok, :http_eoh} ->
        {:ok, found}

      {:ok, {:http_header, _, name, _, value}} ->
        headers(ws, deadline, Map.put(found, String.downcase(to_string(name)), value))

      {:ok, _other} ->
        {:error, :not_http}

      error ->
        error
    end
  end

  defp upgraded(101, headers, key) do
    upgrade = String.downcase(headers["upgrade"] || "")

    cond do
      upgrade != "websocket" or headers["sec-websocket-accept"] != Frame.accept(key) ->
        {:error, :no_websocket}

      headers["sec-websocket-extensions"] != nil ->
        {:error, :unasked_extension}

      true ->
        :ok
    end
  end

  defp upgraded(status, _headers, _key), do: {:error, {:refused, status}}

  defp receive_packet(ws, deadline), do: ws.module.recv(ws.socket, 0, left(deadline))

  defp setopts(%{module: :gen_tcp, socket: socket}, options), do: :inet.setopts(socket, options)
  defp setopts(%{module: :ssl, socket: socket}, options), do: :ssl.setopts(socket, options)

  defp left(deadline), do: max(deadline - System.monotonic_time(:millisecond), 0)
end
