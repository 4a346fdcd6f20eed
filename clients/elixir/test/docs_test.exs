defmodule ClaudeSession.DocsTest do
  @moduledoc "ExDoc is not to be had where this is tested, so this walks what it would read."
  use ExUnit.Case, async: true

  {:ok, modules} = :application.get_key(:claude_session, :modules)
  @modules modules

  defp documented do
    for module <- @modules,
        {:docs_v1, _, :elixir, _, %{"en" => moduledoc}, _, docs} <- [Code.fetch_docs(module)],
        do: {module, moduledoc, docs}
  end

  test "a module has a doc, or says that it is nobody's business" do
    for module <- @modules, not match?("Elixir.Inspect." <> _, Atom.to_string(module)) do
      assert {:docs_v1, _, :elixir, _, moduledoc, _, _} = Code.fetch_docs(module)

      assert moduledoc == :hidden or is_map(moduledoc),
             "#{inspect(module)} has neither a doc nor @moduledoc false"
    end

    public = for {module, _, _} <- documented(), do: module
    assert ClaudeSession in public
    assert ClaudeSession.Testing in public
  end

  test "a public function has a doc, a spec, an example and the version that brought it" do
    for {module, _moduledoc, docs} <- documented(),
        {{:function, name, arity}, _, _, doc, metadata} <- docs,
        doc != :hidden,
        not callback?(module, name, arity) do
      what = "#{inspect(module)}.#{name}/#{arity}"
      assert %{"en" => text} = doc, "#{what} has no doc"
      assert text =~ "iex>" or text =~ ~r/^ {4}\S/m, "#{what} has no example"
      assert metadata[:since], "#{what} has no @doc since"
      assert {:ok, specs} = Code.Typespec.fetch_specs(module)
      assert List.keymember?(specs, {name, arity}, 0), "#{what} has no spec"
    end
  end

  test "every option of start_link is in its doc" do
    {_, _, docs} = List.keyfind(documented(), ClaudeSession, 0)
    {_, _, _, %{"en" => text}, _} = List.keyfind(docs, {:function, :start_link, 2}, 0)
    error = catch_error(ClaudeSession.start_link("demo", nope: 1))
    [_, allowed] = Regex.run(~r/allowed ones are \[(.*)\]/, Exception.message(error))

    for key <- String.split(allowed, ", "),
        key != ":name",
        do: assert(text =~ "`#{key}`", "#{key} is not told of")
  end

  test "every reason of the client's own is in the table of errors" do
    {_, text, _} = List.keyfind(documented(), ClaudeSession.Error, 0)

    for reason <-
          ~w(interrupted failed cancelled unknown timeout disconnected not_started session_deleted no_bridge
          unmatched_topic unexpected) do
      assert text =~ "`:#{reason}`"
    end
  end

  test "what the guides show compiles" do
    root = Path.expand("..", __DIR__)

    for path <- [Path.join(root, "README.md") | Path.wildcard(Path.join(root, "guides/*.md"))],
        [_, code] <- Regex.scan(~r/^```elixir\n(.*?)^```/ms, File.read!(path)) do
      assert {:ok, _} = Code.string_to_quoted(code, file: path)
    end
  end

  # Of a behaviour, or made by `use` and `defexception`.
  defp callback?(module, name, arity) do
    behaviours = for {:behaviour, found} <- module.module_info(:attributes), b <- found, do: b
    callbacks = for b <- behaviours, Code.ensure_loaded?(b), c <- b.behaviour_info(:callbacks), do: c
    {name, arity} in callbacks or (name in [:child_spec, :message] and module != ClaudeSession)
  end
end
