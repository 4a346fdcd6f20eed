"""Access given and taken back, on the bridge as people run it; and the same bridge over TLS."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from bridge import client
from bridge.config import JwtConfig
from bridge.jwts import Jwts
from bridge.locate import Look
from tests.fakes.bridge import END_S, ROOT, BridgeProcess, running_bridge
from tests.fakes.keys import SECRET, minted, write_certificate
from tests.fakes.phoenix_js import Clients, Refused

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    """With a configuration file, in which JWTs are allowed."""
    folder = tmp_path_factory.mktemp("access")
    (folder / "state").mkdir(mode=0o700)
    (folder / "state/config.toml").write_text(f'[auth.jwt]\nsecret = "{SECRET}"\nleeway_s = 0\n')
    with running_bridge(folder) as running:
        yield running


def said_since(bridge: BridgeProcess, words: str, count: int) -> None:
    """Until the log has these words so many times."""
    deadline = time.monotonic() + END_S
    while bridge.log.read_text().count(words) < count:
        assert time.monotonic() < deadline, bridge.tail()
        time.sleep(0.01)


def made(bridge: BridgeProcess, *words: str) -> str:
    """A new token, in force."""
    before = bridge.log.read_text().count("configuration read again")
    done = bridge.run("token", "new", *words, "--write")
    assert done.returncode == 0, done.stderr
    assert "was told" in done.stderr
    said_since(bridge, "configuration read again", before + 1)
    return done.stdout.strip()


def test_a_token_is_given_out_and_taken_back(bridge: BridgeProcess, clients: Clients) -> None:
    """Without a restart; taking it back closes what is open at once, and nobody else's."""
    token = made(bridge, "ada", "--scope", "watch", "--scope", "prompt", "--session", "ada-*")
    said = bridge.run("token", "list", "--json").stdout
    assert token not in said
    listed = json.loads(said)["tokens"]
    assert [(t["name"], t["scopes"], t["sessions"]) for t in listed] == [
        ("ada", ["watch", "prompt"], ["ada-*"])
    ]
    owner = clients.connect(bridge.url, bridge.token)
    owner.join("session:ada-one", {"start": {}})
    owner.join("session:bobs", {"start": {}})
    ada = clients.connect(bridge.url, token)
    assert [s["name"] for s in ada.join("sessions").joined["sessions"]] == ["ada-one"]
    assert ada.join("session:ada-one").ask("who am I?").finished["status"] == "completed"
    with pytest.raises(Refused, match="forbidden"):
        ada.join("session:bobs")
    done = bridge.run("token", "revoke", "ada")
    assert done.returncode == 0, done.stderr
    assert ada.wait("close")["code"] == 1001
    assert asyncio.run(refused(bridge, token))
    assert owner.join("sessions").push("list")["sessions"]
    assert token not in bridge.log.read_text()


async def refused(bridge: BridgeProcess, token: str) -> bool:
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{bridge.port}/socket/websocket"
        with pytest.raises(aiohttp.WSServerHandshakeError) as error:
            await session.ws_connect(url, params={"vsn": "2.0.0", "token": token})
        return error.value.status == 403


def test_a_jwt_is_let_in_under_its_name_and_ends_by_itself(bridge: BridgeProcess, clients: Clients) -> None:
    """The author of the prompt is the `sub`; when `exp` has come the socket is closed."""
    # Time for Node to connect and to ask, which it does in a tenth of it.
    jwt = minted(sub="grace", scopes="watch prompt control", sessions=["hers"], exp=int(time.time()) + 5)
    socket = clients.connect(bridge.url, jwt)
    channel = socket.join("session:hers", {"start": {}})
    channel.submit("hello")
    assert channel.wait("turn_started")["author"] == "grace"
    assert socket.wait("close")["code"] == 1001
    assert asyncio.run(refused(bridge, jwt))


