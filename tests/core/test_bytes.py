"""Bytes have owners: what a client or an actor costs the core, bounded, and given back when it leaves."""

from tests.desk import CLIENT, Desk, agent, peer_of
from understudy.protocol.frames import (
    PROTOCOL_VERSION,
    Accepted,
    ActorHello,
    Answer,
    Ask,
    Begin,
    Call,
    Cancel,
    Ended,
    Entries,
    Entry,
    Fault,
    Follow,
    Goodbye,
    Handover,
    Hello,
    Open,
    Opened,
    Pong,
    Prompt,
    Updates,
    Verb,
    Welcome,
    pack,
)
from understudy.protocol.news import PeerStuck
from understudy.supervisor.core.bounds import QUESTIONS_PER_TURN_MAX
from understudy.supervisor.core.events import (
    ActorSaid,
    ActorUnreachable,
    ClientSaid,
    EntriesRead,
    ReadEntries,
    TellActor,
    Unreadable,
)


def followers(desk: Desk) -> int:
    return sum(len(session.followers) for session in desk.core.house.sessions.values())


def test_a_second_hello_gives_up_the_follows_and_waits_of_the_first() -> None:
    desk = Desk(agent("a", after=("b",)), agent("b"))
    session = desk.open()
    for number in range(10):
        desk.tell(ClientSaid(CLIENT, Follow(number, session)))
    assert 10 == followers(desk)
    desk.tell(ClientSaid(CLIENT, Hello(PROTOCOL_VERSION, "c")))

    assert 0 == followers(desk)
    assert isinstance(desk.told[-1], Welcome)
    desk.tell(ClientSaid(CLIENT, Follow(3, session)))
    desk.tell(ClientSaid(CLIENT, Goodbye()))
    assert 0 == followers(desk)


def test_what_a_client_waits_for_does_not_outlive_it() -> None:
    desk = Desk(agent())
    desk.tell(ClientSaid(CLIENT, Verb("v", "stop", pack({"names": ["a"]}))))
    assert 1 == len(desk.core.house.waits)
    desk.tell(ClientSaid(CLIENT, Goodbye()))

    assert [] == desk.core.house.waits


def test_a_read_that_was_under_way_for_another_follow_of_the_same_number_is_not_taken_for_this_one() -> None:
    desk = Desk(agent())
    one, other = desk.open(), desk.open()
    desk.tell(ClientSaid(CLIENT, Follow(1, one)), ClientSaid(CLIENT, Follow(1, other)))
    desk.told.clear()
    late = EntriesRead(CLIENT, 1, [Entry(one, 1, 1, 0, "opened", pack({}), 0.0)], serial=1)
    read = EntriesRead(CLIENT, 1, [Entry(other, 1, 1, 0, "opened", pack({}), 0.0)], serial=2)
    desk.tell(late, read)

    assert [other] == [entry.session for frame in desk.told if isinstance(frame, Entries) for entry in frame.entries]


def test_an_actor_that_was_given_up_is_asked_for_a_hello_and_heard_again() -> None:
    desk = Desk(agent())
    session, peer = desk.open(), peer_of("a", 1)
    desk.tell(ActorUnreachable(peer))
    desk.said(Updates(1, session, 0, 1, pack([{}])))
    where, fault = desk.to_actor[-1]

    assert isinstance(fault, Fault)
    assert (peer, "no_hello") == (where, fault.code)
    desk.said(ActorHello(PROTOCOL_VERSION, "a", 1, 101, 2))
    desk.said(Updates(1, session, 0, 1, pack([{}])))
    assert "update" == desk.entries[-1].kind


def large(session: str, size: int = 3 << 20) -> Prompt:
    return Prompt("large", session, pack([{"type": "text", "text": "x" * size}]))


def handed(desk: Desk) -> list[TellActor]:
    return [each for each in desk.effects if isinstance(each, TellActor) and isinstance(each.frame, Handover)]


