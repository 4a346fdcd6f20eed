"""The ways to run a session; `base` is the port, each other file one implementation."""
