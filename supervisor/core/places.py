"""Which actor plays which session, and which places an agent has for actors. Pure; nobody is started here.

One actor plays all sessions of an agent, unless its program holds few of them (`sessions_per_actor`): then each actor has
its own, and there are as many actors as sessions want and `actors_max` allows. When all are taken, a session that waits has
the place of an actor that is idle; once it has waited for long also of one that would have a next turn. That costs the
program's start, and the sessions' loading: so not at each turn.
"""

import math
from collections.abc import Collection, Sequence

from understudy.protocol.environments import launch_name
from understudy.protocol.frames import Stop
from understudy.supervisor.core import rests
from understudy.supervisor.core.agent import GIVEN_UP, GONE, Agent
from understudy.supervisor.core.events import HoldRow
from understudy.supervisor.core.house import House
from understudy.supervisor.core.launches import Launch
from understudy.supervisor.core.life import LEAVES, Actor, Reason, State, Why
from understudy.supervisor.core.sessions import Session

COMING = (State.STARTING, State.RUNNING, State.BACKOFF)
RESTING = (State.STOPPED, State.EXITED)


def actor_of(house: House, session: Session) -> Actor | None:
    """Return who plays the session, now or next; None while all who might are taken."""
    if session.actor is not None:
        return session.actor
    agent = house.agents[session.agent]
    if not agent.holds_by_name(session.environment):
        return agent.first
    return _with_room(agent, session.environment) or _another(house, agent, session.environment)


def ready(house: House, session: Session) -> Actor | None:
    """Return who plays the session, if that one is there; else have one come for its sake, if there may be one."""
    actor = actor_of(house, session)
    if actor is None or actor.leaves:
        return None
    if actor.state is State.RUNNING:
        return actor
    agent = house.agents[session.agent]
    if agent.holds_by_name(session.environment) and actor.state in RESTING and not agent.stays_down:
        actor.want()
        bind(house, session, actor)
    return None


def yields(house: House, session: Session, actor: Actor) -> bool:
    """Return whether the actor takes no next turn of a session that it holds: another session has its place, or its turn.

    Of several actors the one with the fewest turns yields, so that it is idle soonest; and none while one is ending.
    """
    agent = house.agents[session.agent]
    if not agent.holds_by_name(session.environment):
        return False
    if session.id not in _bound_to(agent, actor) or not _owing(house, agent, [actor]):
        return False
    _, longest = waits_longest(house, agent)
    environment = longest.environment if longest is not None else ""
    if any(each.state is State.STOPPING for each in agent.actors):
        return False  # Of that one it has the place.
    room = _with_room(agent, environment)
    if room is not None or agent.has_place(environment):  # It waits for an actor that comes, or for its turn only.
        return (room is None or room.state is State.RUNNING) and agent.running >= agent.spec.turns_max - 1
    running = [each for each in agent.places_for(environment) if each.state is State.RUNNING]
    return actor is min(running, key=lambda each: (len(each.playing), each.place), default=None)


def _owing(house: House, agent: Agent, among: Sequence[Actor]) -> list[Actor]:
    """Return who holds only sessions that play, or wait less long than one that waits for a place, too long by now."""
    since, _ = waits_longest(house, agent)
    if house.now - since < house.yields_after_s:
        return []
    sessions = house.sessions
    return [
        each
        for each in among
        if all(sessions[name].current for name in _bound_to(agent, each) if agent.waits_since(sessions[name]) <= since)
    ]


def _bound_to(agent: Agent, actor: Actor) -> Collection[str]:
    """Return the sessions whose turns nobody but the actor may play now."""
    return actor.holds if agent.spec.sessions_per_actor else agent.waiting.get(actor.environment, {})


def waits_longest(house: House, agent: Agent) -> tuple[float, Session | None]:
    """Return which session with a turn or a call has waited for a place the longest, and since when.

    Infinite, and None, when none does: each has an actor, or will be played by the one that plays all.
    """
    since, longest = math.inf, None
    for environment, names in agent.waiting.items():
        name = next((each for each in names if house.sessions[each].actor is None), None)
        if name is not None and _lacks_place(agent, environment) and names[name] < since:
            since, longest = names[name], house.sessions[name]
    for call in (house.calls[name] for name in house.calls.unsent(agent.name)):
        session = house.sessions[call.session]
        if session.actor is None and _lacks_place(agent, session.environment):
            return (call.since, session) if call.since < since else (since, longest)
    return since, longest


