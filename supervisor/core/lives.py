"""What the keeper reports of actors' processes, and what it means for who plays and for their turns. Pure."""

from typing import assert_never

from understudy.supervisor.core import casting, hangs, limits, losses
from understudy.supervisor.core.child import LIVING, Child, State
from understudy.supervisor.core.events import EpochRow, Exited, Sampled, Spawned, SpawnFailed, Stopped
from understudy.supervisor.core.house import House, Role


def reported(house: House, role: Role, event: Spawned | SpawnFailed | Exited | Stopped | Sampled) -> None:
    """Act on one report about an actor of `role`."""
    child = role.of_epoch(event.epoch)
    match event:
        case Spawned():
            _spawned(house, role, event)
        case SpawnFailed(reason=reason):
            if child is not None:
                _spawn_failed(house, role, child, reason)
            casting.after_fall(house, role)
        case Exited():
            if child is not None and child.state in LIVING:  # Else it was told before: the keeper did not hear that.
                _exited(house, role, child, event)
            house.forget_marks(event.actor, event.epoch)
        case Stopped():
            if child is not None:
                hangs.stopped(house, child)
        case Sampled():
            if child is not None:
                house.carry_out(limits.sampled(house, role, child, event))
        case _:
            assert_never(event)


def _spawned(house: House, role: Role, event: Spawned) -> None:
    for child in role.actors:
        child.spawned(event, house.now)
    house.record(EpochRow(event.actor, event.epoch, event.pid, event.started))


def _spawn_failed(house: House, role: Role, child: Child, reason: str) -> None:
    returns = child.line.restarts.returns(None) and child.state is not State.STOPPING
    replaced = child is role.child and returns and role.promote()
    house.carry_out(child.failed_to_spawn(child.epoch, reason, house.now))
    if replaced and role.child.state is State.RUNNING:
        casting.go_on(house, role)


def _exited(house: House, role: Role, child: Child, event: Exited) -> None:
    plays = child is role.child
    ran_s = house.now - child.ran_from
    if event.oom_kills:
        limit = f"memory: limit {child.spec.memory_mb} MB"
        child.last_words = f"{limit}, and the kernel ended {event.oom_kills} process(es) that wanted more"
    how = child.last_words or child.why_exit(event.status)
    if child.peer is not None:
        house.peers.pop(child.peer, None)
        house.budget.close(child.peer)
    house.record(EpochRow(event.actor, event.epoch, event.pid, child.started, event.status))
    what = f"agent {child.spec.name} ({child.title}, pid {event.pid}) fell after {ran_s:.1f} s: {how}"
    if event.swept:
        what += f"; {event.swept} more process(es) of it were ended"
    if event.survivors:
        house.warn(f"{child.title}: {event.survivors} process(es) could not be ended")
    was_stopped = child.state is State.STOPPING
    replaced = plays and child.comes_back(event) and role.promote()
    house.carry_out(child.exited(event, house.now, 0.0 if plays and not replaced else casting.UNDERSTUDY_AFTER_S))
    if replaced:
        what += f"; its understudy {role.child.title} takes over"
    if child.surplus and child.state is State.STOPPED and not plays:
        role.gone(child)
    elif child.state is State.STOPPED and role.child.state is State.RUNNING and not house.stopping:
        child.prepare(casting.UNDERSTUDY_AFTER_S, house.now)
    if plays:
        shown = None if event.shown is None else set(event.shown)
        losses.actor_lost(house, role, what, shown, was_stopped)
    if replaced and role.child.state is State.RUNNING:
        casting.go_on(house, role)
    if not house.stopping:
        house.warn(f"{what}; now {child.state.value}" if plays else f"understudy: {what}")
    casting.after_fall(house, role)
