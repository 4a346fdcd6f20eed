"""The suites here run over every backend: what clients rely on does not depend on what runs below."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.bridge import BridgeProcess, running_bridge

BACKENDS = ("headless", "tmux", "api")
"""The next backend is added here, and has to keep every promise that is tested in this folder."""

NO_TOOLS = "an api session has no tools, and so none to permit"
NOT_OF_THE_API = {
    "test_turns_tools": NO_TOOLS,
    "test_turns_agents": NO_TOOLS,
    "test_a_session_works_where_it_is_told_to": NO_TOOLS,
    "test_an_allowed_tool_needs_no_permission_and_a_disallowed_one_is_not_there": NO_TOOLS,
    "test_a_permission_mode_is_changed": NO_TOOLS,
    "test_a_mode_that_claude_refuses_is_refused": NO_TOOLS,
    "test_an_mcp_server_is_offered": NO_TOOLS,
    "test_a_system_prompt_replaces_claudes_own": "it has none; tests/integration/test_api.py has what it has",
    "test_an_answer_that_was_not_streamed_comes_as_its_block_alone": "only the CLI asks without streaming",
}
"""Modules and tests that are about what the backend `api` does not have, and why."""


LONG = {
    "tmux": (
        "test_fifty_prompts_at_once_are_fifty_turns_in_order",
        "test_an_interrupt_right_behind_its_prompt_ends_it",
        "test_positions_count_what_is_before",
        "test_ids_of_two_sessions_do_not_meet",
        "test_an_id_belongs_to_its_prompt",
        "test_only_a_queued_turn_can_be_cancelled",
        "test_a_prompt_of_one_byte_more_is_refused",
        "test_files_stay_for_as_long_as_the_session",
        "test_a_deleted_name_can_be_used_again",
        "test_deleting_closes_every_channel_for_good",
        "test_a_restart_keeps_the_conversation",
        "test_a_queued_turn_is_cancelled",
        "test_an_overloaded_api_is_asked_again",
        "test_a_question_gets_its_answer",
        "test_an_allowed_tool_runs",
        "test_long_output_is_cut_and_says_so",
        "test_what_was_configured_holds_after_a_restart",
        "test_history_tells_the_turns_as_they_were",
        "test_files_wait_with_their_prompt",
    ),
    "api": ("test_fifty_prompts_at_once_are_fifty_turns_in_order",),
}
"""Tests that take seconds over one backend, of what another one shows as well: for the soak."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """There are hundreds of awkward prompts: `make test` tries every eighth, others over each backend, the
    soak the rest."""
    tests = [i for i in items if isinstance(i, pytest.Function)]
    awkward = [i for i in tests if i.path.name == "test_awkward_prompts.py"]
    for item in (i for n, i in enumerate(awkward) if n % 8):
        item.add_marker(pytest.mark.soak)
    for item in (i for i in tests if i.originalname in LONG.get(str(_backend_of(i)), ())):
        item.add_marker(pytest.mark.soak)


def _backend_of(item: pytest.Function) -> object:
    return item.callspec.params.get("backend") if hasattr(item, "callspec") else None


@pytest.fixture(autouse=True)
def of_this_backend(request: pytest.FixtureRequest) -> None:
    """Skips what is not."""
    if request.getfixturevalue("backend") == "api":
        for name in (request.node.module.__name__.rpartition(".")[2], request.node.originalname):
            if name in NOT_OF_THE_API:
                pytest.skip(NOT_OF_THE_API[name])


@pytest.fixture(scope="module", params=BACKENDS, autouse=True)
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def bridge(backend: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    """One for all tests of a file over one backend: its folders and its record of requests are theirs."""
    with running_bridge(tmp_path_factory.mktemp(f"bridge-{backend}")) as running:
        yield running
