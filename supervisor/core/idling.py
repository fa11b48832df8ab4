"""Actors that have nothing to do for so long that they are ended: the next prompt starts them again. Pure."""

from understudy.supervisor.core import places
from understudy.supervisor.core.house import House
from understudy.supervisor.core.life import Actor, Reason, Why


def due(house: House, actor: Actor) -> float | None:
    """Return when the actor will have been idle for too long; None while it is not idle, is wanted, or may stay."""
    if not actor.agent:
        return None
    agent = house.agents[actor.agent]
    idle_stop_s = agent.idle_stop_s(actor.environment)
    if not idle_stop_s or not agent.may_rest(actor.environment) or house.stopping or not places.is_idle(house, actor):
        return None
    return None if places.has_work(house, actor) else actor.idle_from + idle_stop_s


def ticked(house: House, actors: list[Actor]) -> None:
    """End those of `actors` that were idle for too long."""
    for actor in actors:
        over = due(house, actor)
        if over is not None and house.now >= over:
            idle_s = house.now - actor.idle_from
            actor.leaves = actor is not house.agents[actor.agent].first
            text = f"idle for {idle_s:.0f} s; the next prompt starts it"
            places.end(house, actor, Why(Reason.IDLE, text))
