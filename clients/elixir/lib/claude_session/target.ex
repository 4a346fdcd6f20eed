defmodule ClaudeSession.Target do
  @moduledoc false
  # Which bridge is meant, and what it is shown: from options, else the environment, else what a bridge on this
  # machine has left in its state folder (as the `claude-bridge` commands find it).

  alias ClaudeSession.{Error, JSON}

  @enforce_keys [:host, :port, :token]
  defstruct [:host, :port, :token, path: "", tls: nil]

  @typedoc "`tls` is nil for plain TCP, else options of `:ssl`; `certificate` in it is a SHA-256 in hexadecimal digits."
  @type t :: %__MODULE__{
          host: binary,
          port: :inet.port_number(),
          token: binary,
          path: binary,
          tls: nil | keyword
        }

  @ports %{"http" => 80, "ws" => 80, "https" => 443, "wss" => 443}
  @tls ~w(https wss)

  # A token is a secret: it must not stand in a crash report or in IEx.
  defimpl Inspect do
    def inspect(target, _opts), do: "#ClaudeSession.Target<#{ClaudeSession.Target.authority(target)}>"
  end

  @doc "Options: `:url`, `:token`, `:tls`. `environ` and `home` are parameters for tests."
  @spec find(keyword, (binary -> binary | nil)) :: {:ok, t} | {:error, Error.t()}
  def find(options, environ \\ &System.get_env/1) do
    url = options[:url] || Application.get_env(:claude_session, :url) || filled(environ, "CLAUDE_BRIDGE_URL")

    token =
      options[:token] || Application.get_env(:claude_session, :token) ||
        filled(environ, "CLAUDE_BRIDGE_TOKEN")

    if url, do: named(url, token, options, environ), else: local(token, options, environ)
  end

  @doc "The request's target. It carries the token, so it is never logged."
  @spec path(t) :: binary
  def path(target) do
    target.path <> "/socket/websocket?" <> URI.encode_query(%{"vsn" => "2.0.0", "token" => target.token})
  end

  @doc "Host and port as HTTP's `Host` has them."
  @spec authority(t) :: binary
  def authority(%{host: host, port: port}) do
    if String.contains?(host, ":"), do: "[#{host}]:#{port}", else: "#{host}:#{port}"
  end

  defp named(url, token, options, environ) do
    uri = URI.parse(url)

    if not is_map_key(@ports, uri.scheme) or uri.host in [nil, ""] do
      {:error, no_bridge("#{url} is no address of a bridge: write it like http://127.0.0.1:4040.")}
    else
      loopback = loopback?(uri.host)
      # A token found on disk is shown to this machine only, and so is a certificate.
      token = token || if(loopback, do: Enum.find_value(folders(environ), &read_token/1))
      port = uri.port || @ports[uri.scheme]

      running =
        if loopback, do: Enum.find_value(folders(environ), &(running(&1, port) && running(&1))), else: nil

      certificate = running && running["certificate"]

      if token do
        path =
          (uri.path || "")
          |> String.trim_trailing("/")
          |> String.replace_suffix("/websocket", "")
          |> String.replace_suffix("/socket", "")

        tls = if uri.scheme in @tls, do: tls(options, certificate)
        {:ok, %__MODULE__{host: uri.host, port: port, token: token, path: path, tls: tls}}
      else
        {:error, no_bridge("#{url} needs a token: give :token, or CLAUDE_BRIDGE_TOKEN.")}
      end
    end
  end

  defp local(token, options, environ) do
    folders = folders(environ)

    with {folder, running} <- Enum.find_value(folders, &((r = running(&1)) && {&1, r})),
         token when token != nil <- token || read_token(folder) do
      tls = if running["certificate"], do: tls(options, running["certificate"])
      {:ok, %__MODULE__{host: running["host"], port: running["port"], token: token, tls: tls}}
    else
      nil ->
        {:error,
         no_bridge(
           "No bridge runs here, or its token cannot be read (#{Enum.join(folders, " and ")}): start one with " <>
             "`claude-bridge serve`, or give :url and :token, or CLAUDE_BRIDGE_URL and CLAUDE_BRIDGE_TOKEN."
         )}
    end
  end

  defp tls(options, certificate) do
    given = options[:tls] || []
    if certificate && given == [], do: [certificate: certificate], else: given
  end

  # The likeliest first, as the commands look.
  defp folders(environ) do
    base =
      filled(environ, "XDG_STATE_HOME") ||
        Path.join(filled(environ, "HOME") || System.user_home() || "/", ".local/state")

    simulated = Path.join(base, "claude-bridge-simulated")
    given = filled(environ, "CLAUDE_BRIDGE_STATE_DIR")

    cond do
      given -> [Path.expand(given)]
      String.downcase(environ.("CLAUDE_BRIDGE_SIMULATE") || "") in ~w(1 true yes on) -> [simulated]
      true -> [Path.join(base, "claude-bridge"), simulated]
    end
  end

  defp read_token(folder) do
    case File.read(Path.join(folder, "token")) do
      {:ok, text} -> if (token = String.trim(text)) != "", do: token
      {:error, _} -> nil
    end
  end

  # What the bridge of this folder wrote about itself, if its process is there.
  defp running(folder) do
    with {:ok, text} <- File.read(Path.join(folder, "bridge.json")),
         {:ok, %{"pid" => pid, "host" => host, "port" => port} = said} <- JSON.decode(text),
         true <- is_integer(pid) and is_binary(host) and is_integer(port),
         true <- not File.dir?("/proc/self") or File.dir?("/proc/#{pid}") do
      # A wildcard is listened on, not connected to.
      %{said | "host" => Map.get(%{"0.0.0.0" => "127.0.0.1", "::" => "::1"}, host, host)}
    else
      _ -> nil
    end
  end

  defp running(folder, port), do: match?(%{"port" => ^port}, running(folder))

  defp loopback?(host) do
    case :inet.parse_address(String.to_charlist(host)) do
      {:ok, {127, _, _, _}} -> true
      {:ok, {0, 0, 0, 0, 0, 0, 0, 1}} -> true
      _ -> String.downcase(host) == "localhost"
    end
  end

  defp filled(environ, name) do
    case environ.(name) do
      "" -> nil
      value -> value
    end
  end

  defp no_bridge(message), do: Error.own(:no_bridge, message: message)
end
