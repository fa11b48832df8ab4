"""What the keeper ends of a dead actor's, and what it leaves alone."""

import os
import signal
from pathlib import Path

from tests.faults.house import Houses, RealHouse, wait_until
from understudy.protocol.mark import mark_of
from understudy.protocol.processes import children

STRAYS = 200
LEAVES_MANY = f"""
[agent.rehearsal]
driver = "scripted"
[agent.greedy]
driver = "program"
command = ["sh", "-c", "i=0; while [ $i -lt {STRAYS} ]; do (env -i setsid sleep 98764 &); i=$((i+1)); done; exec sleep 98764"]
"""


def test_what_others_have_daemonised_is_looked_at_once_in_a_sweep(houses: Houses) -> None:
    """An agent may have left thousands of them without its mark: who else falls would wait for minutes."""
    house = houses(LEAVES_MANY)
    assert house.keeper is not None
    keeper = house.keeper.pid
    wait_until(lambda: len(children(keeper)) > STRAYS, "what it daemonises")
    fallen, before = house.pid(), reads(keeper)

    os.kill(fallen, signal.SIGKILL)
    wait_until(lambda: house.pid() != fallen, "the next actor")

    assert reads(keeper) - before < 100 * STRAYS


def reads(pid: int) -> int:
    """Return how often a process has read something."""
    return int(Path(f"/proc/{pid}/io").read_text().partition("syscr: ")[2].split()[0])


AGENT = """
[agent.a]
driver = "program"
command = ["sh", "-c", "(setsid sleep 98765 &); exec sleep 98765"]
start_s = 0.01
understudies = 1
restart = { intensity = 100, backoff_min_s = 0.01, backoff_max_s = 0.01 }
"""


def test_what_a_living_actor_has_daemonised_is_left_alone_though_its_epoch_begins_as_the_dead_ones(
    houses: Houses,
) -> None:
    house = houses(AGENT)
    player = house.pid("a")
    while epoch(house, "a~1") < 10:
        fallen = house.pid("a~1")
        os.kill(fallen, signal.SIGKILL)
        wait_until(lambda fallen=fallen: house.pid("a~1") != fallen, "the next understudy")  # type: ignore[misc]
    heir = house.pid("a~1")
    wait_until(lambda: len(sleeps("a#10")) == 2, "its program, and what that has daemonised")

    os.kill(player, signal.SIGKILL)
    wait_until(lambda: house.pid("a") == heir and house.pid("a~1") != heir, "the understudy to take over")

    assert 2 == len(sleeps("a#10"))


def epoch(house: RealHouse, name: str) -> int:
    return int(next(row["epoch"] for row in house.rows() if row["name"] == name))


def sleeps(title: str) -> list[int]:
    """Return the `sleep`s that bear the mark of an actor."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == b"sleep\x0098765\0":
                found.append(int(path.parent.name))
        except OSError:
            continue
    return [pid for pid in found if mark_of(pid).endswith(f"/{title}")]
