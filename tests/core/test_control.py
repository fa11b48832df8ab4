"""What verbs that wait, clients that leave, and open questions cost everybody else: counted in calls, not in time."""

import sys
from collections.abc import Callable
from types import FrameType

from tests.desk import CLIENT, Desk, agent, two
from understudy.protocol.frames import (
    BACKSTAGE_VERSION,
    PROTOCOL_VERSION,
    ActorHello,
    Ask,
    Goodbye,
    Hello,
    Open,
    Prompt,
    Verb,
    pack,
)
from understudy.supervisor.core.events import ActorSaid, ClientSaid


def calls(act: Callable[[], object]) -> int:
    """Return how many functions `act` calls."""
    count = 0

    def see(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        del frame, argument
        count += event in ("call", "c_call")

    sys.setprofile(see)
    try:
        act()
    finally:
        sys.setprofile(None)
    return count


def test_verbs_that_wait_for_many_agents_are_not_gone_through_at_each_step() -> None:
    desk = Desk(*(agent(f"a{at}") for at in range(60)), late=True)
    for at in range(100):
        desk.tell(ClientSaid(CLIENT, Verb(f"v{at}", "start", pack({"names": ["all"]}))))

    assert 100 == len(desk.core.house.waits)
    assert calls(desk.tell) < 1_000


def test_a_verb_for_many_agents_costs_the_last_one_that_is_ready_no_more_than_the_first() -> None:
    count = 200
    desk = Desk(*(agent(f"a{at:03}") for at in range(count)), late=True)
    desk.tell(ClientSaid(CLIENT, Verb("v", "start", pack({"names": ["all"]}))))

    def ready(at: int) -> int:
        hello = ActorHello(BACKSTAGE_VERSION, f"a{at:03}", 1, 7)
        return calls(lambda: desk.tell(ActorSaid(b"p%d" % at, hello)))

    taken = [ready(at) for at in range(count - 1)]

    assert 1 == len(desk.core.house.waits)
    assert taken[-1] <= 2 * taken[0]


def test_a_verb_for_one_that_starts_after_layers_of_others_looks_at_each_once() -> None:
    layers = [[f"l{layer}.{at}" for at in range(3)] for layer in range(20)]
    below: list[str] = []
    agents = []
    for layer in layers:
        agents += [agent(name, after=tuple(below)) for name in layer]
        below = layer
    desk = Desk(*agents, late=True)

    assert calls(lambda: desk.verb("start", *below)) < 10_000


def test_a_client_that_leaves_turns_behind_is_not_looked_for_once_for_each() -> None:
    desk = two()
    for at in range(200):
        desk.tell(ClientSaid(b"other%d" % at, Hello(PROTOCOL_VERSION, f"other{at}")))
    desk.prompt(desk.sessions["one"])
    desk.prompt(desk.sessions["two"])
    for at in range(200):  # As many turns of its as that.
        desk.tell(ClientSaid(CLIENT, Open(f"again{at}", "one", "/")))
    for at, session in enumerate([each for each in desk.core.house.sessions if each not in desk.sessions.values()]):
        desk.tell(ClientSaid(CLIENT, Prompt(f"again{at}", session, pack([{"type": "text", "text": "x"}]))))

    assert calls(lambda: desk.tell(ClientSaid(CLIENT, Goodbye("")))) < 1_000


def test_a_question_costs_no_more_the_more_of_them_are_open() -> None:
    desk = two()
    session = desk.sessions["one"]
    desk.tell(ClientSaid(CLIENT, Prompt("p", session, pack([{"type": "text", "text": "x"}]), ["read"])))
    turn = desk.core.house.sessions[session].current
    assert turn is not None

    def ask(number: int) -> int:
        frame = Ask(number, session, turn.number, f"a{number}", "read", pack({}), public=False)
        return calls(lambda: desk.said(frame, "one"))

    first, *_, last = [ask(number) for number in range(1, 400)]

    assert 399 == len(desk.core.house.sessions[session].asks)
    assert 399 * len(pack({})) == desk.core.house.agents["one"].question_bytes
    assert last < first + 100
