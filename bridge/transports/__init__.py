"""Sockets and their clients. What a session is, a transport learns from `service` alone."""
