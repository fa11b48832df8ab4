"""cgroup v2, where a part of it is delegated to the house: the kernel bounds an actor's memory and ends its whole tree.

Delegated is a group that is ours to divide, as `systemd-run --user --scope -p Delegate=yes understudy up` or a
container gives it. Without one everything here does nothing: the watch bounds memory, the sweep finds strays.
"""

import contextlib
import os
from pathlib import Path

from understudy.protocol.stderr import say

PROCS = "cgroup.procs"
KEEPER = "understudy-keeper"  # Where the house's own processes go: a group that hands controllers on has none itself.


def delegated(cgroup: str, mountinfo: str) -> Path | None:
    """Return the folder of our own group, None when we may not divide it. Arguments: the files of /proc/self.

    The root of the hierarchy has no `cgroup.kill`: it belongs to the machine.
    """
    own = next((line.removeprefix("0::") for line in cgroup.splitlines() if line.startswith("0::")), None)
    for line in mountinfo.splitlines() if own is not None else ():
        before, _, after = line.partition(" - ")
        root, mount = (field.replace("\\040", " ") for field in before.split(" ")[3:5])
        if not after.startswith("cgroup2 ") or not Path(own or "").is_relative_to(root):
            continue
        folder = Path(mount, Path(own or "").relative_to(root))
        if folder.name == KEEPER:
            folder = folder.parent
        if (folder / "cgroup.kill").exists() and all(os.access(each, os.W_OK) for each in (folder, folder / PROCS)):
            return folder
    return None


class Groups:
    """A group for each actor that has a `memory` limit, named by its mark.

    `folder`: in which they are; None: nothing is delegated. `memory`: whether the kernel bounds theirs.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.memory = folder is not None and _hands_on_memory(folder)

    @classmethod
    def of_house(cls) -> "Groups":
        """Return the groups of this process's house."""
        try:
            here = Path("/proc/self")
            return cls(delegated((here / "cgroup").read_text(), (here / "mountinfo").read_text()))
        except OSError:
            return cls(None)

    def enter(self, mark: str, memory_mb: int) -> None:
        """Make the actor's group and go in. Called in the actor's process, before it starts anything."""
        if self.folder is None or not memory_mb:
            return
        group = self._group(mark)
        try:
            group.mkdir(exist_ok=True)
            if self.memory:
                (group / "memory.max").write_text(str(memory_mb << 20))
                (group / "memory.oom.group").write_text("1")
            (group / PROCS).write_text("0")
        except OSError as error:
            say(f"{group}: {error.strerror}: memory of {mark} is only watched")

    def end(self, mark: str) -> list[int]:
        """Kill all that live in the actor's group, whoever started them; return their pids."""
        if self.folder is None:
            return []
        group = self._group(mark)
        try:
            pids = [int(pid) for pid in (group / PROCS).read_text().split() if pid != "0"]
            if pids:
                (group / "cgroup.kill").write_text("1")
        except OSError:
            return []
        return pids

    def remove(self, mark: str) -> int:
        """Remove the group of an actor that is dead; return how many of its processes fell for want of memory."""
        if self.folder is None:
            return 0
        group, killed = self._group(mark), 0
        with contextlib.suppress(OSError, ValueError):
            if self.memory:
                events = dict(line.split() for line in (group / "memory.events").read_text().splitlines())
                killed = int(events["oom_kill"])
        with contextlib.suppress(OSError):
            group.rmdir()
        return killed

    def clear(self, house_id: str) -> None:
        """End and remove every group of the house."""
        for group in self.folder.glob(f"{house_id}-*") if self.folder is not None else ():
            mark = group.name.replace("-", "/", 1)
            self.end(mark)
            self.remove(mark)

    def _group(self, mark: str) -> Path:
        assert self.folder is not None
        return self.folder / mark.replace("/", "-", 1)


def _hands_on_memory(folder: Path) -> bool:
    """See to it that groups in `folder` have the memory controller; return whether they do."""
    switch = folder / "cgroup.subtree_control"
    try:
        if "memory" in switch.read_text().split():
            return True
        if "memory" not in (folder / "cgroup.controllers").read_text().split():
            return False
        if (folder / PROCS).read_text().split() == [str(os.getpid())]:  # Others we leave where they are.
            (folder / KEEPER).mkdir(exist_ok=True)
            (folder / KEEPER / PROCS).write_text("0")
        switch.write_text("+memory")
    except OSError:
        return False
    return True
