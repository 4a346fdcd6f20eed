"""Pure codecs: bytes to messages and back. No sockets, no asyncio, no state of the domain."""
