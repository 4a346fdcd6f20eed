defmodule ClaudeSession.TlsTest do
  @moduledoc "TLS: nothing is said to a server that is not the one that is meant."
  use ExUnit.Case, async: true

  alias ClaudeSession.{Frame, Socket, Target}

  setup_all do
    # A root, and a certificate for localhost under it.
    name = {:Extension, {2, 5, 29, 17}, false, [dNSName: 'localhost']}
    key = {:key, {:namedCurve, :secp256r1}}
    chain = fn -> %{root: [key], intermediates: [], peer: [key, {:extensions, [name]}]} end
    data = :public_key.pkix_test_data(%{server_chain: chain.(), client_chain: chain.()})
    {:ok, listener} = :ssl.listen(0, [:binary, active: false, ip: {127, 0, 0, 1}] ++ data[:server_config])
    {:ok, {_, port}} = :ssl.sockname(listener)
    spawn_link(fn -> serve(listener) end)
    [port: port, roots: data[:client_config][:cacerts], der: data[:server_config][:cert]]
  end

  defp serve(listener) do
    with {:ok, socket} <- :ssl.transport_accept(listener), {:ok, socket} <- :ssl.handshake(socket, 5_000) do
      with {:ok, head} <- :ssl.recv(socket, 0, 5_000),
           [_, key] <- Regex.run(~r/Sec-WebSocket-Key: (\S+)/, head) do
        # The first frame in the same write as the answer.
        answer = "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        :ssl.send(socket, [answer, Frame.accept(key), "\r\n\r\n", Frame.encode({:text, "first"}, :server)])
      end
    end

    serve(listener)
  end

  defp connect(port, tls),
    do: Socket.connect(%Target{host: "localhost", port: port, token: "t", tls: tls}, 5_000)

  @tag :capture_log
  test "an unknown authority is refused", %{port: port} do
    assert {:error, {:tls_alert, _}} = connect(port, [])
  end

  test "a known one is taken, and what came with the handshake is not lost", %{port: port, roots: roots} do
    assert {:ok, socket} = connect(port, cacerts: roots)
    :ok = Socket.next(socket)
    assert_receive {:ssl, _, _} = message
    assert {:ok, [{:text, "first"}], _} = Socket.read(socket, message)
    Socket.close(socket)
  end

  @tag :capture_log
  test "a certificate for another name is refused", %{port: port, roots: roots} do
    target = %Target{host: "127.0.0.1", port: port, token: "t", tls: [cacerts: roots]}
    assert {:error, {:tls_alert, _}} = Socket.connect(target, 5_000)
  end

  test "the one certificate that is named is taken, and no other", %{port: port, der: der} do
    digest = Base.encode16(:crypto.hash(:sha256, der))
    assert {:ok, socket} = connect(port, certificate: digest)
    Socket.close(socket)
    assert {:error, {:tls, :other_certificate}} = connect(port, certificate: String.duplicate("0", 64))
  end
end
