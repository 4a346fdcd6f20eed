"""Webhooks: endpoints outside are told that a request waits, a turn finished or a session failed."""
