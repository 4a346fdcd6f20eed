defmodule ClaudeSession.FrameTest do
  use ExUnit.Case, async: true

  alias ClaudeSession.Frame

  # RFC 6455, 5.7.
  @hello <<0x81, 0x05, "Hello">>
  @masked <<0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58>>

  test "the examples of the RFC" do
    assert {:ok, [{:text, "Hello"}], _} = Frame.take(%Frame{}, @hello)
    assert {:ok, [{:text, "Hello"}], _} = Frame.take(%Frame{role: :server}, @masked)
    assert {:ok, [{:text, "Hello"}], _} = Frame.take(%Frame{}, <<0x01, 0x03, "Hel", 0x80, 0x02, "lo">>)
    assert {:ok, [{:ping, "Hello"}], _} = Frame.take(%Frame{}, <<0x89, 0x05, "Hello">>)
    assert IO.iodata_to_binary(Frame.encode({:text, "Hello"}, :client, <<0x37, 0xFA, 0x21, 0x3D>>)) == @masked
    assert IO.iodata_to_binary(Frame.encode({:text, "Hello"}, :server)) == @hello
    assert Frame.accept("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
  end

  test "every size there and back, by either side" do
    for size <- [0, 1, 125, 126, 127, 65_535, 65_536, 100_000],
        {from, to} <- [{:client, :server}, {:server, :client}] do
      data = :crypto.strong_rand_bytes(size)
      wire = IO.iodata_to_binary(Frame.encode({:binary, data}, from))
      assert {:ok, [{:binary, ^data}], %{buffer: ""}} = Frame.take(%Frame{role: to}, wire)
    end
  end

  test "wherever it is split, it is the same" do
    parts = [
      <<0x01, 0x04, "Gr", 0xC3, 0xBC>>,
      <<0x89, 0x01, "p">>,
      <<0x80, 0x03, 0xC3, 0x9F, "e">>,
      <<0x82, 126, 0, 130>>
    ]

    wire = IO.iodata_to_binary([parts, :binary.copy("x", 130), <<0x88, 0x02, 1012::16>>])

    expected = [
      {:ping, "p"},
      {:text, "Grüße"},
      {:binary, :binary.copy("x", 130)},
      {:close, 1012, ""}
    ]

    for at <- 0..byte_size(wire) do
      <<head::binary-size(at), rest::binary>> = wire
      assert {:ok, first, frame} = Frame.take(%Frame{}, head)
      assert {:ok, second, %{buffer: "", part: nil}} = Frame.take(frame, rest)
      assert first ++ second == expected
    end
  end

  test "what a server must not send, by the code that answers it" do
    for {code, wire} <- [
          {1002, <<0xC1, 0x00>>},
          {1002, <<0x83, 0x00>>},
          {1002, @masked},
          {1002, <<0x80, 0x00>>},
          {1002, <<0x01, 0x01, "a", 0x81, 0x01, "b">>},
          {1002, <<0x09, 0x00>>},
          {1002, <<0x89, 126, 200::16>>},
          {1002, <<0x88, 0x01, 0>>},
          {1002, <<0x88, 0x02, 1005::16>>},
          {1007, <<0x81, 0x02, 0xC3, 0x28>>},
          {1007, <<0x88, 0x03, 1000::16, 0xFF>>},
          {1009, <<0x82, 127, 0x7FFFFFFF::64>>}
        ] do
      assert {:error, ^code, []} = Frame.take(%Frame{}, wire)
    end

    # What was whole before it counts.
    assert {:error, 1002, [{:text, "Hello"}]} = Frame.take(%Frame{}, @hello <> <<0x83, 0x00>>)
    assert {:error, 1009, []} = Frame.take(%Frame{max: 5}, <<0x01, 0x03, "abc", 0x80, 0x03, "def">>)
  end
end
