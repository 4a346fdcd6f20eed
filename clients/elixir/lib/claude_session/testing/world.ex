defmodule ClaudeSession.Testing.World do
  @moduledoc false
  # What the stand-in knows: sessions with their logs, who is joined, and what is expected. Pure: a client's message in,
  # frames to clients out. It keeps the contract's promises (numbers, replay, keys) and knows nothing of Claude.

  alias ClaudeSession.View

  defstruct epoch: 1, joined: %{}, sessions: %{}, expected: %{}, prompts: %{}, wrong: [], turns: 0

  @at "2025-01-01T00:00:00.000Z"

  def new, do: %__MODULE__{}

  @doc "A restart: the numbers begin anew, and all that is known stays."
  def restarted(world) do
    sessions = Map.new(world.sessions, fn {name, s} -> {name, %{s | log: [], view: %{s.view | seq: 0}}} end)

    %{world | epoch: world.epoch + 1, sessions: sessions}
  end

  def left(world, peers) do
    %{world | joined: Map.new(world.joined, fn {topic, all} -> {topic, Map.drop(all, peers)} end)}
  end

  def expect(world, session, prompt, script) do
    update_in(world.expected[session], &((&1 || []) ++ [{prompt, script}]))
  end

  def prompts(world, session), do: world.prompts |> Map.get(session, []) |> Enum.reverse()

  @doc "What does not fit what was expected, in words."
  def wrong(world) do
    missing =
      for {session, expected} <- world.expected, {prompt, _script} <- expected do
        "expected of a session #{inspect(session)}, and not submitted: a prompt for #{inspect(prompt)}"
      end

    Enum.reverse(world.wrong) ++ missing
  end

  # --- messages ----------------------------------------------------------------------------------

  @doc "A client's frame, decoded; the frames that it brings about, as `{peer, frame}`."
  def message(world, peer, [join_ref, ref, topic, event, payload]) do
    at = %{peer: peer, join_ref: join_ref, ref: ref, topic: topic}
    handle(world, at, event, payload)
  end

  defp handle(world, %{topic: "phoenix"} = at, "heartbeat", _), do: {[ok(at, %{})], world}

  defp handle(world, at, "phx_leave", _) do
    {[ok(at, %{})], left_topic(world, at)}
  end

  defp handle(world, %{topic: "sessions"} = at, "phx_join", _) do
    {[ok(at, %{"node" => "testing", "version" => "testing", "sessions" => listed(world)})], join(world, at)}
  end

  defp handle(world, %{topic: "sessions"} = at, "list", _),
    do: {[ok(at, %{"sessions" => listed(world)})], world}

  defp handle(world, %{topic: "sessions"} = at, "delete", %{"name" => name}) do
    topic = "session:" <> name

    closed =
      for {peer, join_ref} <- Map.get(world.joined, topic, %{}),
          do: {peer, [join_ref, join_ref, topic, "phx_close", %{}]}

    world = %{world | sessions: Map.delete(world.sessions, name), joined: Map.delete(world.joined, topic)}
    {[ok(at, %{}) | closed], world}
  end

  defp handle(world, %{topic: "pool:" <> _} = at, "phx_join", _) do
    {[ok(at, %{"size" => 1, "idle" => 1, "busy" => 0, "waiting" => 0})], join(world, at)}
  end

  # A question to a pool is a session of its own that nobody else sees.
  defp handle(world, %{topic: "pool:" <> _ = pool} = at, "ask", payload) do
    hidden = "_" <> (payload["id"] || "#{world.turns}")
    world = %{world | sessions: Map.put_new(world.sessions, hidden, session(hidden, %{}))}
    world = put_in(world.joined["session:" <> hidden], %{at.peer => at.join_ref})

    case answered(world.sessions[hidden], payload["id"]) do
      nil ->
        {out, world} = submit(world, at, hidden, pool, payload)
        {Enum.map(out, fn {to, frame} -> {to, List.replace_at(frame, 2, pool)} end), world}

      turn ->
        {[ok(at, %{"turn" => turn, "status" => turn["status"], "duplicate" => true})], world}
    end
  end

  defp handle(world, %{topic: "session:" <> name} = at, "phx_join", payload) do
    cond do
      is_map_key(world.sessions, name) ->
        joined(join(world, at), at, world.sessions[name], payload["after"])

      payload["start"] ->
        session = session(name, payload["start"])
        joined(join(put_in(world.sessions[name], session), at), at, session, nil)

      true ->
        {[error(at, "session_not_found", %{"name" => name})], world}
    end
  end

  defp handle(world, %{topic: "session:" <> name} = at, event, payload)
       when is_map_key(world.sessions, name) do
    in_session(world, at, world.sessions[name], event, payload)
  end

  defp handle(world, at, _event, _payload), do: {[error(at, "unmatched topic", %{})], world}

  defp in_session(world, at, %{name: name}, "submit", payload), do: submit(world, at, name, name, payload)

  defp in_session(world, at, session, "interrupt", _) do
    case session.view.open do
      nil -> {[ok(at, %{"turn" => nil})], world}
      %{"id" => turn} -> later(ok(at, %{"turn" => turn}), steps(world, session.name, [{:end, "interrupted"}]))
    end
  end

  defp in_session(world, at, session, "cancel", %{"turn" => turn}) do
    if List.keymember?(session.waiting, turn, 0) do
      world = put_in(world.sessions[session.name].waiting, List.keydelete(session.waiting, turn, 0))
      ended = %{"turn" => turn, "status" => "cancelled", "text" => "", "usage" => nil, "cost_usd" => nil}
      later(ok(at, %{}), emit(world, session.name, "turn_finished", ended))
    else
      {[error(at, "turn_not_found", %{"turn" => turn})], world}
    end
  end

  defp in_session(world, at, session, "answer", %{"request" => id, "decision" => decision}) do
    case {Enum.find(session.view.requests, &(&1["id"] == id)), session.steps} do
      {nil, _} ->
        {[error(at, "request_closed", %{"request" => id})], world}

      {_request, {:asked, allowed, denied}} ->
        {outcome, steps} = if decision == "allow", do: {"allowed", allowed}, else: {"denied", denied}

        {out, world} =
          emit(world, session.name, "request_closed", %{
            "request" => id,
            "outcome" => outcome,
            "by" => "testing"
          })

        {more, world} = steps(world, session.name, steps)
        {[ok(at, %{}) | out ++ more], world}
    end
  end

  defp in_session(world, at, session, "history", payload) do
    turns = Enum.reverse(session.view.finished)
    turns = if before = payload["before"], do: Enum.take_while(turns, &(&1["id"] != before)), else: turns
    {[ok(at, %{"turns" => Enum.take(turns, -(payload["limit"] || 50))})], world}
  end

  defp in_session(world, at, session, event, _payload) when event in ["stop", "restart"] do
    state = if event == "stop", do: "stopped", else: "idle"

    {out, world} =
      if session.view.open, do: steps(world, session.name, [{:end, "interrupted"}]), else: {[], world}

    {more, world} =
      emit(world, session.name, "session_changed", %{"session" => %{session.view.session | "state" => state}})

    {[ok(at, %{}) | out ++ more], world}
  end

  defp in_session(world, at, _session, "configure", _payload), do: {[ok(at, %{})], world}

  defp in_session(world, at, _session, event, _),
    do: {[error(at, "invalid_payload", %{"field" => event})], world}

  # The turn that a question with this key became, where it is over.
  defp answered(session, key), do: Enum.find(session.view.finished, &(&1["key"] == key))

  # --- joining -----------------------------------------------------------------------------------

  defp session(name, start) do
    wire = %{
      "name" => name,
      "backend" => start["backend"] || "headless",
      "state" => "idle",
      "model" => start["model"] || "testing",
      "cwd" => start["cwd"] || "/",
      "permission_mode" => start["permission_mode"] || "default",
      "started_at" => @at,
      "viewers" => 0,
      "node" => "testing"
    }

    %{name: name, view: %View{epoch: "testing", session: wire}, log: [], keys: %{}, steps: nil, waiting: []}
  end

  defp join(world, at),
    do: put_in(world.joined[at.topic], Map.put(world.joined[at.topic] || %{}, at.peer, at.join_ref))

  defp left_topic(world, at),
    do: put_in(world.joined[at.topic], Map.delete(world.joined[at.topic] || %{}, at.peer))

  defp joined(world, at, %{view: view} = session, cursor) do
    epoch = "testing-#{world.epoch}"
    recovered = match?(%{"epoch" => ^epoch}, cursor) and cursor["seq"] <= view.seq

    reply = %{
      "session" => view.session,
      "epoch" => epoch,
      "seq" => view.seq,
      "recovered" => recovered,
      "turns" => Enum.reverse(view.finished),
      "open_turn" => View.open_turn(view),
      "queue" => view.queue,
      "requests" => view.requests
    }

    missed =
      for {event, payload} <- Enum.reverse(session.log), recovered and payload["seq"] > cursor["seq"] do
        {at.peer, [nil, nil, at.topic, event, payload]}
      end

    {[ok(at, reply) | missed], world}
  end

  defp listed(world) do
    for {name, session} <- Enum.sort(world.sessions),
        not String.starts_with?(name, "_"),
        do: session.view.session
  end

  # --- turns -------------------------------------------------------------------------------------

  defp submit(world, at, name, expected_of, %{"prompt" => prompt} = payload) do
    session = world.sessions[name]
    key = payload["id"]
    files = payload["attachments"] || []

    cond do
      prompt == "" and files == [] ->
        {[error(at, "prompt_empty", %{})], world}

      session.view.session["state"] == "stopped" ->
        {[error(at, "session_stopped", %{"name" => name})], world}

      turn = session.keys[key] ->
        known = View.turn(session.view, turn)

        {[ok(at, %{"turn" => turn, "status" => known["status"], "position" => 0, "duplicate" => true})],
         world}

      true ->
        world = update_in(world.prompts[expected_of], &[prompt | &1 || []])
        {script, world} = script(world, expected_of, prompt)
        accepted(world, at, session, script, {prompt, files}, key)
    end
  end

  defp accepted(world, at, _session, [{:refuse, code, details}], _said, _key),
    do: {[error(at, code, details)], world}

  defp accepted(world, at, %{name: name} = session, script, {prompt, files}, key) do
    turn = "turn-#{world.turns + 1}"
    runs? = session.view.open == nil
    world = %{world | turns: world.turns + 1}
    world = if key, do: put_in(world.sessions[name].keys[key], turn), else: world
    world = update_in(world.sessions[name].waiting, &(&1 ++ [{turn, script, prompt, files}]))
    queued = %{"turn" => turn, "key" => key, "prompt" => prompt, "author" => "testing", "position" => 0}
    queued = with_files(queued, files)
    {out, world} = emit(world, name, "turn_queued", queued)
    {more, world} = if runs?, do: next(world, name), else: {[], world}
    reply = %{"turn" => turn, "status" => if(runs?, do: "running", else: "queued"), "position" => 0}
    {[ok(at, reply) | out ++ more], world}
  end

  defp script(world, name, prompt) do
    case Map.get(world.expected, name, []) do
      [] ->
        {ClaudeSession.Testing.reply_with(["You said: ", prompt]), world}

      [{wanted, script} | rest] ->
        if means?(wanted, prompt) do
          {script, put_in(world.expected[name], rest)}
        else
          what =
            "a prompt for #{inspect(wanted)} was expected of #{inspect(name)}, and #{inspect(prompt)} came"

          {ClaudeSession.Testing.reply_with([], status: :failed), %{world | wrong: [what | world.wrong]}}
        end
    end
  end

  defp means?(:any, _prompt), do: true
  defp means?(wanted, prompt) when is_binary(wanted), do: wanted == prompt
  defp means?(%Regex{} = wanted, prompt), do: prompt =~ wanted
  defp means?(wanted, prompt) when is_function(wanted, 1), do: wanted.(prompt)

  defp next(world, name) do
    case world.sessions[name].waiting do
      [] ->
        {[], world}

      [{turn, script, prompt, files} | rest] ->
        world = put_in(world.sessions[name].waiting, rest)
        started = %{"turn" => turn, "prompt" => prompt, "author" => "testing", "source" => "client"}
        {out, world} = emit(world, name, "turn_started", with_files(started, files))
        {more, world} = steps(world, name, script)
        {out ++ more, world}
    end
  end

  defp with_files(payload, []), do: payload
  defp with_files(payload, files), do: Map.put(payload, "attachments", files)

  # As far as it goes by itself.
  defp steps(world, name, []), do: {[], put_in(world.sessions[name].steps, nil)}
  defp steps(world, name, [:hang | _]), do: {[], put_in(world.sessions[name].steps, :hanging)}

  defp steps(world, name, [{:say, kind, chunks} | rest]) do
    %{view: view} = world.sessions[name]
    common = %{"turn" => view.open["id"], "block" => map_size(view.blocks), "kind" => to_string(kind)}
    told = for chunk <- chunks, do: {"delta", Map.put(common, "text", chunk)}
    told = if chunks == [], do: [], else: told ++ [{"block", Map.put(common, "text", Enum.join(chunks))}]
    emit_all(world, name, told, &steps(&1, name, rest))
  end

  defp steps(world, name, [{:request, tool, input, allowed, denied} | _]) do
    turn = world.sessions[name].view.open["id"]
    request = %{"id" => "request-#{turn}", "kind" => "permission", "turn" => turn, "tool" => tool}
    request = Map.merge(request, %{"input" => input, "suggestions" => [], "opened_at" => @at})
    world = put_in(world.sessions[name].steps, {:asked, allowed, denied})
    emit(world, name, "request_opened", %{"request" => request})
  end

  defp steps(world, name, [{:end, status} | _]) do
    %{view: view} = world.sessions[name]
    open = View.open_turn(view)

    withdrawn =
      for %{"id" => id} <- view.requests,
          do: {"request_closed", %{"request" => id, "outcome" => "withdrawn", "by" => nil}}

    ended = %{"turn" => open["id"], "status" => status, "text" => String.trim_trailing(open["text"])}
    ended = Map.merge(ended, %{"usage" => nil, "cost_usd" => 0.0, "duration_ms" => 1})

    ended =
      if status == "failed",
        do: Map.put(ended, "error", %{"code" => "testing", "message" => "It was to fail."}),
        else: ended

    emit_all(
      put_in(world.sessions[name].steps, nil),
      name,
      withdrawn ++ [{"turn_finished", ended}],
      &next(&1, name)
    )
  end

  # --- events ------------------------------------------------------------------------------------

  defp emit_all(world, name, events, then) do
    {out, world} =
      Enum.flat_map_reduce(events, world, fn {event, payload}, world -> emit(world, name, event, payload) end)

    {more, world} = then.(world)
    {out ++ more, world}
  end

  defp emit(world, name, event, payload) do
    session = world.sessions[name]
    payload = Map.merge(payload, %{"seq" => session.view.seq + 1, "at" => @at})
    {:ok, view} = View.take(session.view, event, payload)
    world = put_in(world.sessions[name], %{session | view: view, log: [{event, payload} | session.log]})
    topic = "session:" <> name

    {for({peer, _} <- Map.get(world.joined, topic, %{}), do: {peer, [nil, nil, topic, event, payload]}),
     world}
  end

  defp later(reply, {out, world}), do: {[reply | out], world}

  defp ok(at, response), do: reply(at, "ok", response)

  defp error(at, reason, details),
    do: reply(at, "error", Map.merge(details, %{"reason" => reason, "message" => reason}))

  defp reply(at, status, response) do
    {at.peer, [at.join_ref, at.ref, at.topic, "phx_reply", %{"status" => status, "response" => response}]}
  end
end
