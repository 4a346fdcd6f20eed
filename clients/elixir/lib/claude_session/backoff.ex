defmodule ClaudeSession.Backoff do
  @moduledoc false
  # How long to wait before the next attempt: full jitter, so that a thousand clients of a bridge that was restarted do
  # not all come at once.

  @base_ms 50
  # A bridge that is upgraded is away for a second or two; one that is down costs an attempt every few seconds.
  @cap_ms 5_000

  @doc """
  Milliseconds before attempt number `attempt`, counted from 0: anything from 1 up to a bound that doubles to 5 s.

      iex> Enum.all?(0..100, &(ClaudeSession.Backoff.delay(&1) in 1..5_000))
      true
      iex> ClaudeSession.Backoff.delay(0) <= 50
      true
  """
  @spec delay(non_neg_integer) :: pos_integer
  def delay(attempt), do: :rand.uniform(min(@cap_ms, @base_ms * Integer.pow(2, min(attempt, 10))))
end
