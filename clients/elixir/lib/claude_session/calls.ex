defmodule ClaudeSession.Calls do
  @moduledoc false
  # How the public functions reach a session's process: their deadlines are kept there, so that no late reply reaches
  # a caller; and that it is not there is an answer, and no exit.

  alias ClaudeSession.{Error, Session}

  @spec call(pid | term, term) :: term
  def call(session, request) do
    GenServer.call(name(session), request, :infinity)
  catch
    :exit, {reason, {GenServer, :call, _}} -> {:error, gone(session, reason)}
  end

  @spec name(pid | term) :: GenServer.server()
  def name(pid) when is_pid(pid), do: pid
  def name(as), do: Session.via(as)

  defp gone(session, reason) when reason in [:noproc, :normal] do
    message = "No session #{inspect(session)} was started here: ClaudeSession.start_link/2 does."
    Error.own(:not_started, message: message, details: %{"name" => inspect(session)})
  end

  defp gone(_session, {:shutdown, :session_deleted}), do: Error.own(:session_deleted)
  defp gone(_session, reason), do: Error.own(:disconnected, details: %{"cause" => inspect(reason, limit: 20)})
end
