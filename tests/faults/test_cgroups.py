"""Groups of cgroup v2: found where one is delegated, a whole tree ended by its group, memory bounded by the kernel."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.house import RealHouse, wait_until
from tests.processes.test_life import row
from understudy.protocol.processes import stat
from understudy.supervisor.keeper.cgroups import KEEPER, PROCS, Groups, delegated

MOUNT = "38 31 0:41 {root} {mount} rw,relatime shared:9 - cgroup2 cgroup2 rw\n"
# Leaves a process that called setsid twice and bears no mark: only its group knows whose it is.
NAMELESS = """
import os, sys, time

if sys.argv[2:]:
    with open(sys.argv[1] + "~", "w") as file:
        file.write(str(os.getpid()))
    os.rename(sys.argv[1] + "~", sys.argv[1])
elif os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        os.execve(sys.executable, [sys.executable, "-S", *sys.argv, "stray"], {})
    os._exit(0)
time.sleep(1000)
"""


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Path]:
    """A group of our own in the machine's cgroup v2, mounted here, as if it were delegated."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount cgroup2 and divide it")
    mount = tmp_path / "cgroup"
    mount.mkdir()
    mounted = subprocess.run(["mount", "-t", "cgroup2", "none", str(mount)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cgroup2 cannot be mounted here: {mounted.stderr.strip()}")
    group = mount / f"understudy-test-{uuid.uuid4().hex}"
    group.mkdir()
    yield group
    for each in [*group.glob("*/"), group]:
        each.rmdir()
    subprocess.run(["umount", str(mount)], check=True)


@pytest.fixture
def house(tmp_path: Path, ours: Path) -> Iterator[RealHouse]:
    """A house in that group, with a program that leaves a nameless stray, and the agent to rehearse with."""
    (tmp_path / "nameless.py").write_text(NAMELESS)
    command = f"{sys.executable} -S {tmp_path}/nameless.py {tmp_path}/stray"
    text = f"[agent.p]\ndriver = 'program'\nstart_s = 0.05\nmemory = '500 MB'\ncommand = '{command}'\n"
    house = RealHouse(
        tmp_path, f"{text}\n[agent.a]\ndriver = 'scripted'\nmemory = '200 MB'\n[agent.free]\ndriver = 'scripted'\n"
    )
    house.start(before=into(ours))
    yield house
    house.stop()


def into(group: Path) -> Callable[[], None]:
    """Return what puts the process that calls it into `group`."""

    def enter() -> None:
        (group / PROCS).write_text("0")

    return enter


@pytest.mark.faults
def test_a_stray_without_a_mark_that_called_setsid_twice_dies_with_its_group(
    house: RealHouse, ours: Path, tmp_path: Path
) -> None:
    wait_until((tmp_path / "stray").exists, "the stray")
    stray = int((tmp_path / "stray").read_text())
    before = len(list(ours.glob("*-p#*")))

    os.kill(house.pid("p"), signal.SIGKILL)
    wait_until(lambda: stat(stray) is None, "the stray to die")
    wait_until(lambda: "more process(es) of it were ended" in house.log(), "the log to tell")

    assert 1 == before
    wait_until(lambda: not list(ours.glob("*-p#1")), "its group to be removed")


@pytest.mark.faults
def test_only_actors_with_a_limit_have_a_group_and_none_is_left(house: RealHouse, ours: Path) -> None:
    for name in ("p", "a", "free"):
        house.pid(name)
    groups = sorted(each.name.partition("-")[2] for each in ours.glob("*#*"))

    house.stop()

    assert ["a#1", "p#1"] == groups
    assert [] == list(ours.glob("*#*"))


@pytest.mark.faults
def test_a_new_house_ends_what_the_groups_of_a_killed_one_hold(house: RealHouse, ours: Path, tmp_path: Path) -> None:
    wait_until((tmp_path / "stray").exists, "the stray")
    stray = int((tmp_path / "stray").read_text())
    assert house.keeper is not None
    for pid in (house.supervisor(), house.keeper.pid):
        os.kill(pid, signal.SIGKILL)
    house.keeper.wait()

    house.start(before=into(ours))

    wait_until(lambda: stat(stray) is None, "the stray to die")


@pytest.mark.faults
def test_the_kernel_ends_the_whole_actor_that_wants_more_memory(house: RealHouse, ours: Path) -> None:
    if "memory" not in (ours / "cgroup.controllers").read_text().split():
        pytest.skip("the memory controller of this machine is not in cgroup v2")

    answer = house.run("prompt", "a", "[[say in]] [[child 150]] [[child 150]] [[sleep 60000]]")

    assert "memory: limit 200 MB, and the kernel ended" in answer.stderr
    assert "memory: limit 200 MB, and the kernel ended" in row(house, "a")["why"]


# --- what is found ----------------------------------------------------------------


def a_group(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("cgroup.kill", PROCS):
        (folder / name).touch()


@pytest.mark.parametrize("own", ["/a/b", f"/a/b/{KEEPER}"], ids=["first", "after a reload"])
def test_our_own_group_is_found_through_the_root_of_its_mount(tmp_path: Path, own: str) -> None:
    a_group(tmp_path / "b")

    assert tmp_path / "b" == delegated(f"4:memory:/x\n0::{own}\n", MOUNT.format(root="/a", mount=tmp_path))


@pytest.mark.parametrize(
    ("cgroup", "mountinfo"),
    [
        ("4:memory:/x\n", MOUNT),
        ("0::/\n", MOUNT),
        ("0::/elsewhere\n", MOUNT),
        ("0::/b\n", ""),
        ("0::/b\n", MOUNT.replace("cgroup2", "cgroup")),
    ],
    ids=["only v1", "the machine's root", "no such group", "nothing mounted", "a mount of v1"],
)
def test_nothing_is_delegated(tmp_path: Path, cgroup: str, mountinfo: str) -> None:
    a_group(tmp_path / "b")

    assert delegated(cgroup, mountinfo.format(root="/", mount=tmp_path)) is None


def test_without_delegation_nothing_is_done() -> None:
    groups = Groups(None)
    groups.enter("h/a#1", 100)
    groups.clear("h")

    assert ([], 0, False) == (groups.end("h/a#1"), groups.remove("h/a#1"), groups.memory)


def test_a_group_that_cannot_be_made_is_told_of_and_the_actor_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Groups(tmp_path / "none").enter("h/a#1", 100)

    assert "memory of h/a#1 is only watched" in capfd.readouterr().err


def test_what_the_kernel_ended_is_read_from_the_group(tmp_path: Path) -> None:
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory\n")
    (tmp_path / "h-a#1").mkdir()
    (tmp_path / "h-a#1" / "memory.events").write_text("low 0\nhigh 0\nmax 7\noom 1\noom_kill 3\n")

    assert 3 == Groups(tmp_path).remove("h/a#1")
