"""The command `claude-bridge`: words in, words out.

No logic of its own: `app` serves, `client` speaks to a bridge, `doctor` looks at the machine, `reading`
says what a terminal shows, `export` what a document has. Every failure ends as one sentence and what to do
about it, with an exit status that scripts can tell apart (docs/reference/command-line.md).
"""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import uuid
from collections.abc import Callable, Coroutine
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.table import Table
from rich.text import Text

from bridge import __version__, client, doctor, token_command
from bridge.attaching import read_files
from bridge.client import Submission
from bridge.config import file_of, load
from bridge.errors import RefusedByBridge, SetupError
from bridge.export import markdown
from bridge.locate import Look
from bridge.reading import CAUGHT_UP, printable
from bridge.terminal import Following, Screen, branch

OK, TURN_FAILED, USAGE, UNREACHABLE, REFUSED, INTERNAL, INTERRUPTED = 0, 1, 2, 3, 4, 70, 130
EXIT_STATUS = {
    OK: "it worked; for `submit`, the turn completed",
    TURN_FAILED: "the turn did not complete (failed, interrupted, cancelled or unknown); "
    "for `doctor`, a problem was found; for `drill`, a promise was broken",
    USAGE: "the command line, the configuration or this machine is not as it must be",
    UNREACHABLE: "no bridge answers",
    REFUSED: "the bridge refused: the message says why, `--json` gives the code",
    INTERNAL: "a defect of claude-bridge itself",
    INTERRUPTED: "Ctrl-C: the command stopped waiting, the session went on",
}

cli = typer.Typer(
    name="claude-bridge",
    help="Runs Claude conversations as a service, and speaks to them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Decision(StrEnum):
    allow = "allow"
    deny = "deny"


class DrillBackend(StrEnum):
    headless = "headless"
    tmux = "tmux"
    api = "api"


class DrillFault(StrEnum):
    bridge = "bridge"
    cli = "cli"
    tmux = "tmux"
    clients = "clients"


StateDir = Annotated[Path | None, typer.Option(help="State folder of the bridge that is meant.")]
Url = Annotated[str | None, typer.Option(help="Address of the bridge, as http://127.0.0.1:4040.")]
Token = Annotated[str | None, typer.Option(help="Token to show; the local bridge's is found by itself.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a script, one object a line.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The session's name.")]
Backend = Annotated[str | None, typer.Option(help="headless, tmux or api.")]
Model = Annotated[str | None, typer.Option(help="Model to use.")]
Cwd = Annotated[Path | None, typer.Option(help="Working folder of the session.")]
Permission = Annotated[str | None, typer.Option(help="default, acceptEdits, plan, dontAsk, …")]
SystemPrompt = Annotated[str | None, typer.Option(help="Replaces the system prompt.")]
AppendPrompt = Annotated[str | None, typer.Option(help="Is added to the system prompt.")]
Allowed = Annotated[list[str] | None, typer.Option("--allowed-tool", help="Tool that needs no permission.")]
Disallowed = Annotated[list[str] | None, typer.Option("--disallowed-tool", help="Tool that is refused.")]
Mcp = Annotated[str | None, typer.Option(help="MCP servers: a file, or JSON.")]
AddDir = Annotated[list[Path] | None, typer.Option("--add-dir", help="Further folder the tools may use.")]
Resume = Annotated[str | None, typer.Option(help="Conversation to take up.")]
OnRestart = Annotated[
    str | None,
    typer.Option(
        help="Backend api: `interrupt` or `continue` an answer that a restart of the bridge cuts off."
    ),
]


# --- the bridge and this machine -----------------------------------------------------------------


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    state_dir: Annotated[Path | None, typer.Option(help="Where the bridge keeps what it knows.")] = None,
    config: Annotated[Path | None, typer.Option(help="Configuration file (TOML).")] = None,
    simulate: Annotated[bool, typer.Option("--simulate", help="Answer from the bundled simulator.")] = False,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow others to reach plain HTTP.")] = False,
) -> int:
    """Run the bridge until Ctrl-C; the sessions go on without it."""
    from bridge.app import serve as run  # what it takes to serve is not loaded for every command

    sources = (_flags(host, port, state_dir, simulate, insecure), config, os.environ)
    return run(load(*sources), lambda: load(*sources), file_of(*sources))


