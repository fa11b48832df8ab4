"""Sessions at rest are in the log alone: they are read when they are named, and let go when too many are in memory."""

from collections.abc import Callable

import pytest

from tests.desk import CLIENT, Desk, agent, peer_of
from tests.simulator.disk import Disk
from understudy.protocol import verbs
from understudy.protocol.errors import BEYOND_THE_LOG, LOG_STALLED, NO_HELLO, UNKNOWN_SESSION, UNREADABLE
from understudy.protocol.frames import (
    Accepted,
    Begin,
    Call,
    Cancel,
    Ended,
    Fault,
    Follow,
    Frame,
    Open,
    Opened,
    Pong,
    Prompt,
    Recorded,
    Remember,
    Result,
    Unfollow,
    Verb,
    pack,
)
from understudy.protocol.verbs import SessionStatus
from understudy.supervisor.core import at_rest, invariants
from understudy.supervisor.core.at_rest import NotReadError
from understudy.supervisor.core.events import ActorSaid, ClientSaid, Committed, Effect, Event, Record
from understudy.supervisor.core.specs import AgentSpec


class Failing(Disk):
    """A log that cannot be read; `passes`: for now."""

    passes = True

    def session(self, session: str) -> None:
        raise NotReadError(f"session {session} cannot be read", self.passes)


class House(Desk):
    """A desk whose log is read as the shell does it; at most `kept` sessions and requests stay in memory at rest."""

    def __init__(self, *agents: AgentSpec, disk: Disk | None = None, kept: int = 0) -> None:
        self.disk = disk or Disk()
        super().__init__(*agents, restored=self.disk.restore())
        self.core.house.sessions_kept_max = self.core.house.requests_kept_max = kept

    def tell(self, *events: Event, after_s: float = 0.0) -> list[Effect]:
        effects = super().tell(*at_rest.with_past(self.core.house, events, self.disk), after_s=after_s)
        invariants.of_house(self.core.house)
        return effects

    def _run(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Record):
                self.disk.commits.append([])
                self.disk.commit(effect)
        super()._run(effects)

    def play(self, session: str) -> None:
        """Prompt, and let the actor play that turn to its end."""
        accepted = self.prompt(session)
        assert isinstance(accepted, Accepted), accepted
        number = self.core.house.agents["a"].first.number
        self.said(Begin(session, accepted.turn))
        self.said(Ended(number + 1, session, accepted.turn, "end_turn"))

    @property
    def in_memory(self) -> list[str]:
        return list(self.core.house.sessions)

    def restarted(self) -> "House":
        """Return the house as the next supervisor has it."""
        return House(*self.core.house.spec.agents, disk=self.disk, kept=100)


@pytest.fixture
def house() -> House:
    """A house that keeps nothing at rest in memory, with one session that was played once."""
    made = House(agent())
    made.play(made.open())
    return made


def session_of(house: House) -> str:
    return next(iter(house.disk.sessions))


def test_a_start_reads_the_sessions_that_have_something_to_do_and_no_other(house: House) -> None:
    busy = house.open()
    house.prompt(busy)

    after = house.restarted()

    assert [busy] == after.in_memory
    assert (2, 2) == (after.row("a")["sessions"], after.core.house.session_count)


@pytest.mark.parametrize(
    ("say", "answer"),
    [
        (lambda name: Prompt("new", name, pack([{"type": "text", "text": "x"}])), Accepted),
        (lambda name: Follow(1, name, 99), BEYOND_THE_LOG),
        (lambda name: Cancel("c", name, 0), "Result"),
    ],
    ids=["prompt", "follow", "cancel"],
)
def test_a_session_is_read_when_a_client_names_it(house: House, say: Callable[[str], Frame], answer: object) -> None:
    after = house.restarted()

    told = after.ask(say(session_of(house)))  # type: ignore[arg-type]

    assert answer in (type(told), type(told).__name__, getattr(told, "code", ""))
    assert [session_of(house)] == after.in_memory


def test_a_session_that_is_nowhere_is_unknown(house: House) -> None:
    told = house.ask(Cancel("c", "nobody", 0))

    assert isinstance(told, Fault)
    assert UNKNOWN_SESSION == told.code


