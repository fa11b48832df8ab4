"""The outbox holds what waits for the log, and nothing else."""

from understudy.protocol.frames import Ping, Pong
from understudy.supervisor.core.events import Committed, ForgetMarks, Record, TellActor, TellClient
from understudy.supervisor.core.outbox import Outbox


def test_what_waits_for_nothing_is_carried_out_at_once() -> None:
    outbox = Outbox()
    tell = TellClient(b"c", Pong())

    assert tell == outbox.take(tell)


def test_a_record_is_kept_until_it_is_written() -> None:
    outbox = Outbox()

    assert outbox.take(Record(1, [])) is None
    assert ([], Committed(1)) == outbox.written(1)
    assert [] == outbox.records


def test_each_effect_waits_for_its_own_ticket_only() -> None:
    outbox = Outbox()
    late, early = TellActor(b"a", Ping(), after=2), TellClient(b"c", Pong(), after=1)
    for effect in (Record(1, []), Record(2, []), late, early):
        assert outbox.take(effect) is None

    assert ([early], Committed(1)) == outbox.written(1)
    assert ([late], Committed(2)) == outbox.written(1)


def test_marks_are_forgotten_once_what_became_of_their_turns_is_written() -> None:
    outbox = Outbox()
    forget = ForgetMarks("a", 3, after=1)
    outbox.take(Record(1, []))

    assert outbox.take(forget) is None
    assert [forget] == outbox.written(1)[0]
    assert forget == outbox.take(forget)
