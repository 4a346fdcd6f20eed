defmodule ClaudeSession.Testing.Peer do
  @moduledoc false
  # One client's connection to the stand-in: the server's side of the handshake, then frames.

  alias ClaudeSession.{Frame, JSON, Wire}

  def accept(listener, bridge, token) do
    case :gen_tcp.accept(listener) do
      {:ok, socket} -> accepted(socket, listener, bridge, token)
      {:error, _closed} -> :ok
    end
  end

  defp accepted(socket, listener, bridge, token) do
    pid =
      spawn(fn ->
        receive do
          :go -> serve(socket, bridge, token)
        end
      end)

    :ok = :gen_tcp.controlling_process(socket, pid)
    send(pid, :go)
    accept(listener, bridge, token)
  end

  def say(peer, frame), do: send(peer, {:say, frame})
  def cut(peer), do: Process.exit(peer, :kill)

  defp serve(socket, bridge, token) do
    :inet.setopts(socket, packet: :http_bin)

    with {:ok, {:http_request, :GET, {:abs_path, path}, _}} <- :gen_tcp.recv(socket, 0, 5_000),
         %{"sec-websocket-key" => key} <- headers(socket, %{}) do
      if URI.decode_query(URI.parse(path).query || "")["token"] == token do
        Process.monitor(bridge)
        :ok = GenServer.call(bridge, :hello)

        answer =
          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "

        :gen_tcp.send(socket, [answer, Frame.accept(key), "\r\n\r\n"])
        :inet.setopts(socket, packet: :raw, active: :once)
        loop(socket, bridge, %Frame{role: :server})
      else
        :gen_tcp.send(socket, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
      end
    end
  end

  defp headers(socket, found) do
    case :gen_tcp.recv(socket, 0, 5_000) do
      {:ok, {:http_header, _, name, _, value}} ->
        headers(socket, Map.put(found, String.downcase(to_string(name)), value))

      {:ok, :http_eoh} ->
        found

      _ ->
        :error
    end
  end

  defp loop(socket, bridge, frame) do
    receive do
      {:tcp, ^socket, data} ->
        {:ok, messages, frame} = Frame.take(frame, data)
        Enum.each(messages, &heard(&1, socket, bridge))
        :inet.setopts(socket, active: :once)
        loop(socket, bridge, frame)

      {:say, message} ->
        # All that waits in one go: each `send` looks through the whole mailbox.
        :gen_tcp.send(socket, [text(message) | waiting(500)])
        loop(socket, bridge, frame)

      # The client, or the bridge.
      _gone ->
        :gen_tcp.close(socket)
    end
  end

  defp waiting(0), do: []

  defp waiting(count) do
    receive do
      {:say, message} -> [text(message) | waiting(count - 1)]
    after
      0 -> []
    end
  end

  defp text(message), do: Frame.encode({:text, JSON.encode!(message)}, :server)

  defp heard({:text, text}, _socket, bridge) do
    {:ok, message} = JSON.decode(text)
    GenServer.call(bridge, {:message, message})
  end

  # A submit with files. Of these the size is kept, as a bridge tells it.
  defp heard({:binary, data}, _socket, bridge) do
    {:ok, [join_ref, ref, topic, event, data]} = Wire.decode_push(data)
    {:ok, payload, _files} = Wire.files(data)
    GenServer.call(bridge, {:message, [join_ref, ref, topic, event, payload]})
  end

  defp heard({:ping, data}, socket, _bridge), do: :gen_tcp.send(socket, Frame.encode({:pong, data}, :server))

  defp heard({:close, _code, _reason}, socket, _bridge) do
    :gen_tcp.send(socket, Frame.encode({:close, 1000, ""}, :server))
    exit(:normal)
  end

  defp heard(_other, _socket, _bridge), do: :ok
end