def test_the_how_tos_code_makes_a_token_that_is_taken(tmp_path: Path) -> None:
    """Its JavaScript is run as it stands there."""
    page = (ROOT / "docs/how-to/give-access.md").read_text()
    code = page.partition("```js\n")[2].partition("```")[0]
    call = f'console.log(bridgeToken({{username: "ada"}}, "{SECRET}"))'
    (tmp_path / "mint.mjs").write_text(f"{code}\n{call}\n")
    done = subprocess.run(
        ["node", "mint.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=END_S, check=True
    )
    config = JwtConfig(secret=SECRET, audience="claude-bridge", issuer="https://app.example")
    claims = Jwts(config).verify(done.stdout.strip(), time.time())
    assert (claims.name, claims.sessions) == ("ada", ("ada-*",))
    assert claims.scopes == {"watch", "prompt", "approve"}


def test_limits_count_from_the_moment_they_are_read(bridge: BridgeProcess, clients: Clients) -> None:
    """A prompt too many is refused with when to come again, and was not taken."""
    config = bridge.state_dir / "config.toml"
    before = config.read_text()
    count = bridge.log.read_text().count("configuration read again")
    channel = clients.connect(bridge.url, bridge.token).join("session:limited", {"start": {}})
    config.write_text("[auth]\nsubmits_per_minute = 2\n" + before)
    assert bridge.process is not None
    bridge.process.send_signal(signal.SIGHUP)
    said_since(bridge, "configuration read again", count + 1)
    channel.ask("one")
    channel.ask("two")
    with pytest.raises(Refused) as limited:
        channel.push("submit", {"prompt": "three"})
    assert limited.value.reason == "rate_limited"
    assert 0 < limited.value.response["retry_after_s"] <= 30
    config.write_text(before)
    bridge.process.send_signal(signal.SIGHUP)
    said_since(bridge, "configuration read again", count + 2)
    channel.ask("four")
    prompts = [turn["prompt"] for turn in channel.push("history")["turns"]]
    assert prompts == ["one", "two", "four"]


def test_a_configuration_that_does_not_fit_changes_nothing(bridge: BridgeProcess, clients: Clients) -> None:
    """The bridge says so, goes on, and still knows who may come in."""
    token = made(bridge, "bob", "--scope", "watch")
    socket = clients.connect(bridge.url, token)
    config = bridge.state_dir / "config.toml"
    before = config.read_text()
    config.write_text(before.replace("[[auth.tokens]]", "[[auth.tokenss]]"))
    assert bridge.process is not None
    bridge.process.send_signal(signal.SIGHUP)
    said_since(bridge, "configuration not taken", 1)
    assert "auth.tokens?" in bridge.log.read_text()
    socket.join("sessions")
    config.write_text(before)


async def renewed(bridge: BridgeProcess, folder: Path) -> None:
    """A new certificate while a client is connected, which goes on; who comes then is shown the new one."""
    look = Look(bridge.state_dir, environ={})
    named = Look(bridge.state_dir, f"https://127.0.0.1:{bridge.port}", environ={})
    async with AsyncExitStack() as stack:
        before = await stack.enter_async_context(client.connect(look.address()))
        await before.join("sessions", {})
        old = look.address().certificate
        write_certificate(folder)
        assert bridge.process is not None
        bridge.process.send_signal(signal.SIGHUP)
        await asyncio.to_thread(said_since, bridge, "configuration read again", 1)
        assert look.address().certificate not in (None, old)
        after = await stack.enter_async_context(client.connect(named.address()))
        await after.join("sessions", {})
        started = await after.push("sessions", "start", {"name": "secure"})
        assert started["session"]["name"] == "secure"
        while (await before.receive()).payload["session"]["name"] != "secure":
            pass
    # Whoever else listens there is not shown the token.
    note = bridge.state_dir / "bridge.json"
    note.write_text(json.dumps({**json.loads(note.read_bytes()), "certificate": "00" * 32}))
    wrong = await asyncio.to_thread(bridge.run, "sessions")
    assert (wrong.returncode, "another certificate" in wrong.stderr) == (3, True), wrong.stderr


async def test_over_tls_the_commands_know_the_certificate_and_a_new_one_cuts_nobody_off(
    tmp_path: Path,
) -> None:
    """It needs to be in nobody's trust store: the bridge leaves word of it in its own folder."""
    cert, key = write_certificate(tmp_path)
    paths = {"CLAUDE_BRIDGE_SERVER__TLS_CERT": str(cert), "CLAUDE_BRIDGE_SERVER__TLS_KEY": str(key)}
    with running_bridge(tmp_path, **paths) as bridge:
        assert json.loads((bridge.state_dir / "bridge.json").read_bytes())["scheme"] == "https"
        done = bridge.run("submit", "demo", "hello", "--start", "-q")
        assert (done.returncode, done.stdout) == (0, "You said: hello\n"), done.stderr
        await renewed(bridge, tmp_path)
