"""What the keeper leaves to its children, and what signals do to it: real houses, seen from outside."""

import fcntl
import os
import resource
import signal
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

from tests.faults.house import Houses, RealHouse, wait_until
from understudy.protocol.processes import descriptors
from understudy.supervisor.keeper.wakeup import NOTED


def keeper(house: RealHouse) -> int:
    assert house.keeper is not None
    return house.keeper.pid


def test_the_last_of_many_actors_holds_no_more_than_the_first(houses: Houses) -> None:
    cast = "".join(f"[agent.a{number:02}]\ndriver = 'scripted'\n" for number in range(60))
    house = houses(f'{cast}[agent.last]\ndriver = "scripted"\nfiles = 64\nafter = ["a59"]\n')
    wait_until(lambda: all(row["state"] == "RUNNING" for row in house.rows()), "the whole cast")
    before = house.supervisor()
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: house.supervisor() not in (0, before), "the next supervisor")
    house.wait_answering()

    def as_many() -> bool:
        """Whether they hold as many: while one of them finds the next supervisor, it has more or fewer."""
        return len(descriptors(house.pid("a00"))) == len(descriptors(house.pid("last")))

    wait_until(as_many, "the last actor to hold no more than the first")
    assert [] == [each for each in descriptors(house.supervisor()) if each.startswith("pipe:")]


def test_a_keeper_needs_no_more_descriptors_for_more_actors(tmp_path: Path) -> None:
    """Where it may have few: it forks, notices falls and ends the house all the same."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    house = RealHouse(tmp_path, "".join(f"[agent.a{number:02}]\ndriver = 'scripted'\n" for number in range(40)))
    house.start(before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (32, most)))
    try:
        wait_until(lambda: all(row["state"] == "RUNNING" for row in house.rows()), "the whole cast")
        fallen = house.pid("a39")
        os.kill(fallen, signal.SIGKILL)
        wait_until(lambda: house.pid("a39") != fallen, "the next one")
    finally:
        house.stop()


BREAKS = """
import sys
from understudy.supervisor.cli.main import main
from understudy.supervisor.keeper.actors import Actors
def breaks(self, actor, epoch, number):
    raise OSError("this breaks")