def _lacks_place(agent: Agent, environment: str) -> bool:
    """Return whether a session there that no actor holds may have to wait for a place."""
    return agent.spec.sessions_per_actor > 0 or (environment != "" and _with_room(agent, environment) is None)


def bind(house: House, session: Session, actor: Actor) -> None:
    """The actor is given something of the session: from here on nobody else is, until it is done or gone."""
    session.actor = actor
    if house.agents[session.agent].holds_by_name(session.environment):
        actor.holds.setdefault(session.id, 0)


def give(house: House, session: Session, actor: Actor) -> None:
    """As `bind`, and recorded in the same commit as what the actor is given: the next supervisor gives it nobody else."""
    bind(house, session, actor)
    if session.id in actor.holds and actor.holds[session.id] != actor.epoch:
        actor.holds[session.id] = actor.epoch
        house.record(HoldRow(session.id, actor.launch, actor.epoch))


def unbind(house: House, session: Session) -> None:
    """No turn of the session runs any more. Where a program holds few sessions, it goes on to hold this one."""
    actor = session.actor
    if actor is not None:
        actor.playing.pop(session.id, None)
        rested(house, actor)
        if session.id not in actor.holds:
            session.actor = None


def rested(house: House, actor: Actor) -> None:
    """Something that the actor had to do is done: from now on it may be idle."""
    actor.idle_from = house.now
    agent = house.agents[actor.agent] if actor.agent else None
    if actor.leaves and actor.state is State.RUNNING and not actor.playing:
        end(house, actor, Why(Reason.STOPPED, GONE if agent is not None and agent.departed else LEAVES))
    elif agent is not None and (agent.spec.idle_stop_s or agent.holds_by_name(actor.environment)):
        house.touch(actor)  # It may end, or others may have its place.


def nothing_waits(house: House, agent: Agent, session: Session) -> None:
    """What waited of the session was taken back: who was to do it may have nothing to do now."""
    for actor in agent.actors:
        if actor.environment == session.environment:
            house.touch(actor)


def free(house: House, actor: Actor) -> None:
    """The incarnation is gone: whoever is there may play the sessions that it held."""
    for name in actor.holds:
        session = house.sessions[name]
        if session.actor is actor and session.current is None:
            session.actor = None
    actor.holds.clear()


def hand_on(house: House, actor: Actor, heir: Actor) -> None:
    """What was to be played by an actor that is not there goes to its heir."""
    for name in actor.holds:
        house.sessions[name].actor = heir
    heir.holds.update(actor.holds)
    actor.holds.clear()


def launch_for(house: House, agent: Agent, environment: str) -> Launch:
    """Return how the agent is launched for sessions with that environment."""
    if not environment:
        return agent.launch
    launch = agent.own.get(environment)
    if launch is None:
        name = launch_name(agent.launch.name, environment)
        launch = house.launches.get(name)
        if launch is None:
            spec = agent.launch.spec
            launch = house.launches[name] = Launch(name, spec, agent.restarts, house.epochs.get(name, 0))
        launch.agents[agent.name] = None
        agent.own[environment] = launch
    return launch


def added(house: House, agent: Agent, place: int, launch: Launch | None = None) -> Actor:
    """Return one more actor of the agent, in `place`; of another `launch` when it was launched before that changed."""
    launch = launch or agent.launch
    actor = Actor(launch.name, launch.spec, house.touch, agent.name, place, since=house.now)
    agent.put(actor)
    house.touch(actor)
    return actor


def unwant(house: House, actor: Actor) -> None:
    """Nobody is to come there: neither for the sessions that it was to play, nor when there is room."""
    free(house, actor)
    actor.starts, actor.hindered = False, None
    house.touch(actor)
    house.touched.pop(actor)


def gone(house: House, agent: Agent, actor: Actor) -> None:
    """Nothing of the actor lives, and there is no place for it."""
    unwant(house, actor)
    rests.forget(house, agent, actor)
    agent.actors.remove(actor)
    agent.beside.pop(actor.place, None)
    house.launches[actor.launch].forget(actor)
    house.acks.pop(actor, None)
    house.touch(agent.first)  # Others may have waited for its end.
    if actor.environment and not any(each.launch == actor.launch for each in agent.actors):
        forget_launch(house, agent, actor.launch, actor.environment)


