"""What an agent has been shown is known beside the log: no prompt runs twice, whatever comes and goes."""

import asyncio
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.compat.play import tree
from tests.faults.house import RealHouse, wait_until
from understudy.protocol import shown
from understudy.protocol.client import connect

RUNS = "[[say begun]] [[sleep 600000]] pay the invoice"


class Place:
    """A house in `folder` whose configuration, runtime folder and files change between its lives."""

    def __init__(self, folder: Path) -> None:
        self.ledger = folder / "ledger"
        self.house = RealHouse(folder)
        self.cast("a", "b")

    def cast(self, *names: str) -> None:
        agent = '[agent.{}]\ndriver = "scripted"\noptions = {{ ledger = "{}" }}\n'
        self.house.config.write_text("".join(agent.format(name, self.ledger) for name in names))

    def reload(self, *names: str) -> None:
        """Let the house go on with another cast."""
        self.cast(*names)
        supervisor = self.house.supervisor()
        ended = self.house.run("reload")
        assert 0 == ended.returncode, ended.stderr
        wait_until(lambda: self.house.supervisor() != supervisor, "the next supervisor")
        wait_until(lambda: list(names) == [row["name"] for row in self.house.rows()], f"the cast {names}")

    def prompt(self, agent: str, text: str) -> tuple[str, int]:
        """Prompt in a session of its own; return it and the turn once the agent has said something."""

        async def run() -> tuple[str, int]:
            async with connect(self.house.runtime_dir, wait_s=20) as client, asyncio.timeout(30):
                session = await client.open(agent, "/tmp")
                turn = await session.prompt(text)
                async for item in session.follow(turn.number):
                    if item.kind == "update":
                        break
                return session.id, turn.number

        return asyncio.run(run())

    def ending(self, session: str, turn: int) -> str:
        """Wait for the turn's ending; return its reason."""

        async def run() -> str:
            async with connect(self.house.runtime_dir, wait_s=20) as client, asyncio.timeout(30):
                async for item in client.session(session).follow(turn):
                    if (item.kind, item.turn) == ("ended", turn):
                        return str(item.body["reason"])
            raise AssertionError("a follow does not end by itself")

        return asyncio.run(run())

    def kill(self) -> None:
        """The out-of-memory killer, a container's end: nobody sees the others die."""
        assert self.house.keeper is not None
        victims = tree(self.house.keeper.pid)
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for victim in victims:
                os.kill(victim, number)
        self.house.keeper.wait()

    def ran(self) -> int:
        """How often an agent got the prompt."""
        return self.ledger.read_text().count("pay the invoice")

    def files(self) -> list[str]:
        folder = Path(self.house.state_dir, "shown")
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    made.house.start()
    yield made
    made.house.stop()


def test_the_turn_of_an_agent_that_left_the_configuration_is_settled_once_by_its_marks(place: Place) -> None:
    turn = place.prompt("a", RUNS)
    place.kill()
    place.cast("b")
    place.house.start()
    first = place.ending(*turn)
    wait_until(lambda: "a#1" not in place.files(), "the marks to be forgotten once they are settled")
    place.prompt("b", "[[say others work on]]")  # Something is committed meanwhile.

    place.reload("a", "b")

    assert ("interrupted", "interrupted") == (first, place.ending(*turn))
    assert 1 == place.ran()


def test_another_runtime_folder_that_was_used_before_changes_nothing(place: Place) -> None:
    house, first = place.house, place.house.runtime_dir
    place.prompt("a", "[[say hello]]")
    house.stop()
    Path(first, "shown").mkdir(exist_ok=True)  # As houses of earlier versions left it.
    house.runtime_dir = str(house.folder / "run2")
    house.start()
    turn = place.prompt("a", RUNS)
    place.kill()
    house.runtime_dir = first

    house.start()

    assert "interrupted" == place.ending(*turn)
    assert 1 == place.ran()


def of_another_boot(path: Path) -> None:
    """Nothing of the marks reached the disk but the first slot."""
    first = path.read_bytes()[: shown.SLOT_BYTES]
    path.write_bytes(first.replace(shown.boot_id().encode(), b"0" * 36))


@pytest.mark.parametrize(
    "lose",
    [of_another_boot, lambda path: os.truncate(path, 0), Path.unlink],
    ids=["a file of another boot", "an empty file", "no file"],
)
def test_after_a_power_loss_what_was_not_synced_is_not_taken_for_unseen(
    place: Place, lose: Callable[[Path], None]
) -> None:
    turn = place.prompt("a", RUNS)
    place.kill()
    for path in Path(place.house.state_dir, "shown").iterdir():
        lose(path)

    place.house.start()

    assert "interrupted" == place.ending(*turn)
    assert 1 == place.ran()
    wait_until(lambda: place.files() == ["a#2", "b#2"], "only the marks of who lives")


def test_a_copy_of_the_state_folder_does_not_believe_marks_that_may_be_older_than_the_log(place: Place) -> None:
    turn = place.prompt("a", RUNS)
    before = Path(place.house.state_dir, "shown", "a#1").read_bytes()[: shown.SLOT_BYTES]
    place.kill()
    state = Path(place.house.state_dir)
    shutil.move(state, state.with_name("backup"))
    shutil.copytree(state.with_name("backup"), state)
    (state / "shown" / "a#1").write_bytes(before)  # It was copied before the turn began, the log after.

    place.house.start()

    assert "interrupted" == place.ending(*turn)
    assert 1 == place.ran()


def test_a_turn_that_its_agent_certainly_had_not_got_is_handed_over_again(place: Place) -> None:
    turn = place.prompt("a", "[[say begun]] [[sleep 3000]] pay the invoice")
    place.kill()
    path = Path(place.house.state_dir, "shown", "a#1")
    with path.open("r+b") as file:  # As when it was killed between `go` and its mark.
        file.truncate(shown.SLOT_BYTES)

    place.house.start()

    assert "end_turn" == place.ending(*turn)
    assert 2 == place.ran()  # The first time was before we put the clock back.