@cli.command("doctor")
def examine(
    checks: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CHECK]...", help=f"Of {', '.join(doctor.CHECKS)}; else all."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address the bridge would listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port the bridge would listen on.")] = None,
    state_dir: Annotated[Path | None, typer.Option(help="State folder the bridge would use.")] = None,
    config: Annotated[Path | None, typer.Option(help="Configuration file (TOML).")] = None,
    simulate: Annotated[bool, typer.Option("--simulate", help="As for `serve --simulate`.")] = False,
    insecure: Annotated[bool, typer.Option("--insecure", help="As for `serve --insecure`.")] = False,
    as_json: Json = False,
) -> int:
    """Look at this machine as the bridge needs it: claude, login, tmux, api, state, port (or those named)."""
    unknown = sorted(set(checks or ()) - set(doctor.CHECKS))
    if unknown:
        raise SetupError(f"There is no check {unknown[0]!r}.", f"There are {', '.join(doctor.CHECKS)}.")
    settings = load(_flags(host, port, state_dir, simulate, insecure), config, os.environ)
    findings = doctor.examine(settings, os.environ, checks or ())
    healthy = all(finding.status != "problem" for finding in findings)
    screen = Screen.made()
    if as_json:
        screen.json({"ok": healthy, "findings": [finding.as_json() for finding in findings]})
        return OK if healthy else TURN_FAILED
    marks = {"ok": ("✓", "green"), "note": ("!", "yellow"), "problem": ("✗", "red")}
    for finding in findings:
        mark, colour = marks[finding.status]
        screen.out.print(Text.assemble((f"{mark} ", colour), f"{finding.check:<7}", printable(finding.said)))
        if finding.remedy:
            screen.out.print(Text(f"          {finding.remedy}", "dim"))
    return OK if healthy else TURN_FAILED


@cli.command()
def drill(
    rounds: Annotated[int, typer.Option(min=1, help="How often something is killed.")] = 20,
    sessions: Annotated[int, typer.Option(min=1, max=50, help="Sessions of each backend.")] = 2,
    backends: Annotated[
        list[DrillBackend] | None, typer.Option("--backend", help="Which backends; else all.")
    ] = None,
    faults: Annotated[
        list[DrillFault] | None, typer.Option("--fault", help="What a round may kill; else any.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of an earlier drill, to repeat its plan.")] = None,
    as_json: Json = False,
) -> int:
    """Kill a bridge of its own under load, again and again, and account for every prompt.

    Uses the simulator, a temporary folder and a tmux server of its own; no other bridge is touched.
    """
    from bridge.drill.command import run  # what it takes to drill is not loaded for every command

    chosen = (tuple(b.value for b in backends or DrillBackend), tuple(f.value for f in faults or DrillFault))
    return OK if run(rounds, sessions, *chosen, seed, as_json=as_json) else TURN_FAILED


cli.add_typer(token_command.group, name="token")


@cli.command()
def console(state_dir: StateDir = None, url: Url = None, token: Token = None) -> int:
    """Print the address of the web console, with the token in its fragment."""
    sys.stdout.write(f"{_look(state_dir, url, token).address().console}\n")
    return OK


# --- sessions ------------------------------------------------------------------------------------


@cli.command("sessions")
def list_sessions(
    tree: Annotated[bool, typer.Option("--tree", help="Show the supervision tree instead.")] = False,
    as_json: Json = False,
    state_dir: StateDir = None,
    url: Url = None,
    token: Token = None,
) -> int:
    """List the sessions."""
    screen = Screen.made()
    answer = _run(client.ask(_look(state_dir, url, token), "sessions", "tree" if tree else "list", {}))
    if as_json:
        screen.json(answer)
    elif tree:
        screen.out.print(branch(answer))
    elif not answer["sessions"]:
        screen.err.print("There are no sessions yet; make one with: claude-bridge start NAME")
    else:
        table = Table(
            "name", "state", "backend", "model", "turns", "viewers", "cwd", box=None, pad_edge=False
        )
        for s in answer["sessions"]:
            row = (s["name"], s["state"], s["backend"], s["model"] or "", s["turns"], s["viewers"], s["cwd"])
            table.add_row(*(Text(printable(str(cell))) for cell in row))
        screen.out.print(table)
        if any(s["backend"] == "tmux" and s["attach"] for s in answer["sessions"]):
            screen.err.print(
                "Type along in one of backend tmux with: claude-bridge attach NAME", highlight=False
            )
    return OK