def forget_launch(house: House, agent: Agent, name: str, environment: str) -> None:
    """Nobody plays the agent there any more: a session may want that again one day, or never."""
    launch = house.launches[name]
    if agent.own.get(environment) is launch:
        del agent.own[environment]
    launch.agents.pop(agent.name, None)
    if not launch.agents:
        house.epochs[name] = launch.epoch
        del house.launches[name]


def end(house: House, actor: Actor, why: Why | None = None) -> None:
    """Let an actor end in order; one that had given up has its budget anew when it is wanted again."""
    if actor.state in (State.FATAL, State.EXITED):
        owner = house.agents[actor.agent or actor.launch]
        owner.budget(actor.place).forgive()
        house.touch(actor if actor.agent else owner.first)
    if actor.state is State.RUNNING:
        house.tell_actor(actor, Stop(actor.spec.stop_grace_s), house.after_if_written)
    stop(house, actor, why)


def end_all(house: House, agent: Agent, why: Why) -> None:
    """A person ends the agent: of its places the first stays, and others come when sessions want them."""
    for actor in list(agent.actors):
        end(house, actor, why)
        if actor is not agent.first and actor.state is not State.UNKNOWN:
            actor.leaves = True
            if not actor.lives:
                gone(house, agent, actor)


def stop(house: House, actor: Actor, why: Why | None) -> None:
    """Nobody wants the actor any more, and it was told."""
    house.carry_out(actor.stop(house.now, why))
    if not actor.lives and actor.state is not State.UNKNOWN:
        free(house, actor)  # What it was to be given before it had a process is for whoever comes.


def is_idle(house: House, actor: Actor) -> bool:
    """Return whether nothing is asked of the actor now."""
    return actor.state is State.RUNNING and not actor.playing and not house.calls.with_actor(actor)


def _with_room(agent: Agent, environment: str) -> Actor | None:
    """Return an actor there whose program can hold one more session, one that is ready before others."""
    most = agent.spec.sessions_per_actor or math.inf
    found = [
        each
        for each in agent.actors
        if len(each.holds) < most and not each.leaves and (each.state in COMING or each.starts)
        if each.environment == environment
    ]
    return min(found, key=lambda each: each.state is not State.RUNNING, default=None)


def _another(house: House, agent: Agent, environment: str) -> Actor | None:
    """Return one more actor for the agent there, or have one make room; None while there is none to be had."""
    its = [each for each in agent.actors if each.environment == environment]
    if agent.stays_down or (its and all(each.state in GIVEN_UP for each in its)):
        return its[0] if its else None
    if agent.has_place(environment):
        idle = next((each for each in its if each.state in RESTING and not (each.starts or each.leaves)), None)
        if idle is not None:
            return idle
        return added(house, agent, agent.free_place(), launch_for(house, agent, environment))
    beside = [each for each in agent.actors[1:] if each not in its]
    unused = next((each for each in beside if not (each.lives or has_work(house, each))), None)
    if unused is not None:  # It waits for its start in vain, or has given up.
        gone(house, agent, unused)
        return _another(house, agent, environment)
    among = agent.places_for(environment)
    make_room(house, among, _owing(house, agent, among))
    return None


def make_room(house: House, among: Sequence[Actor], owing: Sequence[Actor] = ()) -> None:
    """Another actor is wanted: let the one go that was idle longest, unless one is on its way out already.

    `owing`: of those, who would have something to do, but for the other's sake.
    """
    idle = [each for each in among if is_idle(house, each) and (each in owing or not has_work(house, each))]
    if idle and not any(each.state is State.STOPPING for each in among):
        actor = min(idle, key=lambda each: (has_work(house, each), each.idle_from))
        actor.leaves = actor.place > 1
        end(house, actor, Why(Reason.IDLE, "its place was needed; a prompt starts it again"))


def has_work(house: House, actor: Actor) -> bool:
    """Return whether something waits that is for this actor."""
    agent, environment = house.agents[actor.agent], actor.environment
    called = {house.calls[name].session for name in house.calls.unsent(agent.name)}
    called = {name for name in called if house.sessions[name].environment == environment}
    waiting = agent.waiting.get(environment, {})
    if not agent.spec.sessions_per_actor:
        return bool(waiting or called)
    return any(name in waiting or name in called for name in actor.holds)
