defmodule ClaudeSession.Cutter do
  @moduledoc false
  # A way to the bridge that breaks where a test wants it to: `allow` events pass on each connection (a list: on the
  # first, the second and so on; the last of it counts for all others), then it is cut; `half`: in the middle of the
  # frame behind the last, else right at its end. An event is a frame with `mark` in it; numbered ones by default.

  alias ClaudeSession.Frame

  @numbered ~s("seq":)

  def start(url, allow, half \\ false, mark \\ @numbered) do
    allow = List.wrap(allow)
    %URI{port: to} = URI.parse(url)

    {:ok, listener} =
      :gen_tcp.listen(0, [:binary, active: false, ip: {127, 0, 0, 1}, reuseaddr: true, nodelay: true])

    {:ok, port} = :inet.port(listener)
    counts = :counters.new(3, [])
    pid = spawn_link(fn -> accept(listener, to, allow, %{half: half, mark: mark, counts: counts}) end)
    :ok = :gen_tcp.controlling_process(listener, pid)
    %{url: "http://127.0.0.1:#{port}", pid: pid, counts: counts}
  end

  def cuts(cutter), do: :counters.get(cutter.counts, 1)
  def events(cutter), do: :counters.get(cutter.counts, 2)
  def connections(cutter), do: :counters.get(cutter.counts, 3)

  def stop(cutter) do
    Process.unlink(cutter.pid)
    Process.exit(cutter.pid, :kill)
  end

  defp accept(listener, to, allow, how) do
    {:ok, client} = :gen_tcp.accept(listener)
    :counters.add(how.counts, 3, 1)

    pid =
      spawn_link(fn ->
        receive do
          :go -> serve(client, to, Map.put(how, :allow, hd(allow)))
        end
      end)

    :gen_tcp.controlling_process(client, pid)
    send(pid, :go)
    accept(listener, to, if(tl(allow) == [], do: allow, else: tl(allow)), how)
  end

  defp serve(client, to, how) do
    case :gen_tcp.connect({127, 0, 0, 1}, to, [:binary, active: true, nodelay: true]) do
      {:ok, bridge} ->
        :inet.setopts(client, active: true)
        loop(Map.merge(how, %{client: client, bridge: bridge, head: "", frame: nil}))

      {:error, _} ->
        :gen_tcp.close(client)
    end
  end

  defp loop(%{client: client, bridge: bridge} = state) do
    receive do
      {:tcp, ^client, data} ->
        :gen_tcp.send(bridge, data)
        loop(state)

      {:tcp, ^bridge, data} ->
        case downward(state, data) do
          :cut -> finish(state)
          state -> loop(state)
        end

      {:tcp_closed, _} ->
        finish(state)

      {:tcp_error, _, _} ->
        finish(state)
    end
  end

  defp finish(state) do
    :gen_tcp.close(state.client)
    :gen_tcp.close(state.bridge)
  end

  # The answer to the handshake, then frames.
  defp downward(%{frame: nil} = state, data) do
    case String.split(state.head <> data, "\r\n\r\n", parts: 2) do
      [head, rest] ->
        :gen_tcp.send(state.client, head <> "\r\n\r\n")
        downward(%{state | frame: %Frame{}}, rest)

      [head] ->
        %{state | head: head}
    end
  end

  defp downward(state, data) do
    {:ok, messages, frame} = Frame.take(state.frame, data)
    Enum.reduce_while(messages, %{state | frame: frame}, &hand_on/2)
  end

  defp hand_on(message, state) do
    event? = match?({:text, _}, message) and event?(elem(message, 1), state.mark)
    bytes = IO.iodata_to_binary(Frame.encode(message, :server))

    if event? and state.allow == 0 do
      :counters.add(state.counts, 1, 1)
      if state.half, do: :gen_tcp.send(state.client, binary_part(bytes, 0, div(byte_size(bytes), 2)))
      {:halt, :cut}
    else
      :gen_tcp.send(state.client, bytes)
      if event?, do: :counters.add(state.counts, 2, 1)
      {:cont, if(event?, do: %{state | allow: state.allow - 1}, else: state)}
    end
  end

  defp event?(text, mark), do: String.contains?(text, mark) and not String.contains?(text, ~s("phx_reply"))
end
