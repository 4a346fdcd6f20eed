"""What is built of a clean checkout: a wheel and an sdist with the web console, served where no Node is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge import __version__
from tests.fakes.bridge import ROOT, BridgeProcess

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

WHEEL = f"claude_bridge-{__version__}-py3-none-any.whl"


@pytest.fixture(scope="module")
def without_node(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH with what the bridge needs of a machine, and no more."""
    folder = tmp_path_factory.mktemp("bin")
    for name in ("bash", "dirname", "env", "sh", "tmux"):
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return str(folder)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What git holds, or would, and nothing that was built. The npm packages are those of this checkout: a
    test asks no registry."""
    folder = tmp_path_factory.mktemp("checkout")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    said = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, said.split("\0")):
        if (ROOT / name).is_file():  # git still lists what was deleted and not committed
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    packages = ROOT / "clients" / "console" / "node_modules"
    assert packages.is_dir(), "run `make setup`: the npm packages are missing"
    (folder / "clients" / "console" / "node_modules").symlink_to(packages.resolve())
    return folder


def build(folder: Path, target: str, **env: str) -> subprocess.CompletedProcess[str]:
    """As pip does without isolation."""
    return subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder / "dist")],
        cwd=folder,
        env=os.environ | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def built(folder: Path, target: str, **env: str) -> Path:
    """The package, which replaces what was built before."""
    shutil.rmtree(folder / "dist", ignore_errors=True)
    done = build(folder, target, **env)
    assert done.returncode == 0, done.stderr
    (package,) = (folder / "dist").iterdir()
    return package


def console_of(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as opened:
        return {name for name in opened.namelist() if name.startswith("bridge/console/")}


@pytest.fixture(scope="module")
def unpacked(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist of the checkout, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(built(checkout, "sdist")) as sdist:
        sdist.extractall(folder, filter="data")
    return folder / f"claude_bridge-{__version__}"


@pytest.fixture(scope="module")
def wheel(unpacked: Path, without_node: str) -> Path:
    """Made of the sdist by somebody who has no Node."""
    return built(unpacked, "wheel", PATH=without_node)


@pytest.fixture
def installed(wheel: Path, tmp_path: Path, without_node: str) -> Iterator[BridgeProcess]:
    """The wheel's own bridge, beside the packages of this environment."""
    target = tmp_path / "target"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "-qq",
        "--disable-pip-version-check",
        "install",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run(
        [*pip, "--target", str(target), str(wheel)], env=os.environ | {"PIP_USER": "0"}, check=True
    )
    bridge = BridgeProcess(tmp_path, PATH=without_node, PYTHONPATH=str(target), PYTHONSAFEPATH="1")
    asked = [sys.executable, "-c", "import bridge; print(bridge.__file__)"]
    found = subprocess.run(asked, cwd=ROOT, env=bridge.env, capture_output=True, text=True, check=True).stdout
    assert Path(found.strip()).is_relative_to(target)
    try:
        bridge.start()
        yield bridge
    finally:
        bridge.remove()


def test_a_wheel_of_a_clean_checkout_has_the_console(checkout: Path) -> None:
    """With its version, its page, and the scripts and styles that the page asks for, packed as well."""
    wheel = built(checkout, "wheel")
    assert wheel.name == WHEEL
    files = console_of(wheel)
    assert "bridge/console/index.html" in files
    scripts = [name for name in files if name.endswith(".js")]
    assert scripts
    assert {f"{name}.gz" for name in scripts} <= files


@pytest.mark.soak
def test_the_sdist_has_the_console_and_nothing_of_npm(unpacked: Path, wheel: Path) -> None:
    """A wheel made of it has the same console."""
    assert (unpacked / "bridge" / "console" / "index.html").exists()
    assert not list(unpacked.rglob("node_modules"))
    there = (unpacked / "bridge" / "console").rglob("*")
    assert console_of(wheel) == {str(file.relative_to(unpacked)) for file in there if file.is_file()}


def test_an_installed_wheel_serves_the_console_without_node(installed: BridgeProcess) -> None:
    """The page, what it asks for first, and what that asks for."""

    def served(path: str) -> tuple[str, str | None]:
        with urllib.request.urlopen(f"http://127.0.0.1:{installed.port}/{path}", timeout=30) as answer:
            return answer.read().decode(), answer.headers["Content-Type"]

    page, _ = served("")
    entry, kind = served(found(r'src="\./(assets/[^"]+)', page))
    assert kind == "text/javascript; charset=utf-8"
    rest, _ = served("assets/" + found(r"(start-[^\"']+\.js)", entry))
    assert len(rest) > 50_000


def test_without_node_a_build_says_what_to_do(checkout: Path, without_node: str) -> None:
    """Nobody gets a package without a console who did not ask for one."""
    refused = build(checkout, "wheel", PATH=without_node)
    assert refused.returncode != 0
    for words in ("Node.js", "BUILD_WITHOUT_CONSOLE=1"):
        assert words in refused.stderr
    assert "Traceback" not in refused.stderr
    wheel = built(checkout, "wheel", PATH=without_node, BUILD_WITHOUT_CONSOLE="1")
    assert console_of(wheel) == set()


def test_an_editable_install_builds_no_console(checkout: Path, without_node: str) -> None:
    """What a checkout serves is built by `make`, when its sources change."""
    built(checkout, "wheel:editable", PATH=without_node)


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match is not None, text
    return match[1]