def test_a_large_prompt_is_read_from_the_log_when_it_is_handed_over() -> None:
    desk = Desk(agent())
    session = desk.open()
    assert isinstance(desk.ask(large(session)), Accepted)

    (told,) = handed(desk)
    assert ("body",) == told.missing
    assert isinstance(told.frame, Handover)
    assert (b"", 0) == (told.frame.body, desk.core.house.budget.kept)


def test_no_turn_is_handed_to_an_actor_that_does_not_take_what_it_has() -> None:
    desk = Desk(agent())
    for _ in range(2):
        desk.ask(large(desk.open()))

    assert 1 == len(handed(desk))
    assert "room to send it more" in desk.row("a")["waiting_for"]
    desk.said(Pong())
    assert 2 == len(handed(desk))


def test_large_turns_of_idle_agents_wait_while_much_is_under_way_to_all() -> None:
    names = ("a", "b", "c")
    desk = Desk(*map(agent, names))
    sessions = [desk.open(name) for name in names]
    for session in sessions:
        desk.ask(large(session, 14 << 20))
    small = desk.open("c")
    desk.prompt(small)

    assert [("a", sessions[0]), ("b", sessions[1]), ("c", small)] == [
        (each.peer.decode()[0], each.frame.session) for each in handed(desk) if isinstance(each.frame, Handover)
    ]
    assert "room to send it more" in desk.row("c")["waiting_for"]
    desk.said(Pong(), "a")
    assert sessions[2] in [each.frame.session for each in handed(desk) if isinstance(each.frame, Handover)]


def test_followers_of_a_client_that_takes_nothing_are_fed_no_more_and_go_on_when_it_does() -> None:
    desk = Desk(agent("a", turns_max=1))
    session = desk.open()
    desk.prompt(session)
    desk.tell(ClientSaid(CLIENT, Follow(1, session, 3, 16 << 20)))
    body = pack(["x" * 100_000])
    for n in range(1, 40):
        desk.said(Updates(n, session, 2, 1, body))
    sent = sum(len(frame.entries) for frame in desk.told if isinstance(frame, Entries))

    window = desk.core.house.budget.windows[CLIENT]
    assert 20 < sent < 39
    assert window.under_way < desk.core.house.budget.limits.window_bytes + 101_000
    assert not [each for each in desk.effects if isinstance(each, ReadEntries)]
    while window.pings:
        desk.tell(ClientSaid(CLIENT, Pong()))
    assert [(1, session)] == [(each.follow, each.session) for each in desk.effects if isinstance(each, ReadEntries)]


def test_only_one_read_of_a_client_is_under_way() -> None:
    desk = Desk(agent())
    session = desk.open()
    desk.tell(ClientSaid(CLIENT, Hello(PROTOCOL_VERSION, "c")))
    for number in range(50):
        desk.tell(ClientSaid(CLIENT, Follow(number, session, 1, 16 << 20)))

    assert 1 == sum(isinstance(each, ReadEntries) for each in desk.effects)


def test_calls_that_wait_for_their_actor_have_a_bound_in_bytes() -> None:
    desk = Desk(agent())
    desk.late = True
    session = desk.open()
    desk.exit("a", 1, 1)
    call = Call("c1", session, "session/set_mode", pack("x" * (15 << 20)))
    desk.tell(ClientSaid(CLIENT, call))

    text = desk.refused(Call("c2", session, "session/set_mode", pack("x" * (2 << 20))))
    assert f"wait for their actor, and this one has {(2 << 20) + 5}; the limit is {16 << 20}" in text
    desk.tell(ClientSaid(CLIENT, Goodbye()))
    assert not desk.core.house.calls


def test_an_idle_actor_that_hangs_with_what_it_does_not_take_is_ended_when_a_turn_waits_for_room() -> None:
    desk = Desk(agent())
    session = desk.open()
    desk.tell(ClientSaid(CLIENT, Call("c", session, "session/set_mode", pack("x" * (3 << 20)))))
    desk.prompt(session)
    assert [] == handed(desk)

    while not desk.killed and desk.now < 60:
        desk.tick(max(0.0, desk.core.deadline() - desk.now))
    assert [("a", 1)] == desk.killed


