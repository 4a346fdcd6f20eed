"""What is known about the `claude` CLI: its launch line, its environment, its formats."""
