defmodule ClaudeSession.SpecTest do
  @moduledoc "The golden frames and the error codes, which belong to no language."
  use ExUnit.Case, async: true

  alias ClaudeSession.{Error, Event, JSON, Options, View, Wire}

  @spec_folder Path.expand("../../../spec", __DIR__)

  defp golden(name) do
    {:ok, found} = [@spec_folder, "frames", name <> ".json"] |> Path.join() |> File.read!() |> JSON.decode()
    found
  end

  defp decoded({join_ref, ref, topic, event, payload}) do
    payload = with {:binary, data} <- payload, do: Base.encode16(data, case: :lower)
    %{"join_ref" => join_ref, "ref" => ref, "topic" => topic, "event" => event, "payload" => payload}
  end

  test "what the server says is read as it is meant" do
    rows = Enum.flat_map(~w(v2_server v2_terminal v2_attachments), &golden/1)

    for %{"direction" => "server", "wire" => wire} = frame <- rows do
      {kind, data} =
        if frame["opcode"] == "binary",
          do: {:binary, Base.decode16!(wire, case: :lower)},
          else: {:text, wire}

      assert {:ok, message} = Wire.decode(kind, data)
      assert decoded(message) == frame["decoded"], frame["name"]
    end
  end

  test "what the client says is written as it is meant" do
    rows = Enum.flat_map(~w(v2_client v2_terminal v2_attachments), &golden/1)

    for %{"direction" => "client"} = frame <- rows do
      said = frame["decoded"]

      if frame["opcode"] == "binary" do
        data = Base.decode16!(said["payload"], case: :lower)
        wire = Wire.encode_binary(said["join_ref"], said["ref"], said["topic"], said["event"], data)
        assert Base.encode16(IO.iodata_to_binary(wire), case: :lower) == frame["wire"]
      else
        wire =
          Wire.encode(
            said["join_ref"],
            said["ref"],
            said["topic"],
            said["event"],
            JSON.encode!(said["payload"])
          )

        assert JSON.decode(IO.iodata_to_binary(wire)) == JSON.decode(frame["wire"]), frame["name"]
      end
    end
  end

  test "files that go with a prompt are written as they are meant, and told as they came" do
    frames = golden("v2_attachments")
    %{"decoded" => %{"payload" => hex}} = Enum.find(frames, &(&1["opcode"] == "binary"))
    {:ok, payload, ["drei\n"]} = Wire.files(Base.decode16!(hex, case: :lower))
    file = %{name: "größe.txt", media_type: "text/plain", data: "drei\n"}
    {:ok, "k", {:binary, bytes}} = Options.submission("what is it?", id: "k", attachments: [file])
    assert Wire.files(bytes) == {:ok, Map.put(payload, "id", "k"), ["drei\n"]}
    assert Wire.files(bytes <> "more") == :error
    assert Wire.files(binary_part(bytes, 0, byte_size(bytes) - 1)) == :error

    view =
      for %{"direction" => "server", "decoded" => %{"event" => event, "payload" => told}} <- frames,
          reduce: %View{epoch: "e", seq: 6} do
        view ->
          {:ok, view} = View.take(view, event, told)
          view
      end

    assert %{"attachments" => [%{"name" => "größe.txt", "size" => 5}]} = View.open_turn(view)
  end

  test "what is malformed is not taken for a message" do
    for %{"vsn" => "v2", "wire" => wire} <- golden("malformed"),
        not String.contains?(wire, ["1e400", "ud800"]) do
      assert {:error, _} = Wire.decode(:text, wire), wire
    end

    for wire <- [<<>>, <<0, 5>>, <<3, 1, 1, 1>>, <<0, 1, 1, 1, "a">>] do
      assert {:error, _} = Wire.decode(:binary, wire)
    end
  end

  test "every event of the contract is known by name, and is taken in" do
    frames = golden("v2_server")
    # Those of the lobby have no number.
    events =
      for %{"name" => "event " <> _, "decoded" => %{"topic" => "session:" <> _} = decoded} <- frames,
          do: decoded

    assert length(events) > 15

    Enum.reduce(events, %View{epoch: "e"}, fn %{"event" => event, "payload" => payload}, view ->
      assert %Event{name: name} = Event.from_wire("demo", event, payload)
      assert Atom.to_string(name) == event
      assert {:ok, view} = View.take(view, event, payload)
      view
    end)
  end

  test "the reasons are those of errors.json, and so is what can be tried again" do
    {:ok, errors} = @spec_folder |> Path.join("errors.json") |> File.read!() |> JSON.decode()
    assert errors |> Map.keys() |> Enum.sort() == Error.codes() |> Enum.map(&Atom.to_string/1) |> Enum.sort()

    for {code, %{"retryable" => retryable}} <- errors do
      error = Error.from_reply(%{"reason" => code, "message" => "m", "limit" => 3})
      assert %Error{message: "m", details: %{"limit" => 3}} = error
      assert Atom.to_string(error.reason) == code
      assert Error.retryable?(error) == retryable, code
    end
  end

  test "what no version knows becomes no atom" do
    word = "made_up_#{System.unique_integer([:positive])}"
    assert %Error{reason: :unexpected, details: %{"reason" => ^word}} = Error.from_reply(%{"reason" => word})
    assert %Event{name: :other, payload: %{"event" => ^word}} = Event.from_wire("demo", word, %{})
    assert %Error{reason: :unmatched_topic} = Error.from_reply(%{"reason" => "unmatched topic"})
    assert_raise ArgumentError, fn -> String.to_existing_atom(word) end
  end
end
