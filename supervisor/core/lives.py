"""What the keeper reports of actors' processes, and what it means for who plays and for their turns. Pure."""

from typing import assert_never

from msgspec.structs import replace

from understudy.protocol.news import ActorEnded, ProcessesLeft
from understudy.supervisor.core import casting, hangs, limits, losses, places, starts
from understudy.supervisor.core.events import EpochRow, Exited, Sampled, Spawned, SpawnFailed, Suspended
from understudy.supervisor.core.house import House
from understudy.supervisor.core.launches import Launch
from understudy.supervisor.core.life import Actor, Reason, State, Step, Why


def reported(house: House, launch: Launch, event: Spawned | SpawnFailed | Exited | Suspended | Sampled) -> None:
    """Act on one report about an actor of `launch`."""
    actor = launch.known.get(event.epoch)
    if actor is not None and actor.epoch != event.epoch:
        actor = None
    match event:
        case Spawned():
            if actor is not None:
                actor.spawned(event, house.now)
            house.record(EpochRow(event.actor, event.epoch, event.pid, event.started))
        case SpawnFailed(reason=reason):
            if actor is not None and actor.lives:
                _gone(house, actor, None, Why(Reason.NO_PROCESS, f"could not be forked: {reason}"))
        case Exited():
            if actor is not None and actor.lives:  # Else it was told before: the keeper did not hear that.
                _exited(house, actor, event)
            house.forget_marks(event.actor, event.epoch)
        case Suspended():
            if actor is not None:
                hangs.suspended(house, actor)
        case Sampled():
            if actor is not None:
                house.carry_out(limits.sampled(house, actor, event))
        case _:
            assert_never(event)


def _exited(house: House, actor: Actor, event: Exited) -> None:
    if event.oom_kills:
        limit = f"memory: limit {actor.spec.memory_mb} MB"
        text = f"{limit}, and the kernel ended {event.oom_kills} process(es) that wanted more"
        actor.last_words = Why(Reason.LIMIT, text)
    if actor.peer is not None:
        house.peers.pop(actor.peer, None)
        house.budget.close(actor.peer)
    house.record(EpochRow(event.actor, event.epoch, event.pid, actor.started, event.status))
    if event.survivors:
        house.announce(ProcessesLeft(actor.agent, actor.name, actor.epoch, event.survivors))
    _gone(house, actor, event, actor.why_exit(event.status))


def _gone(house: House, actor: Actor, event: Exited | None, why: Why) -> None:
    """No process of the actor's is there: decide once what that means, for it, for who plays, and for its turns."""
    launch = house.launches[actor.launch]
    agent = house.agents[actor.agent] if actor.agent else None
    heir = None if agent is None or agent.apart or actor.leaves else launch.heir()
    nobody_waits = agent is None or heir is not None
    verdict = starts.returns(house, actor, event, why, casting.UNDERSTUDY_AFTER_S if nobody_waits else 0.0)
    replaced = heir is not None and verdict.comes_back
    heir_title = heir.title if replaced and heir is not None else ""
    ended = _ended(house, actor, event, why, fell=not _in_order(verdict.step, event), heir=heir_title)
    was_stopped, was_starting = actor.state is State.STOPPING, actor.state is State.STARTING
    had = house.turns_of(actor)
    if verdict.step is not Step.SURVIVED:  # Else it may still write to what those sessions work on.
        places.free(house, actor)
    actor.gone(verdict.step, house.now, verdict.why, verdict.due)
    actor.cannot_start = was_starting and event is not None and event.status in starts.CANNOT_START
    house.freed = True
    stays = agent is not None and actor is agent.first
    forgotten = actor.leaves and verdict.step is not Step.SURVIVED and not stays
    if agent is None:
        if forgotten:
            launch.forget(actor)
        casting.prepare(house, launch)
    elif event is not None:
        shown = None if event.shown is None else set(event.shown)
        losses.actor_lost(house, actor, had, str(ended), shown, was_stopped)
    if event is not None and not house.stopping:
        house.announce(replace(ended, state=actor.state.value))
    if agent is not None:
        if forgotten:
            places.gone(house, agent, actor)
        if replaced:
            casting.take_over(house, agent, actor)
        casting.after_fall(house, agent, actor)


def _in_order(step: Step, event: Exited | None) -> bool:
    """Return whether the end was asked for, or is how such a program ends."""
    return step is Step.ENDED or (step is Step.RETIRED and event is not None and event.status == 0)


def _ended(house: House, actor: Actor, event: Exited | None, why: Why, fell: bool, heir: str) -> ActorEnded:
    """Tell of an end. `heir`: the understudy that takes over."""
    pid, status, swept = (0, None, 0) if event is None else (event.pid, event.status, event.swept)
    asked = actor.why.text if actor.state is State.STOPPING and actor.why.text != why.text else ""
    return ActorEnded(
        agent=actor.agent,
        actor=actor.name,
        epoch=actor.epoch,
        pid=pid,
        fell=fell,
        ran_s=house.now - actor.ran_from,
        reason=why.reason.value,
        why=why.text,
        asked=asked,
        status=status,
        swept=swept,
        heir=heir,
    )
