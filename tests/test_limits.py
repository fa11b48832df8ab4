"""Limits, decided in pure code: what happens at each, with the figures in the fault, the log and the status."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from understudy.protocol.backstage import Backstage
from understudy.protocol.frames import (
    BODY_BYTES_MAX,
    PROTOCOL_VERSION,
    Accepted,
    ActorHello,
    Answer,
    Ask,
    Begin,
    Call,
    CancelTurn,
    Ended,
    Entry,
    Fault,
    Frame,
    FromActor,
    FromClient,
    Handover,
    Hello,
    Open,
    Opened,
    Prompt,
    Recorded,
    Stop,
    Updates,
    Verb,
    encode,
    pack,
    unpack,
)
from understudy.protocol.sizes import ENTRY_BYTES_MAX, MEMORY_BYTES_MAX, OPENING_BYTES_MAX
from understudy.supervisor.core.control import WAITS_PER_CLIENT_MAX
from understudy.supervisor.core.core import Core
from understudy.supervisor.core.events import (
    ActorSaid,
    ClientSaid,
    Committed,
    Effect,
    Event,
    Exited,
    Kill,
    Record,
    Sampled,
    Spawn,
    TellActor,
    TellClient,
    Ticked,
    Warn,
)
from understudy.supervisor.core.restored import Restored, RestoredSession
from understudy.supervisor.core.specs import AgentSpec, HouseSpec, RestartPolicy
from understudy.supervisor.core.status import session_rows, status_rows

CLIENT = b"client"


class Desk:
    """A core whose log commits at once, with a client at the desk; whoever is spawned is ready at once."""

    def __init__(
        self, *agents: AgentSpec, actors_max: int = 0, memory_mb: int = 0, restored: Restored | None = None
    ) -> None:
        spec = HouseSpec(agents, "/r", "/s", actors_max=actors_max, memory_mb=memory_mb)
        self.core = Core(spec, restored or Restored(), {}, Random(1), [], 0.0, 0.0)
        self.now = 0.0
        self.late = False  # Whether those that are spawned from here on are not ready.
        self.entries: list[Entry] = []
        self.effects: list[Effect] = []
        self.told: list[Frame] = []
        self.to_actor: list[tuple[bytes, Frame]] = []
        self.warned: list[str] = []
        self.killed: list[tuple[str, int]] = []
        self._run(self.core.start(0.0, 0.0))
        self.tell(ClientSaid(CLIENT, Hello(PROTOCOL_VERSION, "c")))

    def tell(self, *events: Event, after_s: float = 0.0) -> None:
        self.now += after_s
        self._run(self.core.handle(list(events), self.now, 0.0))

    def _run(self, effects: list[Effect]) -> None:
        ready: list[Event] = []
        self.effects.extend(effects)
        for effect in effects:
            match effect:
                case Record(ticket=ticket, rows=rows):
                    self.entries.extend(row for row in rows if isinstance(row, Entry))
                    ready.append(Committed(ticket))
                case TellClient(frame=frame):
                    self.told.append(frame)
                case TellActor(peer=peer, frame=frame):
                    self.to_actor.append((peer, frame))
                case Spawn(actor=actor, epoch=epoch) if not self.late:
                    hello = ActorHello(PROTOCOL_VERSION, actor, epoch, 100 + epoch)
                    ready.append(ActorSaid(peer_of(actor, epoch), hello))
                case Kill(actor=actor, epoch=epoch):
                    self.killed.append((actor, epoch))
                case Warn(text=text):
                    self.warned.append(text)
                case _:
                    pass
        for event in ready:
            self.tell(event)

    def tick(self, after_s: float = 1.0) -> None:
        self.tell(Ticked(), after_s=after_s)

    def ask(self, frame: FromClient) -> Frame:
        """Say `frame` as the client; return the answer."""
        before = len(self.told)
        self.tell(ClientSaid(CLIENT, frame))
        return self.told[before]

    def open(self, agent: str = "a") -> str:
        opened = self.ask(Open(f"o{len(self.told)}", agent, "/"))
        assert isinstance(opened, Opened), opened
        return opened.session

    def prompt(self, session: str) -> Frame:
        return self.ask(Prompt(f"p{len(self.told)}", session, pack([{"type": "text", "text": "hello"}])))

    def refused(self, frame: FromClient) -> str:
        fault = self.ask(frame)
        assert isinstance(fault, Fault), fault
        assert "limit_reached" == fault.code
        return fault.text

    def said(self, frame: FromActor, actor: str = "a", epoch: int = 1) -> None:
        self.tell(ActorSaid(peer_of(actor, epoch), frame))

    def exit(self, actor: str, epoch: int, status: int = 0) -> None:
        self.tell(Exited(actor, epoch, 100 + epoch, status, shown=[]))

    def use(self, **memory_mb: float) -> None:
        """Measure: `a1=100` is a#1."""
        self.tell(*(Sampled(name[:-1], int(name[-1]), used, 10) for name, used in memory_mb.items()))

    def row(self, name: str) -> dict[str, Any]:
        return next(row for row in status_rows(self.core.house) if row["name"] == name)

    def states(self) -> dict[str, str]:
        return {str(row["name"]): str(row["state"]) for row in status_rows(self.core.house)}

    def handed(self) -> list[tuple[bytes, int]]:
        return [(peer, frame.turn) for peer, frame in self.to_actor if isinstance(frame, Handover)]

    def asked_to_stop(self) -> list[bytes]:
        return [peer for peer, frame in self.to_actor if isinstance(frame, Stop)]


