"""docs/limits.md says what the code does: each limit stands there, with the figure that holds."""

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from understudy.actors.drivers import early, files, settings, terminals
from understudy.protocol import connection, jsonrpc, sizes, verbs, window
from understudy.supervisor.config import config, values
from understudy.supervisor.core import bounds, control, house
from understudy.supervisor.core.specs import AgentSpec, HouseSpec
from understudy.supervisor.shell import environments

PAGE = (Path(__file__).parents[1] / "docs" / "limits.md").read_text()
BOUNDS = re.compile(r".*_max$|memory.*|data_limit.*|files$|.*_timeout_s$|.*_grace_s$")


def configured() -> Iterator[Any]:
    """Yield each limit that the configuration has: the key as it is written, and its default."""
    for kind, place in ((AgentSpec, "of an agent"), (HouseSpec, "of the house")):
        for field in fields(kind):
            if BOUNDS.fullmatch(field.name):
                key = field.name.removesuffix("_mb")
                key = key if kind is AgentSpec else f"[house] {key}"
                yield pytest.param(place, key, field.default, id=key)


def row(place: str, key: str) -> list[str]:
    """Return the cells of the row of `key` in the table `place`."""
    (table,) = (each for each in PAGE.split("\n\n") if each.startswith(f"| {place} |"))
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()]
    found = [each for each in rows if f"`{key}`" in each[0].split(", ")]
    assert found, f"docs/limits.md has no row for `{key}` in its table {place!r}"
    return found[0]


@pytest.mark.parametrize(("place", "key", "default"), [*configured()])
def test_a_limit_of_the_configuration_stands_on_the_page_with_its_default(place: str, key: str, default: float) -> None:
    told = row(place, key)[1].split()[0]

    assert told == (str(default).removesuffix(".0") if default else "none")


def figure(number: int) -> str:
    """Return a pattern for the ways in which the page may write a number: in digits, or in units."""
    units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
    forms = [str(number), *(f"{number // size} {unit}" for size, unit in units if number % size == 0)]
    return rf"(?<![0-9])({'|'.join(forms)})\b"


@pytest.mark.parametrize(
    ("row", "numbers"),
    [
        ("clients, calls, sessions; follows", [house.CLIENTS_MAX, house.CALLS_MAX, house.SESSIONS_MAX]),
        ("clients, calls, sessions; follows", [house.FOLLOWS_PER_CLIENT_MAX]),
        ("verbs that wait", [control.WAITS_MAX, control.WAITS_PER_CLIENT_MAX]),
        ("sessions that `sessions` shows at once", [verbs.SESSIONS_SHOWN_MAX]),
        ("sessions, and requests of each kind, that rest", [house.SESSIONS_KEPT_MAX, house.REQUESTS_KEPT_MAX]),
        ("prompt, answer, call", [sizes.ENTRY_BYTES_MAX]),
        ("body that opens a session", [sizes.OPENING_BYTES_MAX]),
        ("variables that a session brings", [sizes.VARIABLES_MAX, sizes.ENVIRONMENT_BYTES_MAX]),
        ("variables that a session brings", [environments.ENVIRONMENTS_BYTES_MAX]),
        ("any body", [sizes.NESTING_MAX, sizes.VALUES_MAX]),
        ("`cwd`; ids", [sizes.PATH_CHARACTERS_MAX, sizes.ID_CHARACTERS_MAX, sizes.TEXT_CHARACTERS_MAX]),
        ("`serves`; agents in a verb", [sizes.SERVES_MAX, sizes.NAMES_MAX]),
        ("what a driver remembers", [sizes.MEMORY_BYTES_MAX]),
        ("calls that wait for their actor", [bounds.CALL_BYTES_PER_CLIENT_MAX, bounds.CALL_BYTES_MAX]),
        ("calls that wait for their actor", [bounds.CALLS_PER_CLIENT_MAX, house.CALLS_MAX]),
        ("questions of a turn", [bounds.QUESTIONS_PER_TURN_MAX, bounds.QUESTION_BYTES_PER_AGENT_MAX]),
        ("questions of a turn", [bounds.QUESTION_BYTES_MAX]),
        ("answers of more than", [bounds.ANSWER_BYTES_MAX]),
        ("answers that a client does not take", [bounds.UNTAKEN_BYTES_MAX]),
        ("said on a connection of the library", [window.UNDER_WAY_BYTES_MAX]),
        ("what waits for a log", [bounds.UNRECORDED_BYTES_MAX, bounds.UNRECORDED_ENTRIES_MAX]),
        ("a line; a batch; requests to it", [jsonrpc.LINE_BYTES_MAX, jsonrpc.BATCH_MAX, connection.REQUESTS_MAX]),
        ("what it says of a session before", [early.UPDATES_MAX, early.BYTES_MAX]),
        ("mode, model and options", [settings.SETTINGS_MAX, settings.SETTING_CHARACTERS_MAX]),
        ("where no editor serves them", [files.FILE_BYTES_MAX, terminals.TERMINALS_MAX, terminals.OUTPUT_BYTES_MAX]),
        ("its requests that are unanswered", [connection.SERVED_BYTES_MAX, jsonrpc.LINE_BYTES_MAX, jsonrpc.BATCH_MAX]),
        ("the file; its agents", [config.CONFIG_BYTES_MAX, config.AGENTS_MAX, config.UNDERSTUDIES_MAX]),
        ("the file; its agents", [values.TEXT_BYTES_MAX, values.DEPTH_MAX]),
    ],
)
def test_a_figure_of_the_code_stands_on_the_page(row: str, numbers: list[int]) -> None:
    (line,) = (each for each in PAGE.splitlines() if each.startswith(f"| {row}"))
    plain = line.replace(",", "")

    for number in numbers:
        assert re.search(figure(number), plain), f"{figure(number)} is not in: {line}"
