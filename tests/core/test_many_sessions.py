"""A house with very many sessions looks at those that have a turn, never at all of them."""

from collections import OrderedDict
from random import Random
from typing import NoReturn

import pytest

from understudy.protocol.frames import PROTOCOL_VERSION, ActorHello, Entry, Goodbye, Hello, Verb, pack
from understudy.supervisor.core.core import Core
from understudy.supervisor.core.events import (
    ActorSaid,
    ClientSaid,
    Event,
    Exited,
    LogState,
    RestoredSession,
    Spawned,
    Ticked,
)
from understudy.supervisor.core.restored import Restored, RestoredTurn
from understudy.supervisor.core.sessions import Session
from understudy.supervisor.core.specs import AgentSpec, HouseSpec

CLIENT = b"client"


class Unwalked(OrderedDict[str, Session]):
    """Sessions that may be looked up, and not walked through."""

    def __iter__(self) -> NoReturn:
        pytest.fail("all sessions are walked through")  # No error: those are contained.

    def values(self) -> NoReturn:
        self.__iter__()

    def items(self) -> NoReturn:
        self.__iter__()


@pytest.fixture
def core() -> Core:
    """A core whose actor came back with one of two turns that ran; one more waits."""
    known = [RestoredSession(name, "a", "/", b"", b"", 2, 0.0) for name in ("s1", "s2", "s3")]
    body = pack([{"type": "text", "text": "x"}])
    asked = Entry("s1", 2, 2, 1, "asked", pack({"ask": "q", "method": "m", "params": {}}), 0.0)
    turns = [
        RestoredTurn("s1", 1, LogState.STARTED, "r", [], body, "me", [asked], epoch=1),
        RestoredTurn("s2", 1, LogState.QUEUED, "r", [], body),
    ]
    spec = HouseSpec((AgentSpec("a"),), "/r", "/s")
    made = Core(spec, Restored(known, turns, epochs={"a": 1}), {}, Random(1), [Spawned("a", 1, 7, 7)], 0.0, 0.0)
    made.start(0.0, 0.0)
    made.house.sessions = Unwalked(made.house.sessions)
    return made


def test_nobody_walks_through_all_sessions(core: Core) -> None:
    def happen(*events: Event) -> None:
        core.handle(list(events), core.house.now + 1.0, 0.0)
        core.deadline()

    happen(ClientSaid(CLIENT, Hello(PROTOCOL_VERSION, "me")))
    happen(ActorSaid(b"actor", ActorHello(PROTOCOL_VERSION, "a", 1, 7)))
    happen(ClientSaid(CLIENT, Verb("v1", "status")))
    happen(Ticked())
    happen(Exited("a", 1, 7, -9, shown=[("s1", 1)]))
    happen(ClientSaid(CLIENT, Goodbye()))
    for _ in range(10):
        happen(Ticked())

    assert 0 == core.house.agents["a"].running