def peer_of(actor: str, epoch: int) -> bytes:
    return f"{actor}#{epoch}".encode()


def agent(name: str = "a", **settings: Any) -> AgentSpec:
    return AgentSpec(name, **settings)


# --- what is handed in ------------------------------------------------------------


def test_no_session_beyond_sessions_max() -> None:
    desk = Desk(agent(sessions_max=2))
    for _ in range(2):
        desk.open()

    text = desk.refused(Open("o", "a", "/"))

    assert text.startswith("agent a: sessions_max: 2 of 2 sessions; ")
    assert [f"refused at a limit: {text}"] == desk.warned
    assert ["sessions_max: 2 of 2 sessions"] == desk.row("a")["limits"]


def test_each_agent_counts_its_own_sessions_those_of_the_log_too() -> None:
    known = RestoredSession("s", "a", "/", b"", b"", "o", 1, 0.0)
    desk = Desk(agent(sessions_max=2), agent("b", sessions_max=1), restored=Restored(sessions=[known]))
    desk.open()

    desk.open("b")

    assert (2, 1) == (desk.row("a")["sessions"], desk.row("b")["sessions"])


def test_no_prompt_beyond_queued_turns_max() -> None:
    desk = Desk(agent(queued_turns_max=1))
    session = desk.open()
    accepted = [desk.prompt(session) for _ in range(2)]

    text = desk.refused(Prompt("p", session, pack([])))

    assert all(isinstance(each, Accepted) for each in accepted)
    assert text.startswith("agent a: queued_turns_max: 1 of 1 turns wait; ")
    assert ["queued_turns_max: 1 of 1 turns wait"] == desk.row("a")["limits"]


def test_turns_beyond_turns_max_wait_and_say_for_what() -> None:
    desk = Desk(agent(turns_max=1))
    for _ in range(2):
        desk.prompt(desk.open())

    assert 1 == len(desk.handed())
    assert "turns_max: 1 of 1 turns run" == desk.row("a")["waiting_for"]