@cli.command()
def spending(
    days: Annotated[int, typer.Option(min=1, max=3660, help="Of the last days, UTC.")] = 30,
    as_json: Json = False,
    state_dir: StateDir = None,
    url: Url = None,
    token: Token = None,
) -> int:
    """Show what turns have cost, by day, author and session, and how the budgets stand."""
    screen = Screen.made()
    answer = _run(client.ask(_look(state_dir, url, token), "sessions", "spending", {"days": days}))
    if as_json:
        screen.json(answer)
        return OK
    table = Table("day", "author", "session", "turns", "USD", "tokens", box=None, pad_edge=False)
    for row in answer["spending"]:
        tokens = sum(row["usage"].values())
        cells = (
            row["day"],
            row["author"] or "",
            row["session"],
            row["turns"],
            f"{row['cost_usd']:.4f}",
            tokens,
        )
        table.add_row(*(Text(printable(str(cell))) for cell in cells))
    screen.out.print(table)
    for b in answer["budgets"]:
        parts = []
        if b["limit_usd"] is not None:
            parts.append(f"{b['spent_usd']:.4f} of {b['limit_usd']:g} USD")
        if b["limit_tokens"] is not None:
            parts.append(f"{b['spent_tokens']} of {b['limit_tokens']} tokens")
        whose = f" ({b['per']} {b['of']})" if b.get("of") else ""
        until = f", until {b['until']}" if b["until"] else ""
        said = f"Budget {b['name']}{whose} is {b['state']}: {', '.join(parts)}{until}."
        screen.out.print(Text(printable(said)))
    return OK


@cli.command()
def start(
    name: Name,
    backend: Backend = None,
    model: Model = None,
    cwd: Cwd = None,
    permission_mode: Permission = None,
    system_prompt: SystemPrompt = None,
    append_system_prompt: AppendPrompt = None,
    allowed_tools: Allowed = None,
    disallowed_tools: Disallowed = None,
    mcp_config: Mcp = None,
    add_dirs: AddDir = None,
    resume: Resume = None,
    on_restart: OnRestart = None,
    as_json: Json = False,
    state_dir: StateDir = None,
    url: Url = None,
    token: Token = None,
) -> int:
    """Start a session, or take a stopped one up again."""
    options = _options(
        backend=backend,
        model=model,
        cwd=cwd,
        permission_mode=permission_mode,
        system_prompt=system_prompt,
        append_system_prompt=append_system_prompt,
        allowed_tools=allowed_tools,
        disallowed_tools=disallowed_tools,
        mcp_config=mcp_config,
        add_dirs=add_dirs,
        resume=resume,
        on_restart=on_restart,
    )
    asked = client.ask(_look(state_dir, url, token), "sessions", "start", {"name": name, **options})
    return _told(_run(asked), as_json, lambda a: f"{name} is {a['session']['state']}.")


@cli.command()
def fork(
    source: Annotated[str, typer.Argument(metavar="FROM", help="The session to begin with.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new session's name.")],
    from_turn: Annotated[
        str | None, typer.Option(metavar="TURN", help="The last turn to begin with; else the last finished.")
    ] = None,
    as_json: Json = False,
    state_dir: StateDir = None,
    url: Url = None,
    token: Token = None,
) -> int:
    """Begin another session with the turns of one, which goes on as it did."""
    payload = {"name": name, "from": source} | ({} if from_turn is None else {"from_turn": from_turn})
    answer = _run(client.ask(_look(state_dir, url, token), "sessions", "fork", payload))
    return _told(answer, as_json, lambda _: f"{name} goes on from {source}.")


