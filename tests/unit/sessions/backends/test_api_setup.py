"""What it takes to talk to the API, and what is said where it is missing."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from bridge.commands import StartOptions
from bridge.config import ApiConfig
from bridge.errors import BackendUnavailable, InvalidPayload
from bridge.sessions.backends.api_setup import ANTHROPIC, OF_THE_CLI, Access, access, check


def test_a_configured_key_comes_before_the_environments() -> None:
    """And so does the address; of a login nothing is known."""
    environ = {"ANTHROPIC_API_KEY": "theirs", "ANTHROPIC_BASE_URL": "http://there"}
    assert access(ApiConfig(), environ) == Access("theirs", "http://there")
    assert access(ApiConfig(key="ours", base_url="http://here"), environ) == Access("ours", "http://here")
    assert access(ApiConfig(key="ours"), {"ANTHROPIC_AUTH_TOKEN": "no"}) == Access("ours", ANTHROPIC)
    assert "theirs" not in repr(access(ApiConfig(), environ))


def test_without_a_key_it_is_said_what_to_set() -> None:
    """By both of its names."""
    with pytest.raises(BackendUnavailable) as refused:
        access(ApiConfig(), {"ANTHROPIC_AUTH_TOKEN": "no"})
    assert "api.key" in refused.value.details["remedy"]
    assert "ANTHROPIC_API_KEY" in refused.value.details["remedy"]


def test_without_the_package_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra, not the package's own name."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendUnavailable, match=r"claude-bridge\[api\]"):
        access(ApiConfig(key="k"), {})


@pytest.mark.parametrize(
    "url", ["nonsense", "ftp://x:pass@y", "http://", "http://[::bad", "http://x:99999999"]
)
def test_what_is_no_address_is_said_to_be_none(url: str) -> None:
    """Before anything is asked of it, and without what may be a password."""
    with pytest.raises(BackendUnavailable, match=r"api\.base_url") as refused:
        access(ApiConfig(key="k", base_url=url), {})
    assert ANTHROPIC in str(refused.value)
    assert "pass@" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://127.0.0.1:4040", "127.0.0.1"),
        ("https://api.anthropic.com", "api.anthropic.com"),
        ("http://user@[::1]:80/x", "::1"),
        ("http://localhost/x", "localhost"),
    ],
)
def test_the_host_is_known_by_which_a_proxy_is_decided(url: str, host: str) -> None:
    """Loopback is reached without one."""
    assert Access("k", url).host == host


def test_what_means_something_to_the_cli_alone_is_refused() -> None:
    """Also where it asks for nothing."""
    values: dict[str, Any] = {name: [] for name in OF_THE_CLI} | {"mcp_config": {}, "resume": "x"}
    for name, value in values.items():
        with pytest.raises(InvalidPayload) as refused:
            check(StartOptions(**{name: value}))
        assert refused.value.details["field"] == name
    check(
        StartOptions(permission_mode="default", model="m", cwd="/", on_restart="continue", system_prompt="s")
    )