def test_a_refusal_is_told_in_the_log_once_a_minute() -> None:
    desk = Desk(agent(sessions_max=1))
    desk.open()
    for after_s in (0.0, 30.0, 31.0):
        desk.now += after_s
        desk.refused(Open(f"again {after_s}", "a", "/"))

    assert 2 == len(desk.warned)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda s: Prompt("r", s, b"x" * (ENTRY_BYTES_MAX + 1)),
            "the prompt has 16777217 bytes; the limit is 16777216",
        ),
        (lambda _: Open("r", "a", "/", b"x" * (OPENING_BYTES_MAX + 1)), "what opens the session has 4194305 bytes"),
        (lambda s: Call("r", s, "m", b"x" * (ENTRY_BYTES_MAX + 1)), "the body of the call has 16777217 bytes"),
    ],
    ids=["prompt", "open", "call"],
)
def test_what_is_too_large_is_refused_with_its_size(make: Callable[[str], FromClient], text: str) -> None:
    desk = Desk(agent())

    assert desk.refused(make(desk.open())).startswith(text)


def test_verbs_of_a_client_that_wait_for_agents_have_a_bound_with_its_figures() -> None:
    desk = Desk(agent())
    desk.late = True
    desk.exit("a", 1, 1)
    for number in range(WAITS_PER_CLIENT_MAX):
        desk.tell(ClientSaid(CLIENT, Verb(f"w{number}", "start", pack({"names": ["a"]}))))

    text = desk.refused(Verb("r", "start", pack({"names": ["a"]})))

    assert "100 of 100 verbs of this client wait for their agents" == text
    assert [f"refused at a limit: {text}"] == [line for line in desk.warned if "refused" in line]


def test_an_answer_that_is_too_large_is_an_error_for_the_agent() -> None:
    desk, session = playing(agent())
    desk.said(Ask(1, session, 2, "q", "m", pack({})))

    text = desk.refused(Answer(session, "q", b"x" * (ENTRY_BYTES_MAX + 1)))

    assert Answer(session, "q", error=text) == desk.to_actor[-1][1]


def test_the_largest_of_all_that_a_hand_over_carries_fits_a_frame() -> None:
    largest = Handover(
        "s", 1, "/", b"x" * ENTRY_BYTES_MAX, b"x" * OPENING_BYTES_MAX, b"x" * MEMORY_BYTES_MAX, ["m" * 100] * 100
    )

    assert BODY_BYTES_MAX > sum(map(len, encode([largest])))


# --- entries_max ------------------------------------------------------------------


def playing(spec: AgentSpec) -> tuple[Desk, str]:
    """Return a desk where turn 2 of a session runs."""
    desk = Desk(spec)
    session = desk.open()
    desk.prompt(session)
    desk.said(Begin(session, 2))
    return desk, session


def says(n: int, session: str, count: int) -> Updates:
    return Updates(n, session, 2, count, pack([{"at": at} for at in range(n, n + count)]))


def full(ended: bool = True) -> tuple[Desk, str]:
    """Return a desk whose session is full: of 20 numbers 7 were left when the agent said 12 things."""
    desk, session = playing(agent(entries_max=10))
    desk.said(says(1, session, 5))
    desk.said(says(6, session, 7))
    if ended:
        desk.said(Ended(13, session, 2, "end_turn"))
    return desk, session


def test_a_full_session_keeps_what_fits_counts_the_rest_and_has_its_ending() -> None:
    desk, _ = full()

    told = [(each.kind, each.first, each.last) for each in desk.entries[3:]]
    assert [("update", 4, 8), ("update", 9, 10), ("note", 11, 11), ("note", 12, 12), ("ended", 13, 13)] == told
    notes = [unpack(each.body)["text"] for each in desk.entries if each.kind == "note"]
    assert [
        "what the agent says from here on is not recorded (entries_max: 10 of 10 entries)",
        "5 of what the agent said or asked is not recorded (entries_max: 11 of 10 entries)",
    ] == notes


def test_the_first_update_that_does_not_fit_is_dropped() -> None:
    desk, session = playing(agent(entries_max=10))

    desk.said(says(1, session, 8))

    assert (4, 10) == next((each.first, each.last) for each in desk.entries if each.kind == "update")


