"""The watch over what actors use: it tells a little at a time, and of whom has no limit only what is new."""

import asyncio
import os
from itertools import groupby
from types import SimpleNamespace
from typing import Any

import pytest

from understudy.supervisor.core.events import Sampled, Spawned
from understudy.supervisor.shell import memory, watch
from understudy.supervisor.shell.watch import TOLD_AT_ONCE, Watch

COUNT = 3 * TOLD_AT_ONCE


async def watched(monkeypatch: pytest.MonkeyPatch, most: int, limited: str = "") -> list[tuple[int, Sampled]]:
    """Watch idle actors that all use the same; return the first `most` that was told, and in which turn of the loop."""
    monkeypatch.setattr(watch, "LOOK_EVERY_S", 0.001)
    monkeypatch.setattr(watch, "LOOK_AT_ALL_S", 0.0)
    monkeypatch.setattr(watch, "LOOK_AT_ALL_S_MAX", 0.0)
    monkeypatch.setattr(watch, "sample", lambda totals, *_: totals.update(dict.fromkeys(totals, (1.0, 2))))
    names = [f"a{at}" for at in range(COUNT)]
    agents = [SimpleNamespace(name=name, memory_mb=100 * (name == limited), memory_soft_mb=0) for name in names]
    house: Any = SimpleNamespace(spec=SimpleNamespace(memory_mb=0, agents=agents), clients={b"c": None}, launches={})
    living = {(name, 1): Spawned(name, 1, 1_000 + at, 1) for at, name in enumerate(names)}
    told: list[tuple[int, Sampled]] = []
    turn = 0
    Watch(house, "house", living, lambda event: told.append((turn, event)))
    while len(told) < most:
        turn += 1
        await asyncio.sleep(0)
    return told[:most]


def test_what_was_seen_is_told_a_little_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    told = asyncio.run(watched(monkeypatch, COUNT))

    assert [TOLD_AT_ONCE] * 3 == [len(list(some)) for _, some in groupby(told, lambda each: each[0])]
    assert COUNT == len({event.actor for _, event in told})


def test_what_is_as_it_was_is_told_again_only_of_those_with_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    told = asyncio.run(watched(monkeypatch, COUNT + 3, limited="a3"))

    assert ["a3"] * 3 == [event.actor for _, event in told[COUNT:]]


@pytest.mark.parametrize("size_tells", [True, False])
def test_descriptors_are_counted(monkeypatch: pytest.MonkeyPatch, size_tells: bool) -> None:
    if size_tells and not memory.SIZE_TELLS:
        pytest.skip("this kernel does not tell by the folder's size")
    monkeypatch.setattr(memory, "SIZE_TELLS", size_tells)
    before = memory.files(os.getpid())
    with open(os.devnull):
        assert before + 1 == memory.files(os.getpid())
