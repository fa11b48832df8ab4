"""The simulator: both ends and the core in a world that one seed decides. See `tests/simulator/`.

`python -m tests.sim SEED` plays one schedule and, when it breaks a promise, tells its story with every frame.
`python -m tests.sim FIRST COUNT` plays many on all cores, shows how far it is, and sums up; a schedule that breaks a
promise ends it, with the command that plays that one again.
"""

import multiprocessing
import os
import sys
import time
from collections import Counter, deque

from tests.simulator.faults import strike
from tests.simulator.world import World

STEPS = 200
CHUNK = 5
SHOW_EVERY_S = 5.0


def play(seed: int, steps: int = STEPS, weather: int = 0, frames_too: bool = False) -> World:
    """Play one schedule; raise `AssertionError` with the seed and the story when a promise is broken."""
    world = World(seed, weather, frames_too)
    if frames_too:
        world.scene.story = deque()
    try:
        for _ in range(steps):
            strike(world)
            world.step()
            world.check()
        world.rest()
    except Exception as error:
        story = "\n".join(world.scene.story)
        again = f"play it again, with every frame: .venv/bin/python -m tests.sim {seed}"
        raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}\n{story}\n{again}") from error
    return world


def play_many(first: int, count: int) -> int:
    """Play `count` schedules on all cores; return 1 at the first that breaks a promise, else 0 with the sums."""
    began = shown = time.monotonic()
    played = steps = 0
    faults: Counter[str] = Counter()
    cores = min(len(os.sched_getaffinity(0)), count)
    with multiprocessing.get_context("fork").Pool(cores) as pool:
        for story, more_steps, more_faults in pool.imap_unordered(
            _outcome, range(first, first + count), min(CHUNK, count)
        ):
            if story:
                sys.stdout.write(f"{story}\n")
                return 1
            played, steps = played + 1, steps + more_steps
            faults += more_faults
            if time.monotonic() - shown > SHOW_EVERY_S:
                shown = time.monotonic()
                sys.stderr.write(f"{played} of {count} schedules held, {shown - began:.0f} s\n")
    sys.stdout.write(
        f"{played} schedules held (seeds {first} to {first + count - 1}): {steps} steps, {faults.total()} faults, "
        f"{time.monotonic() - began:.0f} s on {cores} core(s)\n"
    )
    sys.stdout.writelines(f"{number:>8}  {kind}\n" for kind, number in faults.most_common())
    return 0


def _outcome(seed: int) -> tuple[str, int, Counter[str]]:
    """Play one schedule; return its story when it breaks a promise, its steps and its faults."""
    try:
        world = play(seed)
    except AssertionError as error:
        return str(error), 0, Counter()
    return "", world.steps, world.scene.faults


def main() -> int:
    """Play what the arguments say; return 1 when a promise is broken."""
    first = int(sys.argv[1])
    if len(sys.argv) > 2:
        return play_many(first, int(sys.argv[2]))
    try:
        world = play(first, frames_too=True)
    except AssertionError as error:
        sys.stdout.write(f"{error}\n")
        return 1
    sys.stdout.write(f"the schedule held: {world.steps} steps, {world.scene.faults.total()} faults\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