def test_each_turn_tells_what_it_lost_itself() -> None:
    desk, session = playing(agent(entries_max=10))
    second = desk.prompt(session)
    assert isinstance(second, Accepted)
    desk.said(says(1, session, 9))
    desk.said(Ended(10, session, 2, "end_turn"))
    desk.said(Begin(session, second.turn))
    desk.said(says(11, session, 2))
    desk.said(Ended(13, session, second.turn, "end_turn"))

    notes = [unpack(each.body)["text"].partition(" of")[0] for each in desk.entries if each.kind == "note"]
    assert ["3", "2"] == notes[1::2]


def test_what_a_full_session_drops_is_acknowledged() -> None:
    desk, _ = full()

    assert Recorded(13) == [frame for _, frame in desk.to_actor if isinstance(frame, Recorded)][-1]


def test_a_full_session_takes_no_prompt_and_says_so() -> None:
    desk, session = full()

    text = desk.refused(Prompt("p", session, pack([])))

    assert text.startswith(f"session {session} of agent a: entries_max: 13 of 10 entries; open another session")
    assert "entries_max: 13 of 10 entries" == session_rows(desk.core.house)[0]["full"]


def test_a_prompt_that_was_accepted_before_the_session_was_full_is_played() -> None:
    desk, session = playing(agent(entries_max=10))
    second = desk.prompt(session)
    assert isinstance(second, Accepted)
    desk.said(says(1, session, 20))
    desk.said(Ended(21, session, 2, "end_turn"))
    desk.said(Begin(session, second.turn))
    desk.said(Ended(22, session, second.turn, "end_turn"))

    assert [2, second.turn] == [each.turn for each in desk.entries if each.kind == "ended"]


def test_a_question_in_a_full_session_is_answered_with_the_reason() -> None:
    desk, session = full(ended=False)

    desk.said(Ask(13, session, 2, "q", "m", pack({})))

    answer = desk.to_actor[-2][1]
    assert isinstance(answer, Answer)
    assert answer.error == "nobody can be asked, the session's log is full (entries_max: 11 of 10 entries)"
    assert "asked" not in {each.kind for each in desk.entries}


def test_what_a_driver_remembers_has_a_limit_of_its_own() -> None:
    machine = Backstage("a", 1, 1)

    with pytest.raises(Exception, match=f"the limit is {MEMORY_BYTES_MAX}"):
        machine.remember("s", "x" * MEMORY_BYTES_MAX)


# --- actors_max -------------------------------------------------------------------


def test_starts_beyond_actors_max_wait_with_the_figures() -> None:
    desk = Desk(agent("a"), agent("b"), agent("c"), actors_max=2)

    assert {"a": "RUNNING", "b": "RUNNING", "c": "STOPPED"} == desk.states()
    assert "waits: 2 of actors_max 2 run" == desk.row("c")["why"]


def test_a_place_that_gets_free_goes_to_who_waited() -> None:
    never = agent("a", restart=RestartPolicy(intensity=0))
    desk = Desk(never, agent("b"), agent("c"), actors_max=2)

    desk.exit("a", 1, 1)

    assert {"a": "FATAL", "b": "RUNNING", "c": "RUNNING"} == desk.states()


def test_an_understudy_that_is_due_when_a_place_gets_free_leaves_it_to_who_plays() -> None:
    never = agent("b", restart=RestartPolicy(intensity=0))
    desk = Desk(agent("a", understudies=1), never, agent("c"), actors_max=2)

    desk.tell(Exited("b", 1, 101, 1, shown=[]), Ticked(), after_s=1.0)

    assert {"a": "RUNNING", "a~1": "STOPPED", "b": "FATAL", "c": "RUNNING"} == desk.states()


def test_understudies_wait_for_room_and_for_those_who_play() -> None:
    desk = Desk(agent("a", understudies=2), agent("b"), actors_max=3)
    desk.tick()

    assert {"a": "RUNNING", "a~1": "RUNNING", "a~2": "STOPPED", "b": "RUNNING"} == desk.states()
    assert "waits: 3 of actors_max 3 run" == desk.row("a~2")["why"]


