"""Room for actors, decided in pure code: who waits, makes room or is ended when there are too many or memory is short."""

from tests.desk import CLIENT, Desk, agent, peer_of, playing
from understudy.protocol.frames import Begin, CancelTurn, Ended, FromClient, Verb, pack, unpack
from understudy.protocol.news import ActorEnded, MemoryPassed, SoftLimitPassed, UnderstudyDismissed
from understudy.supervisor.core.events import ClientSaid, Exited, Ticked
from understudy.supervisor.core.specs import RestartPolicy

# --- actors_max -------------------------------------------------------------------


def test_starts_beyond_actors_max_wait_with_the_figures() -> None:
    desk = Desk(agent("a"), agent("b"), agent("c"), actors_max=2)

    assert {"a": "RUNNING", "b": "RUNNING", "c": "STOPPED"} == desk.states()
    assert "waits: 2 of actors_max 2 run" == desk.row("c")["why"]


def test_a_prompt_for_whom_the_house_has_no_room_waits_for_that() -> None:
    desk = Desk(agent("a"), agent("b"), agent("c", lazy=True), actors_max=2)

    desk.prompt(desk.open("c"))

    assert "room in the house: 2 of actors_max 2 run" == desk.row("c")["waiting_for"]


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


def test_an_idle_actor_beside_the_first_makes_room_for_an_agent_that_is_to_be_up() -> None:
    desk = Desk(agent("a", sessions_per_actor=1, actors_max=2), agent("b"), actors_max=2)
    stop(desk, "b")
    for epoch in (1, 2):
        session = desk.open()
        desk.prompt(session)
        desk.said(Begin(session, 2), epoch=epoch)
        desk.said(Ended(1, session, 2, "end_turn"), epoch=epoch)
    before = desk.states()

    desk.tell(ClientSaid(CLIENT, verb("start", "b")))
    asked = desk.asked_to_stop()[-1]
    desk.exit("a", 2)

    assert {"a": "RUNNING", "a/2": "RUNNING", "b": "STOPPED"} == before
    assert peer_of("a", 2) == asked
    assert {"a": "RUNNING", "b": "RUNNING"} == desk.states()


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
    assert house.agents["a"].first.epoch < house.launches["a"].understudies[0].epoch
    assert {"a": "RUNNING", "a~1": "RUNNING"} == desk.states()


# --- memory of the house ----------------------------------------------------------


def test_understudies_are_dismissed_before_anybody_waits_or_dies() -> None:
    desk = Desk(agent("a", understudies=1), agent("b", understudies=1), memory_mb=100)
    desk.tick()
    desk.prompt(desk.open())

    desk.use(a1=50, a2=30, b1=20, b2=10)

    assert [peer_of("a", 2)] == desk.asked_to_stop()
    assert ([], "") == (desk.killed, desk.core.house.memory_over)
    assert UnderstudyDismissed("", "a", 2, 30, "memory of the house: limit 100 MB, had 110 MB") == desk.news[-1]


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
    passed = [each for each in desk.news if isinstance(each, MemoryPassed)]
    assert [MemoryPassed(True, 101, 100), MemoryPassed(False, 99, 100)] == passed


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
    ended = desk.news[-1]
    assert isinstance(ended, ActorEnded)
    assert ("limit", "memory: limit 100 MB, had 101 MB") == (ended.reason, ended.why)


def test_what_the_kernel_killed_at_the_limit_says_so() -> None:
    desk = Desk(agent(memory_mb=100))

    desk.tell(Exited("a", 1, 101, -9, shown=[], oom_kills=3))

    ended = desk.news[-1]
    assert isinstance(ended, ActorEnded)
    assert "memory: limit 100 MB, and the kernel ended 3 process(es) that wanted more" == ended.why


def test_a_turn_over_the_soft_limit_is_told_and_cancelled_once() -> None:
    desk, session = playing(agent(memory_soft_mb=100))

    desk.use(a1=101)
    desk.use(a1=102)

    notes = [unpack(each.body) for each in desk.entries if each.kind == "note"]
    assert [SoftLimitPassed(session, 2, 101, 100).body()] == notes
    assert "memory: soft limit 100 MB, had 101 MB; the turn is cancelled" == notes[0]["text"]
    assert [CancelTurn(session, 2)] == [frame for _, frame in desk.to_actor if isinstance(frame, CancelTurn)]
