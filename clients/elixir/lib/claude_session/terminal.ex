defmodule ClaudeSession.Terminal do
  @moduledoc """
  The live screen of a session, as bytes for a terminal emulator, and the keys that go back.

  A process that joins `terminal:<name>` and sends its owner `{ClaudeSession.Terminal, name, what}`:

    * `{:screen, %{cols: cols, rows: rows, screen: text}}` - `text` repaints the whole picture; first, after every
      reconnect, when the size changes, and in place of output that was missed
    * `{:output, bytes}` - what the session's process wrote, from that picture on
    * `{:error, error}` - it cannot be joined, as for want of the scope; it goes on trying
    * `:disconnected`
    * `:closed` - the session was deleted, and this process ends

  Watching changes nothing and starts nothing. Keys need the scope `control`.
  """

  use GenServer, restart: :transient

  alias ClaudeSession.{Backoff, Error, Link, Options, Target}

  defstruct [:name, :owner, :link, :options, phase: :down]

  # A bridge that is not there, or refuses, is asked again after this.
  @again_ms 2_000

  @doc """
  Watch a session's screen. Options: `:owner`, who is sent it (the caller), and `:url`, `:token`, `:tls` as for
  `ClaudeSession.start_link/2`.

      {:ok, terminal} = ClaudeSession.Terminal.start_link("coding")

      receive do
        {ClaudeSession.Terminal, "coding", {:screen, %{screen: screen}}} -> IO.write(screen)
      end
  """
  @doc since: "0.1.0"
  @spec start_link(binary, keyword) :: GenServer.on_start() | {:error, Error.t()}
  def start_link(name, options \\ []) do
    Options.check!(options, [:owner | Options.connection_keys()])

    with :ok <- Options.name(name) do
      GenServer.start_link(__MODULE__, {name, options[:owner] || self(), Options.connection(options)})
    end
  end

  @doc """
  Send keys, as bytes. They are not sent again where the connection breaks.

      :ok = ClaudeSession.Terminal.input(terminal, "\\e[A")
  """
  @doc since: "0.1.0"
  @spec input(pid, binary) :: :ok
  def input(terminal, bytes) when is_binary(bytes), do: GenServer.cast(terminal, {:input, bytes})

  @doc """
  Give the session's terminal another size, for all who watch; the last one counts.

      :ok = ClaudeSession.Terminal.resize(terminal, 120, 40)
  """
  @doc since: "0.1.0"
  @spec resize(pid, 20..500, 5..300) :: :ok
  def resize(terminal, cols, rows) when cols in 20..500 and rows in 5..300 do
    GenServer.cast(terminal, {:resize, cols, rows})
  end

  @impl true
  def init({name, owner, options}) do
    Process.monitor(owner)
    {:ok, %__MODULE__{name: name, owner: owner, options: options}, {:continue, :open}}
  end

  @impl true
  def handle_continue(:open, state), do: {:noreply, open(state)}

  defp open(state) do
    case Target.find(state.options) do
      {:ok, target} ->
        %{state | link: Link.open(target, "terminal:" <> state.name, Options.heartbeat(state.options))}

      {:error, error} ->
        again(tell(state, {:error, error}), @again_ms)
    end
  end

  @impl true
  def handle_cast({:input, bytes}, %{phase: :joined} = state) do
    {:noreply, %{state | link: Link.push_binary(state.link, "input", bytes)}}
  end

  def handle_cast({:resize, cols, rows}, %{phase: :joined} = state) do
    {:noreply, %{state | link: Link.push(state.link, :resize, "resize", %{"cols" => cols, "rows" => rows})}}
  end

  def handle_cast(_not_joined, state), do: {:noreply, state}

  @impl true
  def handle_info(:again, %{link: nil} = state), do: {:noreply, open(state)}
  def handle_info(:again, %{phase: :refused} = state), do: {:noreply, join(state)}
  def handle_info(:again, state), do: {:noreply, state}

  def handle_info({:DOWN, _, :process, owner, _}, %{owner: owner} = state), do: {:stop, :normal, state}

  def handle_info(message, state) do
    case state.link && Link.take(state.link, message) do
      {:closed, link} -> {:stop, {:shutdown, :session_deleted}, tell(%{state | link: link}, :closed)}
      {news, link} -> {:noreply, news(news, %{state | link: link})}
      _ -> {:noreply, state}
    end
  end

  defp news(:up, state), do: join(state)

  defp news({:down, _error, _lost}, state) do
    if state.phase == :joined, do: tell(state, :disconnected)
    %{state | phase: :down}
  end

  defp news({:errored, _lost}, state), do: again(%{state | phase: :refused}, Backoff.delay(4))
  defp news({:reply, :join, {:ok, reply}}, state), do: screen(%{state | phase: :joined}, reply)

  defp news({:reply, :join, {:error, error}}, state) do
    again(tell(%{state | phase: :refused}, {:error, error}), @again_ms)
  end

  defp news({:event, "output", {:binary, bytes}}, state), do: tell(state, {:output, bytes})
  defp news({:event, "screen", reply}, state) when is_map(reply), do: screen(state, reply)
  defp news(_other, state), do: state

  defp join(state), do: %{state | phase: :joining, link: Link.push(state.link, :join, "phx_join", %{})}

  defp screen(state, %{"cols" => cols, "rows" => rows, "screen" => screen}) do
    tell(state, {:screen, %{cols: cols, rows: rows, screen: screen}})
  end

  defp again(state, ms) do
    Process.send_after(self(), :again, ms)
    state
  end

  defp tell(state, what) do
    send(state.owner, {__MODULE__, state.name, what})
    state
  end
end