def test_an_understudy_makes_room_for_one_who_plays() -> None:
    desk = Desk(agent("a", understudies=1), agent("b"), actors_max=2)
    stop(desk, "b")
    desk.tick()
    before = desk.states()

    desk.tell(ClientSaid(CLIENT, verb("start", "b")))
    asked = desk.asked_to_stop()[-1]
    desk.exit("a", 2)
    desk.tick()

    assert {"a": "RUNNING", "a~1": "RUNNING", "b": "STOPPED"} == before
    assert peer_of("a", 2) == asked
    assert {"a": "RUNNING", "a~1": "STOPPED", "b": "RUNNING"} == desk.states()


def verb(name: str, actor: str) -> FromClient:
    return Verb(f"{name} {actor}", name, pack({"names": [actor]}))


def stop(desk: Desk, name: str) -> None:
    desk.tell(ClientSaid(CLIENT, verb("stop", name)))
    desk.exit(name, 1)


def test_a_start_that_finds_no_room_is_answered_with_the_figures() -> None:
    desk = Desk(agent("a"), agent("b"), actors_max=1)

    desk.tell(ClientSaid(CLIENT, verb("start", "b")))

    (row,) = unpack(desk.told[-1].body)  # type: ignore[union-attr]
    assert "STOPPED: waits: 1 of actors_max 1 run" == row["error"]


def test_an_understudy_never_starts_before_the_one_that_plays() -> None:
    slow = RestartPolicy(backoff_min_s=10.0, backoff_max_s=10.0)
    desk = Desk(agent("a", understudies=1, restart=slow))
    desk.tick()
    desk.exit("a", 2, 1)
    desk.exit("a", 1, 1)
    for _ in range(30):
        desk.tick()

    house = desk.core.house
    assert house.roles["a"].child.epoch < house.roles["a"].understudies[0].epoch
    assert {"a": "RUNNING", "a~1": "RUNNING"} == desk.states()


# --- memory of the house ----------------------------------------------------------


def test_understudies_are_dismissed_before_anybody_waits_or_dies() -> None:
    desk = Desk(agent("a", understudies=1), agent("b", understudies=1), memory_mb=100)
    desk.tick()
    desk.prompt(desk.open())

    desk.use(a1=50, a2=30, b1=20, b2=10)

    assert [peer_of("a", 2)] == desk.asked_to_stop()
    assert ([], "") == (desk.killed, desk.core.house.memory_over)
    assert "understudy a#2 (30 MB) is dismissed: memory of the house: limit 100 MB, had 110 MB" == desk.warned[-1]


def test_a_dismissed_understudy_is_prepared_again_when_there_is_room_for_it() -> None:
    desk = Desk(agent("a", understudies=1), memory_mb=100)
    desk.tick()
    desk.use(a1=80, a2=40)
    desk.exit("a", 2)
    desk.tick()
    waits = desk.row("a~1")["state"], desk.row("a~1")["why"]

    desk.use(a1=59)
    desk.tick()

    text = "waits: memory of the house: limit 100 MB, had 80 MB, and an understudy takes 40 MB"
    assert ("STOPPED", text) == waits
    assert {"a": "RUNNING", "a~1": "RUNNING"} == desk.states()


def test_turns_and_starts_wait_while_memory_in_all_is_over() -> None:
    desk = Desk(agent("a"), agent("b"), memory_mb=100)
    stop(desk, "b")
    desk.prompt(desk.open())
    desk.use(a1=101)
    desk.tell(ClientSaid(CLIENT, verb("start", "b")))
    desk.prompt(desk.open())
    waits = len(desk.handed()), desk.row("a")["waiting_for"], desk.row("b")["why"]

    desk.use(a1=99)

    text = "memory of the house: limit 100 MB, had 101 MB"
    assert (1, text, f"waits: {text}") == waits
    assert (2, "RUNNING") == (len(desk.handed()), desk.row("b")["state"])
    assert [f"{text}: turns and starts wait"] == [each for each in desk.warned if each.startswith(text)]


