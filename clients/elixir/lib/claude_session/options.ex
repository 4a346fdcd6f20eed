defmodule ClaudeSession.Options do
  @moduledoc false
  # What is given to the public functions, checked before anything is done with it: names of keys that are wrong are
  # the programmer's, and raise; a session's name may be a user's, and is answered.

  alias ClaudeSession.{Error, JSON, Wire}

  @connection [:url, :token, :tls, :heartbeat_ms]
  @start ~w(backend model cwd permission_mode system_prompt append_system_prompt allowed_tools disallowed_tools
    mcp_config add_dirs resume on_restart)a
  @session [:name, :as, :start] ++ @connection ++ @start
  # A bridge closes a socket, which all sessions share, for a frame of more than 10,000,000 bytes; and coming back, what
  # was not answered is said again. The rest is for the frame's head.
  @max_bytes 9_999_000
  @name ~r/\A[A-Za-z0-9][A-Za-z0-9_-]{0,63}\z/

  @doc "What a session's process is started with."
  @spec session(keyword) :: {:ok, map} | {:error, Error.t()}
  def session(options) do
    check!(options, @session)
    name = options[:name] || raise ArgumentError, "a session needs a :name"

    with :ok <- name(name) do
      start =
        for {key, value} <- Keyword.take(options, @start),
            value != nil,
            into: %{},
            do: {to_string(key), value}

      {:ok,
       %{
         name: name,
         as: Keyword.get(options, :as, name),
         start: if(Keyword.get(options, :start, true), do: sayable!(start)),
         connection: connection(options)
       }}
    end
  end

  @doc "Those of a connection."
  @spec connection(keyword) :: keyword
  def connection(options), do: Keyword.take(options, @connection)

  @spec connection_keys() :: [atom]
  def connection_keys, do: @connection

  @doc "How a prompt is waited for. Raises `ArgumentError` for values that cannot be."
  @spec asked(keyword) :: map
  def asked(options) do
    asked = %{
      as: Keyword.get(options, :as, :text),
      timeout: Keyword.get(options, :timeout, :infinity),
      on_halt: Keyword.get(options, :on_halt, :interrupt),
      max_buffer: Keyword.get(options, :max_buffer, 1_000)
    }

    asked.as in [:text, :turn] || raise ArgumentError, ":as is :text or :turn"
    asked.on_halt in [:interrupt, :continue] || raise ArgumentError, ":on_halt is :interrupt or :continue"
    positive?(asked.max_buffer) || raise ArgumentError, ":max_buffer is a number of events"

    asked.timeout == :infinity || positive?(asked.timeout) ||
      raise ArgumentError, ":timeout is in milliseconds"

    asked
  end

  defp positive?(n), do: is_integer(n) and n > 0

  @doc "The payload of `answer`, but for the request."
  @spec answer(ClaudeSession.answer()) :: map
  def answer(decision) when decision in [:allow, :deny], do: %{"decision" => to_string(decision)}
  def answer({:deny, message}), do: %{"decision" => "deny", "message" => message}
  def answer({:answers, answers}), do: %{"decision" => "allow", "input" => %{"answers" => answers}}

  def answer(options) when is_list(options) do
    check!(options, [:decision, :input, :suggestions, :message, :interrupt])
    options[:decision] in [:allow, :deny] || raise ArgumentError, "an answer's :decision is :allow or :deny"
    rest = for {key, value} <- options, key != :decision, into: %{}, do: {to_string(key), value}
    Map.put(rest, "decision", to_string(options[:decision]))
  end

  @doc "What a connection itself is configured with."
  @spec heartbeat(keyword) :: keyword
  def heartbeat(options), do: Keyword.take(options, [:heartbeat_ms])

  @doc "Raises `ArgumentError` with the keys that are not known."
  @spec check!(keyword, [atom]) :: :ok
  def check!(options, allowed) do
    case Keyword.keys(options) -- allowed do
      [] ->
        :ok

      unknown ->
        raise ArgumentError,
              "unknown options #{inspect(Enum.uniq(unknown))}, the allowed ones are #{inspect(allowed)}"
    end
  end

  @doc "Whether this can be a session's or a pool's name."
  @spec name(term) :: :ok | {:error, Error.t()}
  def name(name) do
    if is_binary(name) and name =~ @name do
      :ok
    else
      message = "A name is 1 to 64 letters, digits, '-' or '_', and begins with a letter or digit."
      {:error, %Error{reason: :invalid_name, message: message, details: %{"name" => inspect(name)}}}
    end
  end

  @doc """
  Raises `ArgumentError` in the caller where something is not to be said in JSON: later it would be a process that
  others share.
  """
  @spec sayable!(map) :: map
  def sayable!(payload) do
    _ = JSON.encode!(payload)
    payload
  end

  @doc "Whether this can be a prompt at all; all else the bridge judges."
  @spec prompt(term) :: :ok | {:error, Error.t()}
  def prompt(prompt) do
    cond do
      not is_binary(prompt) ->
        raise ArgumentError, "a prompt is a string, not #{inspect(prompt, limit: 5)}"

      String.valid?(prompt) ->
        :ok

      true ->
        {:error,
         %Error{
           reason: :invalid_payload,
           message: "The prompt is not UTF-8.",
           details: %{"field" => "prompt"}
         }}
    end
  end

  @doc """
  The payload of `submit` or `ask`, under the key that was given or one of its own: bytes where files go with it. Raises
  `ArgumentError` where an attachment is none.
  """
  @spec submission(binary, keyword) :: {:ok, binary, map | {:binary, binary}} | {:error, Error.t()}
  def submission(prompt, options) do
    with :ok <- prompt(prompt) do
      key = options[:id] || unique()

      payload =
        %{"prompt" => prompt, "id" => key}
        |> put("mode", options[:mode] && to_string(options[:mode]))

      case options[:attachments] || [] do
        [] ->
          fitting({:ok, key, payload}, byte_size(JSON.encode!(payload)))

        files ->
          bytes = Wire.with_files(payload, Enum.map(files, &file!/1))
          fitting({:ok, key, {:binary, bytes}}, byte_size(bytes))
      end
    end
  end

  defp fitting(submission, size) when size <= @max_bytes, do: submission

  defp fitting(_submission, size) do
    {:error,
     %Error{
       reason: :payload_too_large,
       message: "The prompt with its files has #{size} bytes, and #{@max_bytes} go in one frame.",
       details: %{"size" => size, "limit" => @max_bytes}
     }}
  end

  defp put(map, _key, nil), do: map
  defp put(map, key, value), do: Map.put(map, key, value)

  defp file!(%{name: name, media_type: type, data: data} = file)
       when map_size(file) == 3 and is_binary(name) and is_binary(type) and is_binary(data) do
    {%{"name" => name, "media_type" => type}, data}
  end

  # What it is instead is not said: it may be a person's file.
  defp file!(_other) do
    raise ArgumentError,
          "an attachment is a map of :name, :media_type and :data, all of them binaries, and nothing else"
  end

  @doc "A key that nobody else has."
  @spec unique() :: binary
  def unique, do: Base.url_encode64(:crypto.strong_rand_bytes(18))
end
