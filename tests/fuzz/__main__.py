"""`python -m tests.fuzz SEED COUNT`: COUNT frames from SEED on, on all cores, against everything that reads frames.

Each round is one seed: a house from its start to its end, the machines of both ends, safe mode. It shows how far it
is and what a process holds; what breaks ends it, with the seed that plays the round again (`tests.fuzz SEED`).
"""

import multiprocessing
import os
import resource
import sys
import time
import traceback
from random import Random

from tests.fuzz.house import FuzzedHouse
from tests.fuzz.machines import FuzzedActor, FuzzedClient, FuzzedSafeMode

FRAMES_PER_ROUND = 20_000
SHOW_EVERY_S = 5.0
GROWTH_MB_MAX = 30.0


def play(seed: int, frames: int = FRAMES_PER_ROUND) -> int:
    """Play one round of about `frames` frames; return how many were taken. Raises what breaks."""
    house = FuzzedHouse(Random(seed))
    while house.taken < frames * 0.4:
        house.step()
    house.end()
    taken = house.taken
    for share, kind in ((0.25, FuzzedActor), (0.25, FuzzedClient), (0.1, FuzzedSafeMode)):
        fuzzed = kind(Random(seed))
        while fuzzed.taken < frames * share:
            fuzzed.step()
        taken += fuzzed.taken
    return taken


def play_many(first: int, count: int) -> int:
    """Play rounds from seed `first` until `count` frames were taken; return 1 at the first that breaks, else 0."""
    began = shown = time.monotonic()
    taken = 0
    held_mb: dict[int, list[float]] = {}
    cores = len(os.sched_getaffinity(0))
    with multiprocessing.get_context("fork").Pool(cores) as pool:
        for story, more, pid, used_mb in pool.imap_unordered(_outcome, range(first, first + count)):
            if story:
                sys.stdout.write(f"{story}\n")
                return 1
            taken += more
            held_mb.setdefault(pid, []).append(used_mb)
            if time.monotonic() - shown > SHOW_EVERY_S:
                shown = time.monotonic()
                sys.stderr.write(f"{taken} of {count} frames taken, {shown - began:.0f} s, {used_mb:.0f} MB\n")
            if taken >= count:
                break
    growth_mb = max(each[-1] - each[min(len(each) - 1, 10)] for each in held_mb.values())
    sys.stdout.write(
        f"{taken} frames taken from seed {first} on, {time.monotonic() - began:.0f} s on {cores} core(s); "
        f"the most that a process grew after its first rounds: {growth_mb:.1f} MB\n"
    )
    return int(growth_mb > GROWTH_MB_MAX)


def _outcome(seed: int) -> tuple[str, int, int, float]:
    """Play one round; return its story when something broke, its frames, and what this process holds at the most."""
    try:
        taken = play(seed)
    except Exception:  # noqa: BLE001 (whatever it is: it is what we look for)
        return f"{traceback.format_exc()}\nplay it again: .venv/bin/python -m tests.fuzz {seed}", 0, os.getpid(), 0.0
    return "", taken, os.getpid(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    """Play what the arguments say; return 1 when something broke."""
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    if len(sys.argv) > 2:
        return play_many(seed, int(sys.argv[2]))
    sys.stdout.write(f"{play(seed)} frames taken\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
