"""Logs that older versions wrote and left in the middle of everything load, and their sessions go on."""

import asyncio
import json
import sys
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.compat.play import CONFIG, seen
from tests.faults.house import RealHouse
from tests.logs import known
from understudy.protocol.client import Session, connect
from understudy.supervisor.formats import SCHEMA_VERSION
from understudy.supervisor.log.log import Log

FOLDER = Path(__file__).parent
# Each must be there for ever: a version that wrote it may be on somebody's disk.
KEPT = [
    "schema-1-f771ceb",
    "schema-2-5997c2b",
    "schema-2-308a52e",
    "schema-3-68bde69",
    "schema-4-a09744f",
    "schema-5-1e4b75b",
]
HOW = {"several": "end_turn", "remembered": "max_tokens", "lost": "interrupted", "failed": "failed"}
HOW |= {"cancelled": "cancelled", "running": "interrupted", "asked": "interrupted", "opened": "end_turn"}
LAST = {"remembered": "max_tokens"}  # The puppet's own way to end.


@pytest.fixture(params=KEPT)
def left(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Unpack a log into `tmp_path`; return what its last client had seen."""
    (tmp_path / "run").mkdir(mode=0o700)
    with tarfile.open(FOLDER / f"{request.param}.tar.xz") as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4 has it.
        archive.extractall(tmp_path)
    expected: dict[str, Any] = json.loads((tmp_path / "expected.json").read_text())
    return expected


def test_there_is_a_log_of_each_schema_version_and_each_is_tested() -> None:
    assert set(range(1, SCHEMA_VERSION + 1)) == {int(name.split("-")[1]) for name in KEPT}
    assert sorted(KEPT) == sorted(path.name.removesuffix(".tar.xz") for path in FOLDER.glob("*.tar.xz"))


def test_what_was_seen_is_in_the_log(left: dict[str, Any], tmp_path: Path) -> None:
    log = Log(str(tmp_path / "state" / "log.sqlite"))
    restored = log.restore()
    names = {each["session"]: name for name, each in left.items()}
    found = {names[each.session]: each for each in log.newest("", 100)}
    remembered = known(log, left["remembered"]["session"])[1]
    log.close()

    last = {name: each.last for name, each in found.items()}
    assert [] == log.warnings
    assert set(left) == set(last)
    assert [] == [name for name, each in left.items() if each["seen"][-1]["number"] > last[name]]
    assert {("asked", "started"), ("running", "started"), ("running", "queued")} == {
        (names[each.session], each.state.value) for each in restored.turns
    }
    assert [["fs/read_text_file"]] == [
        each.serves for each in restored.turns if (names[each.session], each.state.value) == ("running", "started")
    ]
    assert b"theirs-" in remembered


def test_a_house_goes_on_from_it(left: dict[str, Any], tmp_path: Path) -> None:
    house = RealHouse(tmp_path, CONFIG.format(python=sys.executable, puppet=FOLDER.parent / "puppet.py"))
    house.start()

    async def run() -> dict[str, list[dict[str, Any]]]:
        async with connect(house.runtime_dir) as client, asyncio.timeout(60):
            return {name: await _went_on(client.session(each["session"])) for name, each in left.items()}

    try:
        found = asyncio.run(run())
    finally:
        house.stop()

    for name, items in found.items():
        before = left[name]["seen"]
        assert before == items[: len(before)], name
        assert list(range(1, len(items) + 1)) == [each["number"] for each in items]
        prompts = [each["turn"] for each in items if each["kind"] == "prompt"]
        assert Counter(prompts) == Counter(each["turn"] for each in items if each["kind"] == "ended")
        endings = [each["body"]["reason"] for each in items if each["kind"] == "ended"]
        assert HOW[name] == endings[0]
        assert LAST.get(name, "end_turn") == endings[-1]
    assert "played" in json.dumps(found["running"][len(left["running"]["seen"]) :])


async def _went_on(session: Session) -> list[dict[str, Any]]:
    """Prompt once more, and return the session's whole history."""
    turn = await session.prompt("one more")
    return await seen(session, lambda item: (item.kind, item.turn) == ("ended", turn.number))
