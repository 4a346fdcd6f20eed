# `make test` leaves the long runs out; `mix test --include soak` has them.
exclude = [soak: true]

# What needs no bridge runs where there is none.
bridge? = System.get_env("CLAUDE_SESSION_BRIDGE", "1") == "1"
exclude = if bridge?, do: exclude, else: [:bridge | exclude]

Logger.configure(level: :warning)
ExUnit.start(exclude: exclude, assert_receive_timeout: 5_000, capture_log: true)