def test_turns_for_an_actor_whose_connection_was_given_up_wait_for_its_hello() -> None:
    desk = Desk(agent())
    desk.tell(ActorUnreachable(peer_of("a", 1)))
    for _ in range(2):
        desk.ask(large(desk.open()))

    assert [] == handed(desk)
    assert "its connection was given up" in desk.row("a")["waiting_for"]
    desk.said(ActorHello(PROTOCOL_VERSION, "a", 1, 101, 2))
    assert 1 == len(handed(desk))


def test_large_answers_go_to_an_actor_as_it_takes_them_also_when_it_asks_again() -> None:
    desk = Desk(agent())
    session = desk.open()
    desk.ask(Prompt("p", session, pack([{"type": "text", "text": "x"}]), ["fs/read_text_file"]))
    desk.said(Begin(session, 2))
    asks = [Ask(n, session, 2, f"q{n}", "fs/read_text_file", pack({}), public=False) for n in (1, 2, 3)]
    for ask in asks:
        desk.said(ask)
    for ask in asks:
        desk.tell(ClientSaid(CLIENT, Answer(session, ask.ask, pack("x" * (15 << 20)))))

    def given() -> list[str]:
        return [frame.ask for _, frame in desk.to_actor if isinstance(frame, Answer)]

    assert ["q1"] == given()
    desk.tell(ActorUnreachable(peer_of("a", 1)))
    desk.said(ActorHello(PROTOCOL_VERSION, "a", 1, 101, 2))
    desk.tell(*(ActorSaid(peer_of("a", 1), ask) for ask in asks))
    assert ["q1"] * 2 == given()
    while len(given()) < 4:
        assert desk.core.house.budget.windows[peer_of("a", 1)].pings
        desk.said(Pong())
    assert ["q1", "q1", "q2", "q3"] == given()


def test_answers_that_wait_for_their_actor_have_a_bound_in_bytes_and_both_sides_are_told() -> None:
    desk = Desk(agent())
    session = desk.open()
    desk.ask(Prompt("p", session, pack([{"type": "text", "text": "x"}]), ["fs/read_text_file"]))
    desk.said(Begin(session, 2))
    for n in range(1, 6):
        desk.said(Ask(n, session, 2, f"q{n}", "fs/read_text_file", pack({}), public=False))
    body = pack("x" * (15 << 20))
    for n in range(1, 5):  # The first is on its way, three wait.
        desk.tell(ClientSaid(CLIENT, Answer(session, f"q{n}", body)))

    text = desk.refused(Answer(session, "q5", body))
    assert f"answers with {3 * len(body)} bytes wait for their actors" in text
    answers = [frame for _, frame in desk.to_actor if isinstance(frame, Answer)]
    assert [("q1", ""), ("q5", text)] == [(each.ask, each.error) for each in answers]


def test_questions_for_one_client_have_a_bound_in_bytes_and_the_agent_is_told() -> None:
    desk = Desk(agent())
    session = desk.open()
    desk.ask(Prompt("p", session, pack([{"type": "text", "text": "x"}]), ["fs/write_text_file"]))
    desk.said(Begin(session, 2))
    for n in (1, 2):
        desk.said(Ask(n, session, 2, f"q{n}", "fs/write_text_file", pack("x" * (9 << 20)), public=False))

    assert ["q1"] == [frame.ask for frame in desk.told if isinstance(frame, Ask)]
    (refused,) = [frame for _, frame in desk.to_actor if isinstance(frame, Answer)]
    assert "q2" == refused.ask
    assert "too many questions are open" in refused.error


def test_no_more_questions_of_a_turn_are_open_than_its_bound() -> None:
    desk = Desk(agent())
    session = desk.open()
    desk.prompt(session)
    desk.said(Begin(session, 2))
    for n in range(1, QUESTIONS_PER_TURN_MAX + 2):
        desk.said(Ask(n, session, 2, f"q{n}", "session/request_permission", pack({})))

    assert QUESTIONS_PER_TURN_MAX == len(desk.core.house.sessions[session].asks)
    (refused,) = [frame for _, frame in desk.to_actor if isinstance(frame, Answer)]
    assert f"too many questions are open ({QUESTIONS_PER_TURN_MAX} of {QUESTIONS_PER_TURN_MAX})" == refused.error


