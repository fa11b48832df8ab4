"""Which turns an actor plays, who ends each, and how long it goes on alone."""

from understudy.actors.playing import Playing

TURN = ("s", 2)


def test_a_turn_that_ends_by_itself_is_ended_by_the_actor_also_while_it_stops() -> None:
    playing = Playing(1.0)
    playing.stop()

    assert playing.ended(TURN, "end_turn", program_gone=False)


def test_a_turn_given_up_for_the_actors_own_end_is_left_to_the_supervisor() -> None:
    playing = Playing(1.0)
    playing.stop()

    assert not playing.ended(TURN, "cancelled", program_gone=False)


def test_a_turn_that_was_to_be_cancelled_is_ended_by_the_actor_also_while_it_stops() -> None:
    playing = Playing(1.0)
    playing.cancel(TURN)
    playing.stop()

    assert playing.ended(TURN, "cancelled", program_gone=False)
    assert not playing.ended(TURN, "cancelled", program_gone=False), "of another turn of that name nothing is known"


def test_a_turn_whose_program_is_gone_is_left_to_the_supervisor() -> None:
    assert not Playing(1.0).ended(TURN, "failed", program_gone=True)
    assert Playing(1.0).ended(TURN, "failed", program_gone=False)


def test_leave_to_start_counts_once_and_for_a_turn_that_waits_for_it() -> None:
    playing = Playing(1.0)
    playing.waits(TURN)

    assert [True, False] == [playing.may_go(TURN), playing.may_go(TURN)]


def test_a_cancelled_turn_is_broken_off_unless_its_agent_has_it_and_understood() -> None:
    playing = Playing(1.0)
    playing.waits(TURN)

    assert playing.breaks_off(TURN, understood=True)
    playing.may_go(TURN)
    assert not playing.breaks_off(TURN, understood=True)
    assert playing.breaks_off(TURN, understood=False)


def test_an_actor_is_alone_from_the_first_loss_on_until_it_is_welcomed() -> None:
    playing = Playing(3.0)
    playing.lost(10.0)
    playing.lost(12.0)

    assert 13.0 == playing.orphan_due
    playing.found()
    assert playing.orphan_due is None