@cli.command()
def stop(
    name: Name, as_json: Json = False, state_dir: StateDir = None, url: Url = None, token: Token = None
) -> int:
    """End a session's process; the conversation stays."""
    answer = _run(client.ask(_look(state_dir, url, token), "sessions", "stop", {"name": name}))
    return _told(answer, as_json, lambda _: f"{name} is stopped; `claude-bridge start {name}` takes it up.")


@cli.command()
def delete(
    name: Name, as_json: Json = False, state_dir: StateDir = None, url: Url = None, token: Token = None
) -> int:
    """End a session and remove its history."""
    answer = _run(client.ask(_look(state_dir, url, token), "sessions", "delete", {"name": name}))
    return _told(answer, as_json, lambda _: f"{name} is deleted.")


@cli.command()
def interrupt(
    name: Name, as_json: Json = False, state_dir: StateDir = None, url: Url = None, token: Token = None
) -> int:
    """Interrupt the running turn; what was answered until then is kept."""
    answer = _run(client.ask(_look(state_dir, url, token), f"session:{name}", "interrupt", {}))
    return _told(
        answer,
        as_json,
        lambda a: f"Turn {a['turn']} is interrupted." if a.get("turn") else "Nothing was running.",
    )


@cli.command()
def answer(
    name: Name,
    request: Annotated[str, typer.Argument(metavar="REQUEST", help="The request's id.")],
    decision: Annotated[Decision, typer.Argument(help="allow or deny.")],
    answers: Annotated[
        list[str] | None, typer.Option("--answer", help="Choice for a question; one for each, in order.")
    ] = None,
    message: Annotated[str | None, typer.Option(help="Tell Claude why.")] = None,
    tool_input: Annotated[str | None, typer.Option("--input", help="JSON to run the tool with.")] = None,
    suggestions: Annotated[
        list[int] | None, typer.Option("--suggestion", help="Take this suggestion, too (its number).")
    ] = None,
    interrupt_turn: Annotated[bool, typer.Option("--interrupt", help="With deny: end the turn.")] = False,
    as_json: Json = False,
    state_dir: StateDir = None,
    url: Url = None,
    token: Token = None,
) -> int:
    """Answer a permission request, a question or a plan. The first answer counts."""
    payload: dict[str, Any] = {"request": request, "decision": decision.value}
    if message is not None:
        payload["message"] = message
    if tool_input is not None:
        payload["input"] = _json_object("--input", tool_input)
    if suggestions:
        payload["suggestions"] = suggestions
    if interrupt_turn:
        payload["interrupt"] = True
    look = _look(state_dir, url, token)
    said = "allowed" if decision is Decision.allow else "denied"
    answered = _run(client.answer(look, name, payload, answers or []))
    return _told(answered, as_json, lambda _: f"Request {request} is {said}.")


@cli.command()
def attach(name: Name, state_dir: StateDir = None, url: Url = None, token: Token = None) -> int:
    """Attach this terminal to the session's own (leave it with Ctrl-b d)."""
    joined = _run(client.ask(_look(state_dir, url, token), f"session:{name}", None, {}))
    command = joined["session"]["attach"]
    if not command:
        state = joined["session"]["state"]
        raise SetupError(
            f"{name} has no terminal to attach to (it is {state}).", f"See: claude-bridge tail {name}"
        )
    words = shlex.split(command)
    try:
        os.execvp(words[0], words)  # noqa: S606 - the command is the bridge's own and runs without a shell
    except OSError as e:
        raise SetupError(
            f"`{command}` cannot be run here: {e.strerror}.", "Run it on the bridge's machine."
        ) from e