Actors.kill = breaks
sys.exit(main(sys.argv[1:]))
"""


def test_a_keeper_that_breaks_leaves_nobody_behind(tmp_path: Path) -> None:
    house = RealHouse(tmp_path)
    command = [sys.executable, "-c", BREAKS, *house.command("up", "-c", str(house.config))[3:]]
    with (tmp_path / "house.log").open("ab") as log:
        house.keeper = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        house.wait_answering()
        os.kill(house.pid(), signal.SIGSTOP)  # So that it is to be killed.
        house.keeper.send_signal(signal.SIGQUIT)

        assert 1 == house.keeper.wait(20)
        assert [] == house.left()
        assert "this breaks" in house.log()
    finally:
        house.stop()


def test_a_signal_that_does_not_ask_for_the_end_ends_nobody(houses: Houses) -> None:
    house = houses("[agent.a]\ndriver = 'scripted'\n")
    agent, supervisor = house.pid("a"), house.supervisor()

    for number in NOTED:
        os.kill(keeper(house), number)
        os.kill(supervisor, number)
        wait_until(lambda number=number: f"{number.name} does nothing here" in house.log(), number.name)  # type: ignore[misc]

    assert (agent, supervisor) == (house.pid("a"), house.supervisor())
    assert "SIGHUP does nothing here; new code or configuration: understudy reload" in house.log()


def test_what_ended_as_expected_while_nobody_supervised_is_not_run_again(houses: Houses, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    os.mkfifo(tmp_path / "end")
    house = houses(
        f"[agent.p]\ndriver = 'program'\ncommand = ['sh', '-c', 'echo run >> {runs}; read line < {tmp_path}/end']\n"
        "restart = { policy = 'transient' }\n[agent.q]\ndriver = 'scripted'\n"
    )
    wait_until(lambda: all(row["state"] == "RUNNING" for row in house.rows()), "both to run")
    before, actor = house.supervisor(), house.pid("p")

    os.kill(before, signal.SIGSTOP)
    (tmp_path / "end").write_text("now\n")
    wait_until(lambda: not Path(f"/proc/{actor}").exists(), "its end")
    os.kill(before, signal.SIGKILL)

    def row(name: str) -> dict[str, Any]:
        return next(each for each in house.rows() if each["name"] == name)

    for reason in ("its death", "another one's"):
        wait_until(lambda before=before: house.supervisor() not in (0, before), "the next supervisor")  # type: ignore[misc]
        house.wait_answering()
        wait_until(lambda: row("q")["state"] == "RUNNING", "the other one to be back")
        assert ("EXITED", "run\n") == (row("p")["state"], runs.read_text()), reason
        before = house.supervisor()
        os.kill(before, signal.SIGKILL)


def test_quit_ends_the_house_in_a_hurry_and_leaves_nothing(houses: Houses) -> None:
    script = "trap '' TERM; while :; do sleep 0.02; done"
    house = houses(f"[agent.p]\ndriver = 'program'\ncommand = ['sh', '-c', \"{script}\"]\nstop_grace_s = 600\n")
    house.pid("p")
    assert house.keeper is not None

    house.keeper.send_signal(signal.SIGQUIT)

    assert 0 == house.keeper.wait(20)


def test_a_house_ends_with_its_terminal_and_not_with_a_mere_hang_up_signal(tmp_path: Path) -> None:
    house = RealHouse(tmp_path, "[agent.a]\ndriver = 'scripted'\n")
    ours, theirs = os.openpty()

    def own_terminal() -> None:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    try:
        house.start(own_terminal)
        os.close(theirs)
        agent = house.pid("a")
        os.kill(keeper(house), signal.SIGHUP)
        wait_until(lambda: "SIGHUP does nothing here" in house.log(), "the signal to be noted")
        assert agent == house.pid("a")
        assert house.keeper is not None

        os.close(ours)

        assert 0 == house.keeper.wait(20)
    finally:
        house.stop()


ASKED_AT_ONCE = """
import os, select, signal, sys
from understudy.supervisor import pair
from understudy.supervisor.config.config import load
from understudy.supervisor.core.events import Exited, Kill, Spawn, Spawned
from understudy.supervisor.keeper.keeper import Keeper

def supervise(house, keeper, living, house_id):
    if living:  # The first one was ended: it waited in vain.
        return 0
    os.kill(os.getppid(), signal.SIGSTOP)  # It reads all of them at once.
    for request in (Spawn("a", 1, "a"), Spawn("b", 1, "a"), Kill("a", 1, signal.SIGKILL), Spawn("c", 1, "a")):
        keeper.send(pair.encode(request))
    os.kill(os.getppid(), signal.SIGCONT)
    told = []
    while len(told) < 4 and select.select([keeper], [], [], 20)[0]:
        told += [(type(each).__name__, each.actor) for each in pair.read_messages(keeper)]
    print(sorted(told), flush=True)
    return 0

def act(receive, house, waits_at):
    receive()
    signal.pause()

sys.exit(Keeper(load(*sys.argv[1:], {}), supervise, supervise, act).run())
"""


def test_what_is_asked_at_once_is_done_in_order(tmp_path: Path) -> None:
    """Actors are forked together, but a kill finds the one that was asked for before it, and not one that comes after."""
    (tmp_path / "house.toml").write_text("[agent.a]\ndriver = 'scripted'\n")
    paths = [str(tmp_path / name) for name in ("house.toml", "run", "state")]
    ran = subprocess.run([sys.executable, "-c", ASKED_AT_ONCE, *paths], capture_output=True, timeout=30, check=False)

    assert b"[('Exited', 'a'), ('Spawned', 'a'), ('Spawned', 'b'), ('Spawned', 'c')]\n" == ran.stdout, ran.stderr
    assert 0 == ran.returncode