def test_a_session_that_is_named_twice_at_once_is_read_once(house: House) -> None:
    after, name = house.restarted(), session_of(house)
    reads = after.disk.reads

    after.tell(ClientSaid(CLIENT, Cancel("c1", name, 0)), ClientSaid(CLIENT, Cancel("c2", name, 0)))

    assert 1 == after.disk.reads - reads
    assert ["c1", "c2"] == [getattr(each, "request", "") for each in after.told[-2:]]


def test_the_numbers_of_a_session_go_on_where_the_log_has_them(house: House) -> None:
    after, name = house.restarted(), session_of(house)
    last = after.disk.last(name)

    accepted = after.prompt(name)

    assert isinstance(accepted, Accepted)
    assert last + 1 == accepted.turn


def test_what_an_actor_says_of_a_session_at_rest_is_taken(house: House) -> None:
    name = session_of(house)
    number = house.core.house.agents["a"].first.number
    assert [] == house.in_memory

    house.said(Remember(number + 1, name, pack("kept")))

    assert pack("kept") == house.disk.memories[name]
    assert Recorded(number + 1) == house.to_actor[-1][1]


@pytest.mark.parametrize("is_new", [False, True], ids=["by the supervisor before", "by this one"])
def test_a_request_that_only_the_log_knows_is_carried_out_once(house: House, is_new: bool) -> None:
    first = next(iter(house.disk.turns.values()))
    name = first.session
    other = house.open()
    house.play(other)  # Now the first ones went.
    after = house if is_new else house.restarted()
    content = pack([{"type": "text", "text": "hello"}])
    opened = house.disk.sessions[name].request

    assert Accepted(first.request, name, first.turn) == after.ask(Prompt(first.request, name, content))
    assert Opened(opened, name) == after.ask(Open(opened, "a", "/"))
    reused = after.ask(Open(opened, "a", "/elsewhere"))
    assert isinstance(reused, Fault)
    assert "request_reused" == reused.code


def test_requests_that_come_together_with_a_repeat_are_still_carried_out_once(house: House) -> None:
    name = session_of(house)
    content = pack([{"type": "text", "text": "x"}])
    prompts = [Prompt(f"r{number}", name, content) for number in (1, 2, 1)]

    house.tell(*(ClientSaid(CLIENT, each) for each in prompts))

    accepted = [(each.request, each.turn) for each in house.told if isinstance(each, Accepted)][-3:]
    assert accepted[0] == accepted[2] != accepted[1]


# --- what stays in memory ---


def followed(house: House, name: str) -> None:
    house.tell(ClientSaid(CLIENT, Follow(1, name, 1)))


def called(house: House, name: str) -> None:
    house.tell(ClientSaid(CLIENT, Call("call", name, "ready")))


def prompted(house: House, name: str) -> None:
    house.prompt(name)


@pytest.mark.parametrize("busy", [followed, called, prompted])
def test_what_has_something_to_do_stays_in_memory(house: House, busy: Callable[[House, str], None]) -> None:
    name = session_of(house)

    busy(house, name)
    house.open()
    house.tick()

    assert [name] == house.in_memory


def test_who_is_not_followed_any_more_may_go(house: House) -> None:
    followed(house, session_of(house))

    house.tell(ClientSaid(CLIENT, Unfollow(1)))

    assert [] == house.in_memory


def test_the_session_of_an_agent_that_is_not_in_the_configuration_may_go() -> None:
    before = House(agent("gone"))
    name = before.open("gone")
    after = House(agent(), disk=before.disk)

    followed(after, name)
    was_there = after.in_memory
    after.tell(ClientSaid(CLIENT, Unfollow(1)))

    assert [name] == was_there
    assert [] == after.in_memory


def test_what_an_agent_has_in_the_log_is_counted_though_it_left_the_configuration() -> None:
    before = House(agent("gone"))
    names = [before.open("gone") for _ in range(3)]
    before.late = True
    before.exit("gone", 1)
    before.prompt(names[0])

    after = House(agent(), disk=before.disk)

    assert [names[0]] == after.in_memory
    assert (3, 3) == (after.core.house.agents["gone"].sessions, after.core.house.session_count)


