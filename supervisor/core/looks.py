"""Looks at actors when something of theirs is due: a start, an end, an answer to a ping, a turn, an idle time. Pure."""

from understudy.supervisor.core import hangs, idling
from understudy.supervisor.core.house import PING_BUSY_EVERY_S, House
from understudy.supervisor.core.life import Actor

LATE_S_MAX = 0.5  # A tick so late means that we were held up ourselves: what actors said waits to be read.


def plan(house: House, actor: Actor) -> None:
    """See that the actor is looked at in time."""
    due = due_of(house, actor)
    if due is not None:
        house.dues.put(actor, due)


def due_of(house: House, actor: Actor) -> float | None:
    """Return when the actor, or its turns, have to be looked at again; None: when all are."""
    dues = [actor.due, idling.due(house, actor), *hangs.dues(house, actor)]
    if actor.playing:  # What its turns wait for may be over without a word of the actor's.
        dues.append(house.now + PING_BUSY_EVERY_S)
    return min((due for due in dues if due is not None), default=None)


def ticked(house: House, ping_idle: bool) -> None:
    """Look at all who are due; at everybody when we come late, or when all are to be asked whether they are there."""
    late = house.now > house.due + LATE_S_MAX
    due = house.dues.take(house.now)
    looked_at = list(house.actors()) if late or ping_idle else [each for each in due if house.has(each)]
    for actor in looked_at:
        house.carry_out(actor.ticked(house.now))
    house.carry_out(hangs.ticked(house, looked_at, ping_idle, late))
    idling.ticked(house, looked_at)
    for actor in looked_at:
        plan(house, actor)