def test_an_answer_is_kept_until_the_actor_certainly_has_it() -> None:
    desk = Desk(agent())
    session = desk.open()
    desk.prompt(session)
    desk.said(Begin(session, 2))
    desk.said(Ask(1, session, 2, "q", "session/request_permission", pack({})))
    desk.tell(ClientSaid(CLIENT, Answer(session, "q", pack({}))))
    answers = desk.core.house.sessions[session].answers

    desk.said(Ask(1, session, 2, "q", "session/request_permission", pack({})))
    assert 2 == sum(isinstance(frame, Answer) for _, frame in desk.to_actor)
    desk.tick(after_s=2.0)  # It is pinged, and answers.
    assert ["q"] == list(answers)
    desk.said(Pong())
    assert {} == answers


def test_a_client_that_leaves_answers_untaken_is_refused_more_of_them() -> None:
    desk = Desk(agent())
    desk.core.house.budget.said(CLIENT, 25 << 20)

    assert "are not taken; the limit is" in desk.refused(Verb("v", "status"))


def test_whoever_takes_nothing_while_others_wait_for_room_is_given_up() -> None:
    desk = Desk(agent())
    desk.core.house.budget.said(CLIENT, 30 << 20)
    desk.tell(ClientSaid(CLIENT, Verb("v", "status")), after_s=1.0)  # Its answer has a ping behind it.
    desk.tick(after_s=11.0)

    assert {} == desk.core.house.clients
    assert isinstance(desk.news[-1], PeerStuck)
    assert CLIENT not in desk.core.house.budget.windows


def test_a_prompt_that_cannot_be_read_again_ends_its_turn_with_the_reason() -> None:
    desk = Desk(agent())
    session = desk.open()
    desk.ask(large(session))
    (told,) = handed(desk)
    assert isinstance(told.frame, Handover)
    desk.tell(Unreadable(told.frame, "the disk is gone"))

    assert "ended" == desk.entries[-1].kind
    assert b"the disk is gone" in desk.entries[-1].body


def wide(number: int, characters: int) -> str:
    return "\U0001f600" * characters + str(number)


def test_long_folders_names_are_refused_at_a_bound_and_short_ones_are_not() -> None:
    desk = Desk(agent(sessions_max=10_000, turns_max=1))
    for number in range(3_000):
        answer = desk.ask(Open(f"r{number}", "a", wide(number, 4_000)))
        if isinstance(answer, Fault):
            break
        assert isinstance(answer, Opened)
        desk.prompt(answer.session)
    else:
        raise AssertionError("48 MB of folders' names are kept")

    assert "long" in answer.text
    assert isinstance(desk.ask(Open("other", "a", "/home/somebody/a/project")), Opened)


def test_long_lists_of_methods_are_refused_at_a_bound_and_given_back_with_their_turns() -> None:
    desk = Desk(agent())
    session = desk.open()
    text = pack([{"type": "text", "text": "x"}])
    for number in range(1_000):
        answer = desk.ask(Prompt(f"r{number}", session, text, [wide(each, 190) for each in range(100)]))
        if isinstance(answer, Fault):
            break
    else:
        raise AssertionError("84 MB of methods are kept for turns that wait")

    assert "long" in answer.text
    assert isinstance(desk.ask(Prompt("other", session, text, ["fs/read_text_file"])), Accepted)
    desk.ask(Cancel("c", session))
    desk.said(Ended(1, session, 2, "cancelled"))
    assert 0 == desk.core.house.budget.texts


def test_a_stranger_is_told_once_for_all_that_it_says_at_once() -> None:
    desk = Desk(agent())
    desk.told.clear()
    desk.tell(*(ClientSaid(b"stranger", Verb(f"r{number}", "status")) for number in range(1_000)))

    assert ["no_hello"] == [frame.code for frame in desk.told if isinstance(frame, Fault)]