@cli.command()
def submit(
    name: Name,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What to ask; - reads it from stdin.")],
    begin: Annotated[bool, typer.Option("--start", help="Start the session where it does not run.")] = False,
    key: Annotated[
        str | None, typer.Option("--id", help="Run once, however often it is sent under it.")
    ] = None,
    attached: Annotated[
        list[Path] | None, typer.Option("--attach", help="File to send along; may be given several times.")
    ] = None,
    steer: Annotated[bool, typer.Option("--steer", help="Put it into the running turn.")] = False,
    command: Annotated[
        bool, typer.Option("--command", help="PROMPT is a slash command, as /compact (backend tmux).")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print the final text only.")] = False,
    thinking: Annotated[bool, typer.Option("--thinking", help="Show what Claude thinks, too.")] = False,
    model: Model = None,
    cwd: Cwd = None,
    permission_mode: Permission = None,
    as_json: Json = False,
    state_dir: StateDir = None,
    url: Url = None,
    token: Token = None,
) -> int:
    """Submit a prompt and print the answer as it comes."""
    text = _text(sys.stdin.buffer.read() if prompt == "-" else os.fsencode(prompt))
    options = _options(model=model, cwd=cwd, permission_mode=permission_mode)
    if options and not begin:
        raise SetupError("Options of a session count when it is started.", "Add --start.")
    what = "command" if command else "prompt"
    payload: dict[str, Any] = {
        what: text,
        "id": key or uuid.uuid4().hex,
        **({"mode": "steer"} if steer else {}),
    }
    if attached:
        payload["attachments"] = read_files(attached)
    submission = Submission(payload)
    events = client.follow(
        _look(state_dir, url, token), name, start=options if begin else None, submission=submission
    )
    shown = Following(name, as_json, quiet, thinking)
    try:
        asyncio.run(shown.until_the_turn_ends(events, submission))
    except KeyboardInterrupt:
        return _left(name, submission)
    return OK if shown.status == "completed" else TURN_FAILED


@cli.command("ask")
def ask_pool(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What to ask; - reads it from stdin.")],
    pool: Annotated[str, typer.Option(metavar="NAME", help="The pool that is to answer.")] = "default",
    key: Annotated[
        str | None, typer.Option("--id", help="Ask once, however often it is sent under it.")
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print the final text only.")] = False,
    thinking: Annotated[bool, typer.Option("--thinking", help="Show what Claude thinks, too.")] = False,
    as_json: Json = False,
    state_dir: StateDir = None,
    url: Url = None,
    token: Token = None,
) -> int:
    """Ask a pool a question that needs no conversation, and print the answer as it comes."""
    text = _text(sys.stdin.buffer.read() if prompt == "-" else os.fsencode(prompt))
    submission = Submission({"prompt": text, "id": key or uuid.uuid4().hex})
    events = client.ask_pool(_look(state_dir, url, token), pool, submission)
    shown = Following(pool, as_json, quiet, thinking)
    try:
        asyncio.run(shown.until_the_turn_ends(events, submission))
    except KeyboardInterrupt:
        screen = Screen.made()
        screen.err.print("\nStopped waiting; a question that was accepted goes on.")
        again = f"See its answer with the same words and: --id {submission.payload['id']}"
        screen.err.print(again, highlight=False)
        return INTERRUPTED
    return OK if shown.status == "completed" else TURN_FAILED


@cli.command()
def tail(
    name: Name,
    turns: Annotated[int, typer.Option(min=0, max=1000, help="Begin with so many turns of the past.")] = 3,
    thinking: Annotated[bool, typer.Option("--thinking", help="Show what Claude thinks, too.")] = False,
    as_json: Json = False,
    state_dir: StateDir = None,
    url: Url = None,
    token: Token = None,
) -> int:
    """Follow a session, whoever prompts it, until Ctrl-C."""
    events = client.follow(_look(state_dir, url, token), name, turns=max(turns, CAUGHT_UP))
    try:
        asyncio.run(Following(name, as_json, False, thinking).all(events, turns))
    except KeyboardInterrupt:
        return _left(name, None)
    return OK


@cli.command("export")
def export_session(
    name: Name,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file instead of the terminal.")
    ] = None,
    as_json: Json = False,
    state_dir: StateDir = None,
    url: Url = None,
    token: Token = None,
) -> int:
    """Print a session's whole history, as Markdown or as JSON."""
    session, turns = asyncio.run(client.history(_look(state_dir, url, token), name))
    if as_json:
        document = orjson.dumps({"session": session, "turns": turns}, option=orjson.OPT_APPEND_NEWLINE)
    else:
        document = markdown(session, turns).encode()
    if output is None:
        sys.stdout.buffer.write(document)
        return OK
    try:
        output.write_bytes(document)
    except OSError as e:
        raise SetupError(f"{output} cannot be written: {e.strerror}.", "Choose another with -o.") from e
    Screen.made().err.print(f"{len(turns)} turns are written to {output}.", highlight=False)
    return OK


# --- the small print -----------------------------------------------------------------------------


def _flags(
    host: str | None, port: int | None, state_dir: Path | None, simulate: bool, insecure: bool
) -> dict[str, Any]:
    # A switch that is not given says nothing, so that the file and the environment are heard.
    return {
        "host": host,
        "port": port,
        "state_dir": state_dir,
        "simulate": simulate or None,
        "insecure": insecure or None,
    }


def _look(state_dir: Path | None, url: str | None, token: str | None) -> Look:
    return Look(state_dir, url, token, os.environ)


def _run(coroutine: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    return asyncio.run(coroutine)


def _told(answer: dict[str, Any], as_json: bool, sentence: Callable[[dict[str, Any]], str]) -> int:
    screen = Screen.made()
    if as_json:
        screen.json(answer)
    else:
        screen.out.print(Text(printable(sentence(answer))))
    return OK


def _left(name: str, submission: Submission | None) -> int:
    screen = Screen.made()
    if submission is not None and submission.turn is None:
        screen.err.print("\nStopped before the bridge had answered: the prompt may or may not be accepted.")
    else:
        screen.err.print("\nStopped waiting; the session goes on.")
    screen.err.print(f"Look again with: claude-bridge tail {name}", highlight=False)
    return INTERRUPTED


def _options(**given: Any) -> dict[str, Any]:
    """What a start says: paths made absolute here, since the bridge stands in another folder."""
    options = {name: value for name, value in given.items() if value not in (None, [])}
    if "cwd" in options:
        options["cwd"] = str(options["cwd"].expanduser().absolute())
    if "add_dirs" in options:
        options["add_dirs"] = [str(folder.expanduser().absolute()) for folder in options["add_dirs"]]
    if "mcp_config" in options:
        given_mcp = options["mcp_config"].strip()
        is_json = given_mcp.startswith("{")
        options["mcp_config"] = (
            _json_object("--mcp-config", given_mcp)
            if is_json
            else str(Path(given_mcp).expanduser().absolute())
        )
    return options


def _text(given: bytes) -> str:
    try:
        return given.decode()
    except UnicodeDecodeError as e:
        raise SetupError(f"The prompt is not valid UTF-8 (byte {e.start}).", "Convert it first.") from None


def _json_object(flag: str, text: str) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as e:
        raise SetupError(f"{flag} is not valid JSON: {e}.", 'It is written like {"command": "ls"}.') from None
    if not isinstance(value, dict):
        raise SetupError(f"{flag} must be a JSON object.", 'It is written like {"command": "ls"}.')
    return value


@cli.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        sys.stdout.write(f"claude-bridge {__version__}\n")
        raise typer.Exit


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit status (`EXIT_STATUS` says what each means)."""
    screen = Screen.made()
    try:
        status = cli(arguments, prog_name="claude-bridge", standalone_mode=False)
    except SetupError as e:
        if isinstance(e, RefusedByBridge) and "--json" in (arguments or sys.argv):
            screen.json({"error": {"reason": e.reason, "message": e.problem, **e.details}})
        screen.problem(e)
        return e.exit_code
    except typer.TyperException as e:
        e.show()  # type: ignore[attr-defined]  # every usage error has it; the public base does not say so
        return e.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except (BrokenPipeError, SystemExit) as e:
        # Whoever read us has enough; typer and rich make an exit with status 1 of it.
        if not isinstance(e, BrokenPipeError) and not isinstance(e.__context__, BrokenPipeError):
            raise
        # Nothing more may be flushed into the pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as e:
        if os.environ.get("CLAUDE_BRIDGE_LOG__LEVEL") == "debug":
            raise
        screen.problem(
            SetupError(
                f"claude-bridge met a defect of its own: {type(e).__name__}: {e}",
                "CLAUDE_BRIDGE_LOG__LEVEL=debug shows where; please report it.",
            )
        )
        return INTERNAL
    return status if isinstance(status, int) else OK
