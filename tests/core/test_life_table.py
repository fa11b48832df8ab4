"""The life of one actor: every step from every state, as its table says."""

import pytest

from understudy.protocol.frames import PROTOCOL_VERSION, ActorHello
from understudy.supervisor.core import life
from understudy.supervisor.core.events import Spawned
from understudy.supervisor.core.life import LIVING, TABLE, Actor, Hindrance, InvalidStepError, Reason, State, Step, Why
from understudy.supervisor.core.specs import AgentSpec

PAIRS = [(state, step) for state in State for step in Step]
WHY = Why(Reason.ENDED, "for the test")


def actor(state: State = State.STOPPED) -> Actor:
    return Actor("a", AgentSpec("a"), agent="a", place=1, epoch=1, state=state, pid=7)


def take(made: Actor, step: Step) -> None:
    """Let `step` happen by the way by which it does."""
    match step:
        case Step.STARTED:
            made.start(2, 1.0)
        case Step.HELD:
            made.held(Hindrance.ROOM, WHY, 1.0)
        case Step.PREPARED:
            made.prepare(0.5, 1.0)
        case Step.ADOPTED:
            made.adopt(Spawned("a", 2, 8, 8), 3, 1.0, 1.0, None)
        case Step.READY:
            made.greeted(ActorHello(PROTOCOL_VERSION, "a", 1, 7, connection=1), b"peer", 1.0)
        case Step.ASKED:
            made.stop(1.0)
        case Step.SET_APART:
            made.set_apart(WHY, False, 1.0)
        case Step.FELL | Step.RETIRED | Step.GIVEN_UP | Step.ENDED | Step.SURVIVED:
            made.gone(step, 1.0, WHY)


# What is asked of an actor in a state that has no use for it changes nothing: whoever asks need not know.
INDIFFERENT: dict[Step, list[State]] = {
    Step.PREPARED: [state for state in State if state is not State.STOPPED],
    Step.READY: [state for state in State if state is not State.STARTING],
    Step.ASKED: [State.STOPPED, State.STOPPING, State.UNKNOWN],
    Step.SET_APART: [State.UNKNOWN],
}


@pytest.mark.parametrize(("state", "step"), PAIRS, ids=lambda each: each.name)
def test_a_step_leads_where_the_table_says_or_is_refused_with_the_story(state: State, step: Step) -> None:
    made = actor(state)
    made.story.append("how it came to this")
    to = TABLE.get((state, step))
    if step is Step.SET_APART and state not in LIVING and state is not State.UNKNOWN:
        to = TABLE[state, Step.GIVEN_UP]  # Nothing of it lives: that is all that is left to do.

    if to is None and state not in INDIFFERENT.get(step, []):
        with pytest.raises(InvalidStepError, match=f"a#1 is {state.name}: .*how it came to this"):
            take(made, step)
        to = state
    else:
        take(made, step)

    assert made.state is (state if to is None else to)


@pytest.mark.parametrize("state", State, ids=lambda each: each.name)
def test_every_state_is_left_again(state: State) -> None:
    assert {to for (at, _), to in TABLE.items() if at is state} - {state}


def test_the_diagram_is_drawn_from_the_table() -> None:
    assert life.diagram() in (life.__doc__ or "")


def test_the_actor_of_another_house_with_its_name_and_epoch_is_not_taken_for_it() -> None:
    made = actor(State.STARTING)

    assert not made.greeted(ActorHello(PROTOCOL_VERSION, "a", 1, 8, connection=3), b"foreign", 0.0)
    assert made.greeted(ActorHello(PROTOCOL_VERSION, "a", 1, 7, connection=1), b"own", 0.0)
    assert (State.RUNNING, b"own") == (made.state, made.peer)
