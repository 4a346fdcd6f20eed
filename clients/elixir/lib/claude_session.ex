defmodule ClaudeSession do
  @moduledoc """
  Claude sessions that live in [claude-bridge](readme.html), as processes of your application.

      {:ok, _pid} = ClaudeSession.start_link("research")
      {:ok, response} = ClaudeSession.submit("research", "What is consciousness?")
      ClaudeSession.list_sessions()
      #=> ["research", "coding", "analysis"]

  The conversation lives in the bridge: it outlives your VM, others may look at it and take part, and
  `tmux attach` shows it. What is started here is a process that follows it. It holds its place by numbers, so a
  connection that breaks in the middle of a reply loses nothing and repeats nothing: the turn goes on in the bridge, and
  `submit/3` still returns all of it. A prompt is sent under an id and so at most once to Claude.

  ## In a supervision tree

      children = [
        {ClaudeSession, "research"},
        {ClaudeSession, name: "coding", backend: :tmux, cwd: "/srv/app", url: "https://bridge.example", token: token}
      ]

  `ClaudeSession.Supervisor` holds many, and takes more while it runs. All sessions of one bridge share one socket. A bridge
  that is away breaks nothing: what is asked waits for it.

  ## Which bridge

  The options `:url` and `:token`; else `config :claude_session, url: …, token: …`; else `CLAUDE_BRIDGE_URL` and
  `CLAUDE_BRIDGE_TOKEN`; else the bridge that runs on this machine, whose token is read from its state folder.

  ## Names

  Functions take a session by the name it was started under (`:as`, else its own) or by its pid. What they answer
  when it does not go well is a `ClaudeSession.Error`; nothing here exits or throws.
  """

  alias ClaudeSession.{Calls, Channel, Error, Event, Options, Reader, Request, Session, Status, Turn}

  @typedoc "A session's name in this VM, or its process."
  @type session :: binary | pid | term

  @typedoc "What is answered to a `ClaudeSession.Request`."
  @type answer :: :allow | :deny | {:deny, message :: binary} | {:answers, map} | keyword

  # Whatever is asked of a bridge beside a prompt it answers at once; this leaves it the time of a restart.
  @call_ms 15_000

  # --- starting ----------------------------------------------------------------------------------

  @doc """
  Start the process of a session, and the session itself where the bridge has none of this name.

  It returns at once: connecting, and whatever Claude needs to start, goes on meanwhile. To start the same name twice
  is `{:error, {:already_started, pid}}`.

  ## Options

    * `:url`, `:token` - which bridge; see above
    * `:tls` - options of `:ssl`, for `https` and `wss`; by default the certificate is verified against the system's
      authorities
    * `:start` - `false` only joins; a session that is not there is then `:session_not_found`
    * `:as` - the name in this VM, where it is not to be the session's own; any term
    * `:backend` - `:headless`, `:tmux` or `:api`
    * `:model`, `:cwd`, `:permission_mode`, `:system_prompt`, `:append_system_prompt`, `:allowed_tools`,
      `:disallowed_tools`, `:mcp_config`, `:add_dirs`, `:resume`, `:on_restart` - as in the bridge's `spec/protocol.md`.
      They count when the session is created; one that is there is joined as it is
    * `:heartbeat_ms` - how often the connection is tried; 30 s by default

  ## Examples

      {:ok, pid} = ClaudeSession.start_link("research")
      {:ok, pid} = ClaudeSession.start_link("coding", backend: :tmux, cwd: "/srv/app")
  """
  @doc since: "0.1.0"
  @spec start_link(binary | keyword, keyword) :: GenServer.on_start() | {:error, Error.t()}
  def start_link(name_or_options, options \\ [])
  def start_link(options, []) when is_list(options), do: start(options)
  def start_link(name, options), do: start(Keyword.put(options, :name, name))

  defp start(options) do
    with {:ok, config} <- Options.session(options), do: Session.start_link(config)
  end

  @doc """
  For a supervisor: a name, or options with a `:name`. A session that `stop/1` stopped is not started again.

      iex> ClaudeSession.child_spec("research").id
      {ClaudeSession, "research"}
      iex> ClaudeSession.child_spec(name: "research", restart: :permanent).restart
      :permanent
  """
  @doc since: "0.1.0"
  @spec child_spec(binary | keyword) :: Supervisor.child_spec()
  def child_spec(name) when is_binary(name), do: child_spec(name: name)

  def child_spec(options) do
    {own, options} = Keyword.split(options, [:id, :restart, :shutdown])
    as = options[:as] || options[:name]
    spec = %{id: {__MODULE__, as}, start: {__MODULE__, :start_link, [options]}, restart: :transient}
    Map.merge(spec, Map.new(own))
  end

  # --- prompts -----------------------------------------------------------------------------------

  @doc """
  Submit a prompt and wait for the whole reply.

  Prompts to a session run one after the other. A bridge that is away is waited for. Of a turn that did not complete
  the error's `turn` has the text that had come.

  ## Options

    * `:timeout` - ms, `:infinity` by default: a turn may wait for a person's permission. After it the answer is
      `:timeout`, and the turn goes on
    * `:id` - your own key for this prompt. The same key again, also from another VM, finds the first turn and runs
      nothing
    * `:as` - `:text` (the default), or `:turn` for the whole `ClaudeSession.Turn`
    * `:attachments` - `[%{name: "a.png", media_type: "image/png", data: bytes}]`; they go as the bytes they are, 9 MB of
      them, and the prompt may then be `""`
    * `:mode` - `:steer` goes into the running turn where the session can do that

  ## Examples

      {:ok, text} = ClaudeSession.submit("research", "What is consciousness?")
      {:ok, turn} = ClaudeSession.submit("research", "And life?", as: :turn, timeout: 60_000)
      turn.cost_usd
  """
  @doc since: "0.1.0"
  @spec submit(session, binary, keyword) :: {:ok, binary | Turn.t()} | {:error, Error.t()}
  def submit(session, prompt, options \\ []) do
    Options.check!(options, [:timeout, :id, :as, :attachments, :mode])

    with {:ok, key, payload} <- Options.submission(prompt, options) do
      Calls.call(session, {:submit, key, payload, Options.asked(options)})
    end
  end

  @doc """
  Submit a prompt and stream its reply as it comes.

  The stream is lazy: nothing is submitted before it is first read, and every reading of it submits anew (under an
  `:id` of yours it finds the same turn instead). What does not go well is raised as a `ClaudeSession.Error`, a turn that
  failed after the text that it has.

  As `:text` it is pieces of the reply. Whatever the connection does, put together they are the text, once. Only where
  Claude itself begins its answer again (`:discard`) is what was said said anew, on a new line. Between
  the messages of a turn that uses tools there is an empty line.

  A reader that is slow keeps nobody else waiting: beyond `:max_buffer` the events that wait are dropped, and it goes
  on with the turn as it is by then. A stream of text misses nothing by that; one of events has a `:snapshot` there.

  ## Options

  Those of `submit/3`, and

    * `:as` - `:text` (the default), or `:events` for `ClaudeSession.Event`s, the last of them `:turn_finished`,
      however the turn ended
    * `:on_halt` - what becomes of a turn whose reader leaves early or dies: `:interrupt` (the default) or
      `:continue`
    * `:max_buffer` - events; 1,000 by default

  ## Examples

      "research"
      |> ClaudeSession.stream("Tell me a story")
      |> Enum.each(&IO.write/1)

      for %{name: :tool_started, payload: %{"name" => tool}} <-
            ClaudeSession.stream("research", "Tidy up", as: :events),
          do: IO.puts(tool)
  """
  @doc since: "0.1.0"
  @spec stream(session, binary, keyword) :: Enumerable.t()
  def stream(session, prompt, options \\ []) do
    Options.check!(options, [:timeout, :id, :as, :attachments, :mode, :on_halt, :max_buffer])
    {as, options} = Keyword.pop(options, :as, :text)
    as in [:text, :events] || raise ArgumentError, ":as is :text or :events"

    begin = fn ->
      with {:ok, key, payload} <- Options.submission(prompt, options) do
        Calls.call(session, {:stream, key, payload, Options.asked(options)})
      end
    end

    Reader.stream(begin, as)
  end

  @doc """
  Ask a pool of warm workers one question, with a fresh context, and wait for the answer.

  ## Options

    * `:pool` - its name; `"default"`
    * `:timeout`, `:id`, `:as` - as for `submit/3`
    * `:url`, `:token`, `:tls` - as for `start_link/2`

  ## Examples

      {:ok, answer} = ClaudeSession.ask("What is 2 + 2?")
      {:ok, answer} = ClaudeSession.ask("Is this German?", pool: "cheap", timeout: 30_000)
  """
  @doc since: "0.1.0"
  @spec ask(binary, keyword) :: {:ok, binary | Turn.t()} | {:error, Error.t()}
  def ask(prompt, options \\ []) do
    Options.check!(options, [:pool, :timeout, :id, :as | Options.connection_keys()])
    pool = Keyword.get(options, :pool, "default")

    with :ok <- Options.name(pool),
         {:ok, _key, payload} <- Options.submission(prompt, options) do
      asked = Options.asked(options)
      Channel.ask(Options.connection(options), "pool:" <> pool, payload, asked.as, asked.timeout)
    end
  end

  # --- following ---------------------------------------------------------------------------------

  @doc """
  Send the calling process everything that happens in a session, whoever does it, as
  `{ClaudeSession, name, %ClaudeSession.Event{}}`; `name` is the one it was started under. Returns how things are now.

  It returns at once, also while there is no connection. When events had to be left out, as after a restart of the
  bridge, an event `:snapshot` says how things are. To subscribe twice is to be subscribed; it ends with the process, or
  with `unsubscribe/1`.

  ## Examples

      def mount(%{"name" => name}, _session, socket) do
        {:ok, now} = ClaudeSession.subscribe(name)
        {:ok, assign(socket, name: name, state: now.session.state, text: "")}
      end

      def handle_info({ClaudeSession, _name, %{name: :delta, kind: :text, text: text}}, socket) do
        {:noreply, update(socket, :text, &(&1 <> text))}
      end
  """
  @doc since: "0.1.0"
  @spec subscribe(session) :: {:ok, Event.snapshot()} | {:error, Error.t()}
  def subscribe(session), do: Calls.call(session, :subscribe)

  @doc """
  Send the calling process no more of it. What is in its mailbox stays there.

      :ok = ClaudeSession.unsubscribe("research")
  """
  @doc since: "0.1.0"
  @spec unsubscribe(session) :: :ok | {:error, Error.t()}
  def unsubscribe(session), do: Calls.call(session, :unsubscribe)

  @doc """
  How a session is doing.

  ## Examples

      {:ok, %ClaudeSession.Status{state: :idle}} = ClaudeSession.status("research")
  """
  @doc since: "0.1.0"
  @spec status(session, timeout) :: {:ok, Status.t()} | {:error, Error.t()}
  def status(session, timeout \\ @call_ms) do
    with {:ok, snapshot} <- push(session, nil, %{}, timeout), do: {:ok, snapshot.session}
  end

  @doc """
  The requests of Claude that wait for an answer: what `answer/3` takes.

  ## Examples

      {:ok, [request]} = ClaudeSession.requests("research")
      :ok = ClaudeSession.answer("research", request, :allow)
  """
  @doc since: "0.1.0"
  @spec requests(session) :: {:ok, [Request.t()]} | {:error, Error.t()}
  def requests(session) do
    with {:ok, snapshot} <- push(session, nil, %{}), do: {:ok, snapshot.requests}
  end

  @doc """
  Turns that have ended, the newest last.

  ## Options

    * `:limit` - how many; 50 by default
    * `:before` - a turn, or its id: those before it

  ## Examples

      {:ok, turns} = ClaudeSession.history("research", limit: 10)
      {:ok, older} = ClaudeSession.history("research", before: hd(turns))
  """
  @doc since: "0.1.0"
  @spec history(session, keyword) :: {:ok, [Turn.t()]} | {:error, Error.t()}
  def history(session, options \\ []) do
    Options.check!(options, [:limit, :before])

    payload =
      for {key, value} <- options,
          value != nil,
          into: %{},
          do: {to_string(key), with(%Turn{id: id} <- value, do: id)}

    with {:ok, %{"turns" => turns}} <- push(session, "history", payload) do
      {:ok, Enum.map(turns, &Turn.from_wire/1)}
    end
  end

  # --- steering ----------------------------------------------------------------------------------

  @doc """
  Interrupt the turn that runs, whoever's it is: its id, or nil where none ran. Its text so far is kept; turns
  that wait run then.

  ## Examples

      {:ok, _turn} = ClaudeSession.interrupt("research")
  """
  @doc since: "0.1.0"
  @spec interrupt(session) :: {:ok, binary | nil} | {:error, Error.t()}
  def interrupt(session) do
    # Not said again when the connection breaks: it might be the next turn that runs by then.
    with {:ok, reply} <- push(session, "interrupt", %{}, @call_ms, false), do: {:ok, reply["turn"]}
  end

  @doc """
  Take a turn back that still waits.

  ## Examples

      :ok = ClaudeSession.cancel("research", turn_id)
  """
  @doc since: "0.1.0"
  @spec cancel(session, binary | Turn.t()) :: :ok | {:error, Error.t()}
  def cancel(session, %Turn{id: id}), do: cancel(session, id)
  def cancel(session, turn), do: done(push(session, "cancel", %{"turn" => turn}))

  @doc """
  Answer a request, by itself or its id. The first answer counts: after it, here or elsewhere, it is
  `:request_closed`.

    * `:allow`
    * `:deny`, or `{:deny, message}` with what Claude is told
    * `{:answers, %{"Which one?" => "The first"}}` to a question
    * options: `:decision`, `:input` (in place of the tool's own), `:suggestions` (indices of those that are to hold
      from now on), `:message`, `:interrupt`

  ## Examples

      def handle_info({ClaudeSession, name, %{name: :request_opened, request: request}}, state) do
        :ok = ClaudeSession.answer(name, request, if(request.tool == "Read", do: :allow, else: {:deny, "Only read."}))
        {:noreply, state}
      end
  """
  @doc since: "0.1.0"
  @spec answer(session, binary | Request.t(), answer) :: :ok | {:error, Error.t()}
  def answer(session, %Request{id: id}, answer), do: answer(session, id, answer)

  def answer(session, request, answer) do
    done(push(session, "answer", Map.put(Options.answer(answer), "request", request)))
  end

  @doc """
  Change the model or the permission mode from the next turn on.

  ## Examples

      :ok = ClaudeSession.configure("research", model: "opus")
  """
  @doc since: "0.1.0"
  @spec configure(session, keyword) :: :ok | {:error, Error.t()}
  def configure(session, options) do
    Options.check!(options, [:model, :permission_mode])
    done(push(session, "configure", Map.new(options, fn {key, value} -> {to_string(key), value} end)))
  end

  @doc """
  Stop the session in the bridge, and its process here. The running turn is interrupted; the conversation stays, and
  `start_link/2` takes it up again.

  ## Examples

      :ok = ClaudeSession.stop("research")
  """
  @doc since: "0.1.0"
  @spec stop(session) :: :ok | {:error, Error.t()}
  def stop(session) do
    with {:ok, _} <- push(session, "stop", %{}), do: detach(session)
  end

  @doc """
  End the process here and leave the session in the bridge as it is, with a turn that runs.

  ## Examples

      :ok = ClaudeSession.detach("research")
  """
  @doc since: "0.1.0"
  @spec detach(session) :: :ok
  def detach(session) do
    GenServer.stop(Calls.name(session))
  catch
    :exit, _ -> :ok
  end

  @doc """
  Delete a session with its history, in the bridge. Whoever is joined is told; a process of it here ends.

  Options are `:url`, `:token` and `:tls`, as for `start_link/2`.

  ## Examples

      :ok = ClaudeSession.delete("research")
  """
  @doc since: "0.1.0"
  @spec delete(binary, keyword) :: :ok | {:error, Error.t()}
  def delete(name, options \\ []) do
    with :ok <- Options.name(name), do: done(lobby("delete", %{"name" => name}, options))
  end

  # --- all sessions ------------------------------------------------------------------------------

  @doc """
  The names of the bridge's sessions, as far as the token covers them. Raises `ClaudeSession.Error` where they
  cannot be had; `fetch_sessions/1` answers it.

  Options are `:url`, `:token` and `:tls`, as for `start_link/2`.

  ## Examples

      ClaudeSession.list_sessions()
      #=> ["research", "coding", "analysis"]
  """
  @doc since: "0.1.0"
  @spec list_sessions(keyword) :: [binary]
  def list_sessions(options \\ []) do
    case fetch_sessions(options) do
      {:ok, sessions} -> Enum.map(sessions, & &1.name)
      {:error, error} -> raise error
    end
  end

  @doc """
  The bridge's sessions, each with how it is doing.

  Options are those of `list_sessions/1`.

  ## Examples

      {:ok, sessions} = ClaudeSession.fetch_sessions()
      for %{name: name, state: :waiting} <- sessions, do: name
  """
  @doc since: "0.1.0"
  @spec fetch_sessions(keyword) :: {:ok, [Status.t()]} | {:error, Error.t()}
  def fetch_sessions(options \\ []) do
    with {:ok, %{"sessions" => sessions}} <- lobby("list", %{}, options) do
      {:ok, Enum.map(sessions, &Status.from_wire/1)}
    end
  end

  @doc """
  The names under which sessions were started in this VM.

      iex> ClaudeSession.local_sessions()
      []
  """
  @doc since: "0.1.0"
  @spec local_sessions() :: [term]
  def local_sessions do
    ClaudeSession.Registry |> Registry.select([{{{:session, :"$1"}, :_, :_}, [], [:"$1"]}]) |> Enum.sort()
  end

  # --- in between --------------------------------------------------------------------------------

  defp push(session, event, payload, timeout \\ @call_ms, again \\ true) do
    Calls.call(session, {:push, event, Options.sayable!(payload), %{timeout: timeout, again: again}})
  end

  defp lobby(event, payload, options) do
    Options.check!(options, Options.connection_keys())
    Channel.call(Options.connection(options), "sessions", event, payload, @call_ms)
  end

  defp done({:ok, _reply}), do: :ok
  defp done({:error, error}), do: {:error, error}
end
