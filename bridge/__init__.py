"""claude-bridge: Claude sessions as a service, over Phoenix Channels."""

__version__ = "0.1.0"