def test_an_idle_actor_is_started_anew_when_turns_wait_for_its_memory() -> None:
    desk, session = idle_after_a_turn(Desk(agent("a"), agent("b"), memory_mb=100))
    desk.use(a1=80, b1=30)

    desk.prompt(session)
    asked = desk.asked_to_stop()
    desk.exit("a", 1)

    assert [peer_of("a", 1)] == asked
    assert (peer_of("a", 2), "RUNNING") == (desk.handed()[-1][0], desk.row("a")["state"])


def test_an_idle_actor_is_left_alone_while_nobody_waits() -> None:
    desk, _ = idle_after_a_turn(Desk(agent("a"), memory_mb=100))

    desk.use(a1=120)

    assert [] == desk.asked_to_stop()


def test_an_actor_that_has_played_nothing_is_not_started_anew() -> None:
    desk = Desk(agent("a"), memory_mb=100)
    desk.use(a1=120)

    desk.prompt(desk.open())
    desk.use(a1=120)

    assert [] == desk.asked_to_stop()
    assert "memory of the house: limit 100 MB, had 120 MB" == desk.row("a")["waiting_for"]


def idle_after_a_turn(desk: Desk) -> tuple[Desk, str]:
    session = desk.open()
    desk.prompt(session)
    desk.said(Begin(session, 2))
    desk.said(Ended(1, session, 2, "end_turn"))
    return desk, session


def test_an_understudy_waits_for_memory_until_all_that_play_have_started() -> None:
    desk = Desk(agent("a", understudies=1), agent("b"), memory_mb=100)
    stop(desk, "b")
    desk.tick()
    desk.use(a1=101)
    desk.tell(ClientSaid(CLIENT, verb("start", "b")))
    desk.exit("a", 2)
    desk.tick()
    why = desk.row("a~1")["why"]

    desk.use(a1=50)
    desk.tick()

    assert "waits: memory of the house: limit 100 MB, had 101 MB" == why
    assert {"a": "RUNNING", "a~1": "RUNNING", "b": "RUNNING"} == desk.states()


def test_an_understudy_that_is_still_starting_is_dismissed_as_well() -> None:
    desk = Desk(agent("a", understudies=1), memory_mb=100)
    desk.late = True
    desk.tick()

    desk.use(a1=90, a2=20)

    assert [("a", 2)] == desk.killed
    assert "STOPPING" == desk.row("a~1")["state"]


# --- memory of one agent ----------------------------------------------------------


def test_an_actor_over_its_limit_is_killed_and_says_why() -> None:
    desk = Desk(agent(memory_mb=100))

    desk.use(a1=101)
    desk.exit("a", 1, -9)

    assert [("a", 1)] == desk.killed
    assert "fell after 0.0 s: memory: limit 100 MB, had 101 MB" in desk.warned[-1]


def test_what_the_kernel_killed_at_the_limit_says_so() -> None:
    desk = Desk(agent(memory_mb=100))

    desk.tell(Exited("a", 1, 101, -9, shown=[], oom_kills=3))

    assert "memory: limit 100 MB, and the kernel ended 3 process(es) that wanted more" in desk.warned[-1]


def test_a_turn_over_the_soft_limit_is_told_and_cancelled_once() -> None:
    desk, session = playing(agent(memory_soft_mb=100))

    desk.use(a1=101)
    desk.use(a1=102)

    notes = [unpack(each.body)["text"] for each in desk.entries if each.kind == "note"]
    assert ["memory: soft limit 100 MB, had 101 MB; the turn is cancelled"] == notes
    assert [CancelTurn(session, 2)] == [frame for _, frame in desk.to_actor if isinstance(frame, CancelTurn)]
