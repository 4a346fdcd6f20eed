defmodule ClaudeSession.Link do
  @moduledoc false
  # An owner's side of its topic: the connection, and what was pushed and is not answered yet.
  # A value in the owner's state; `take` makes of a message what the owner has to know.

  alias ClaudeSession.{Connection, Error, JSON, Target}

  defstruct [:target, :topic, :options, :conn, :ref, :monitor, :generation, :error, pushed: MapSet.new()]

  @type t :: %__MODULE__{}
  @type news ::
          :up
          | {:down, Error.t(), lost :: [tag :: term]}
          | {:reply, tag :: term, {:ok, map} | {:error, Error.t()}}
          | {:event, binary, map | {:binary, binary}}
          | :closed
          | {:errored, lost :: [tag :: term]}
          | :nothing

  @doc "Take up the topic. `:up` follows as soon as there is a connection."
  @spec open(Target.t(), binary, keyword) :: t
  def open(target, topic, options) do
    attach(%__MODULE__{target: target, topic: topic, options: options})
  end

  defp attach(link) do
    {:ok, conn, ref} = Connection.attach(link.target, link.topic, link.options)
    %{link | conn: conn, ref: ref, monitor: Process.monitor(conn), generation: nil}
  end

  @doc "Give it back."
  @spec close(t) :: :ok
  def close(%__MODULE__{conn: conn, ref: ref, monitor: monitor}) do
    Process.demonitor(monitor, [:flush])
    Connection.detach(conn, ref)
  end

  @doc "Whether this was pushed, and its reply has not come."
  @spec pushed?(t | nil, term) :: boolean
  def pushed?(nil, _tag), do: false
  def pushed?(link, tag), do: MapSet.member?(link.pushed, tag)

  @doc "What was pushed and is not answered."
  @spec tags(t) :: [term]
  def tags(link), do: MapSet.to_list(link.pushed)

  @doc "Whether there is a connection to join on."
  @spec up?(t) :: boolean
  def up?(link), do: link.generation != nil

  @doc """
  Push under a tag, which the reply or the loss will name. Raises where the payload is not to be said in JSON.
  Only while it is up.
  """
  @spec push(t, term, binary, map | {:binary, binary}) :: t
  def push(%__MODULE__{generation: generation} = link, tag, event, {:binary, data}) when generation != nil do
    Connection.push_binary(link.conn, link.ref, generation, tag, event, data)
    %{link | pushed: MapSet.put(link.pushed, tag)}
  end

  def push(%__MODULE__{generation: generation} = link, tag, event, payload) when generation != nil do
    Connection.push(link.conn, link.ref, generation, tag, event, JSON.encode!(payload))
    %{link | pushed: MapSet.put(link.pushed, tag)}
  end

  @doc "The same with bytes, whose answer nobody waits for."
  @spec push_binary(t, binary, binary) :: t
  def push_binary(%__MODULE__{generation: generation} = link, event, data) when generation != nil do
    Connection.push_binary(link.conn, link.ref, generation, :bytes, event, data)
    link
  end

  @doc "What a message is; `:other` where it is none of the link's."
  @spec take(t, term) :: {news, t} | :other
  def take(%{ref: ref} = link, {Connection, ref, what}), do: told(link, what)

  # An earlier reference's.
  def take(link, {Connection, ref, _what}) when is_reference(ref), do: {:nothing, link}

  def take(%{monitor: monitor} = link, {:DOWN, monitor, :process, _conn, reason}) do
    {lost, link} = lose(link)
    error = Error.own(:disconnected, details: %{"cause" => inspect(reason, limit: 20)})
    {{:down, error, lost}, attach(%{link | error: error})}
  end

  def take(_link, _message), do: :other

  defp told(link, {:up, generation}) do
    {:up, %{link | generation: generation, error: nil}}
  end

  defp told(link, {:down, error}) do
    {lost, link} = lose(link)
    {{:down, error, lost}, %{link | error: error}}
  end

  defp told(link, {:reply, tag, status, response}) do
    link = %{link | pushed: MapSet.delete(link.pushed, tag)}

    result = if status == :ok, do: {:ok, response || %{}}, else: {:error, Error.from_reply(response)}

    {{:reply, tag, result}, link}
  end

  defp told(link, {:event, event, payload}), do: {{:event, event, payload}, link}

  defp told(link, :closed), do: {:closed, link}

  # What was pushed to it will not be answered, though the connection stands.
  defp told(link, :errored), do: {{:errored, MapSet.to_list(link.pushed)}, %{link | pushed: MapSet.new()}}

  defp lose(link), do: {MapSet.to_list(link.pushed), %{link | pushed: MapSet.new(), generation: nil}}
end
