"""The ways into a bridge, by name: every one is to keep the same promises."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tests.fakes.peers.base import Peer, Reply
from tests.fakes.peers.channels import V1, V2, LongPollPeer, WebSocketPeer
from tests.fakes.peers.rest import RestPeer
from tests.fakes.peers.socket_io import SocketIOPeer

__all__ = ["WAYS", "Peer", "Reply"]

WAYS: dict[str, Callable[[str, str], Peer]] = {
    "phoenix-v2": partial(WebSocketPeer, vsn=V2),
    "phoenix-v1": partial(WebSocketPeer, vsn=V1),
    "longpoll-v2": partial(LongPollPeer, vsn=V2),
    "longpoll-v1": partial(LongPollPeer, vsn=V1),
    "socketio": lambda address, token: SocketIOPeer(address, token, "websocket"),
    "socketio-polling": lambda address, token: SocketIOPeer(address, token, "polling"),
    "rest": RestPeer,
}
