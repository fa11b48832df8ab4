"""Who plays an agent: its actor, or an understudy that takes over. Pure.

Of all that live the player has the lowest epoch, so that a supervisor that takes them back knows who it is. Hence a
player is never started beside an understudy that lives: that one takes over, and the fallen stands by in its place.
"""

from understudy.protocol.errors import AGENT_FAILED
from understudy.supervisor.core import calls, losses, turns
from understudy.supervisor.core.child import LIVING, State
from understudy.supervisor.core.house import House, Role

UNDERSTUDY_AFTER_S = 0.02  # First the queue, then the next understudy.


def start(house: House, role: Role) -> None:
    """Somebody wants the agent: start it, unless it lives or is about to."""
    fallen = role.child
    if fallen.state not in LIVING and take_over(house, role):
        house.carry_out(fallen.start(house.now))
    else:
        house.carry_out(role.child.start(house.now))


def needed(house: House, role: Role) -> None:
    """Work came for the agent: start it, unless a person has stopped it or something of it could not be ended."""
    if role.child.state is State.UNKNOWN:
        losses.give_up(house, role, role.child.why)
    elif not role.child.by_person and not role.child.apart:
        start(house, role)


def spawned_beside(house: House, role: Role) -> None:
    """An understudy may live while its player waits: then the player need not."""
    child = role.child
    if not child.apart and (child.state in (State.BACKOFF, State.FATAL) or child.held):
        take_over(house, role)


def take_over(house: House, role: Role) -> bool:
    """Let an understudy play from now on, if one lives, and go on with the queue. Return whether one does."""
    if not role.promote():
        return False
    if role.child.state is State.RUNNING:
        go_on(house, role)
    return True


def go_on(house: House, role: Role) -> None:
    """The player is there: give it what waits; then come its understudies, and whoever starts after it."""
    for understudy in role.understudies:
        understudy.prepare(UNDERSTUDY_AFTER_S, house.now)
    for other in (*role.actors, *role.child.line.dependents):
        house.carry_out(other.released(house.now))
    calls.send_waiting(house, role)
    turns.admit_waiting(house, role)


def after_fall(house: House, role: Role) -> None:
    """An actor of the agent is gone: call it back when it is needed, give up on it when it will not come."""
    for child in role.actors:
        house.carry_out(child.released(house.now))  # It may have waited for the end of one that was stopping.
    spawned_beside(house, role)
    child = role.child
    if house.stopping:
        return  # What waits comes back with the house.
    if child.state is State.BACKOFF:
        for session in (house.sessions[name] for name in role.waiting):
            turns.tell_wait(house, session, session.mailbox[0], role)
    if child.hopeless:  # A prompt waits; who only asks is better told.
        calls.refuse(house, child.spec.name, AGENT_FAILED, child.hopeless, sent=False)
    if child.state is State.EXITED and (role.queued or calls.waiting(house, role)) and not take_over(house, role):
        house.carry_out(child.recalled(house.now))
    if role.child.state in (State.FATAL, State.UNKNOWN):
        losses.give_up(house, role, role.child.why)