def test_so_many_stay_in_memory_as_may_and_those_that_were_named_last() -> None:
    house = House(agent(), kept=2)

    names = [house.open() for _ in range(5)]
    house.tick()

    assert names[-2:] == house.in_memory
    assert 5 == house.row("a")["sessions"]


def test_an_actors_sessions_where_one_holds_few_stay() -> None:
    house = House(agent(sessions_per_actor=1))
    name = house.open()
    house.play(name)
    house.tick()

    assert [name] == house.in_memory
    assert [name] == house.restarted().in_memory


def test_nothing_goes_before_it_is_recorded() -> None:
    house = House(agent())
    core = house.core.house

    house.core.handle([ClientSaid(CLIENT, Open("o", "a", "/"))], 0.0, 0.0)
    before = (len(core.sessions), len(core.opens))
    house.core.handle([Committed(core.ticket)], 0.0, 0.0)

    assert (1, 1) == before
    assert (0, 0) == (len(core.sessions), len(core.opens))


# --- lists ---


def listed(house: House, **asked: str) -> list[SessionStatus]:
    told = house.ask(Verb(f"v{len(house.told)}", "sessions", pack(asked)))
    assert isinstance(told, Result), told
    rows: list[SessionStatus] = verbs.answer_to(verbs.Sessions(), told.body)
    return rows


def test_a_list_has_what_rests_as_the_log_has_it_and_what_plays_as_it_is_now(house: House) -> None:
    rests, plays = session_of(house), house.open()
    house.prompt(plays)

    rows = listed(house)

    assert [(plays, True), (rests, False)] == [(row.session, row.turn is not None) for row in rows]
    assert [house.disk.last(each) for each in (plays, rests)] == [row.last for row in rows]
    assert [plays] == house.in_memory


def test_a_list_is_asked_for_in_pages_or_for_one_session(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verbs, "SESSIONS_SHOWN_MAX", 2)
    names = [session_of(house), *(house.open() for _ in range(3))]

    pages = [listed(house), listed(house, before=names[2]), listed(house, session=names[1])]

    assert [names[:1:-1], names[1::-1], names[1:2]] == [[row.session for row in page] for page in pages]
    assert [] == listed(house, before=names[0]) == listed(house, session="nobody")


def test_a_list_that_is_no_list_is_refused(house: House) -> None:
    told = house.ask(Verb("v", "sessions", pack({"session": 7})))

    assert isinstance(told, Fault)
    assert "bad_frame" == told.code


# --- a log that cannot be read ---


def failing(house: House, passes: bool) -> House:
    disk = Failing()
    disk.__dict__.update({name: value for name, value in house.disk.__dict__.items() if name != "passes"})
    disk.passes = passes
    return House(*house.core.house.spec.agents, disk=disk)


def test_who_names_what_cannot_be_read_for_good_is_told(house: House) -> None:
    broken = failing(house, passes=False)

    told = broken.ask(Follow(1, session_of(house), 1))

    assert isinstance(told, Fault)
    assert (UNREADABLE, "follow:1") == (told.code, told.request)


def test_who_names_what_cannot_be_read_for_now_says_it_again_on_another_connection(house: House) -> None:
    broken = failing(house, passes=True)

    told = broken.ask(Cancel("c", session_of(house), 0))

    assert isinstance(told, Fault)
    assert (LOG_STALLED, "") == (told.code, told.request)
    assert CLIENT not in broken.core.house.clients


@pytest.mark.parametrize(("passes", "told"), [(True, NO_HELLO), (False, Recorded(1))], ids=["for now", "for good"])
def test_an_actor_says_again_what_could_not_be_read_for_now(house: House, passes: bool, told: object) -> None:
    broken = failing(house, passes)
    peer = peer_of("a", broken.core.house.agents["a"].first.epoch)

    broken.tell(ActorSaid(peer, Remember(1, session_of(house), pack("kept"))))
    if passes:
        broken.tell(ActorSaid(peer, Pong()))

    answer = broken.to_actor[-1][1]
    assert told == getattr(answer, "code", answer)
