"""Who is wanted, and which understudy takes over for whom. Pure.

Whom an actor plays is recorded in the same commit as what it is handed first, so that the next supervisor knows.
"""

from collections.abc import Iterator

from understudy.protocol.errors import AGENT_FAILED
from understudy.protocol.news import UnderstudyTookOver
from understudy.supervisor.core import calls, losses, places, starts, turns
from understudy.supervisor.core.agent import Agent
from understudy.supervisor.core.house import House
from understudy.supervisor.core.launches import Launch
from understudy.supervisor.core.life import AT_REST, Actor, State
from understudy.supervisor.core.sessions import Session

UNDERSTUDY_AFTER_S = 0.02  # First the queue, then the next understudy.


def start(agent: Agent, actor: Actor) -> None:
    """Somebody wants the actor: it starts, or an understudy takes over, when the step ends."""
    agent.apart = ""
    if actor.state is State.FATAL:
        agent.budget(actor.place).forgive()
        actor.vain = 0
        actor.changed(actor)  # With which the budget is written down.
    actor.want()


def needed(house: House, agent: Agent, session: Session) -> None:
    """Work came for the agent: start who is to do it, unless a person has stopped it or it could not be ended whole."""
    actor = places.actor_of(house, session)
    if actor is None or agent.stays_down:
        return
    if actor.state is State.UNKNOWN:
        losses.give_up(house, agent, actor)
    elif actor.state in (*AT_REST, State.STOPPING) and not actor.starts:
        start(agent, actor)


def take_over(house: House, agent: Agent, actor: Actor) -> bool:
    """Let an understudy play in the actor's place from now on, if one is to be had. Return whether one does."""
    heir = None if agent.apart or actor.leaves else house.launches[actor.launch].heir()
    if heir is None:
        return False
    agent.swap(actor, heir)
    places.hand_on(house, actor, heir)
    house.cast(heir)
    if actor.state is State.STOPPED and actor.starts:
        actor.starts, actor.hindered = False, None
        actor.prepare(UNDERSTUDY_AFTER_S, house.now)
    if heir.state is State.RUNNING:
        go_on(house, agent, heir)
    return True


def _step_in(house: House, agent: Agent, actor: Actor) -> bool:
    """As `take_over`, and told: the end of the actor was told before."""
    place, before = actor.place, actor.epoch
    stepped_in = take_over(house, agent, actor)
    if stepped_in:
        heir = next(each for each in agent.actors if each.place == place)
        house.announce(UnderstudyTookOver(agent.name, heir.name, heir.epoch, before))
    return stepped_in


def succeed(house: House) -> None:
    """Where somebody waits to play and an understudy lives, that one plays. Called when a step ends."""
    if house.stopping:
        return
    for name in {each.launch: None for each in house.touched}:
        launch = house.launches[name]
        if launch.heir() is None:
            continue
        for agent in (house.agents[each] for each in launch.agents):
            for actor in list(agent.actors):
                waits = actor.starts or actor.state is State.BACKOFF
                if waits and actor.launch == name and not agent.stays_down:
                    _step_in(house, agent, actor)


def let_in(house: House) -> None:
    """Where each actor plays few sessions, others may wait for one that has nothing to do now, or is gone.

    Called when a step ends.
    """
    if house.stopping:
        return
    for name in {each.agent: None for each in house.touched if each.agent}:
        agent = house.agents[name]
        if agent.spec.sessions_per_actor or agent.own or any(agent.waiting):  # Other environments than none.
            calls.send_waiting(house, agent)
            turns.admit_waiting(house, agent)


def prepare(house: House, launch: Launch) -> None:
    """See that the launch has its understudies in a while, if they are of any use."""
    if not house.stopping and starts.serves(house, launch):
        for each in launch.understudies:
            each.prepare(UNDERSTUDY_AFTER_S, house.now)


def dismiss(house: House, launch: Launch) -> None:
    """End the understudies of the launch when nobody is left for whom they might play."""
    if all(house.agents[name].stays_down for name in launch.agents):
        for each in launch.understudies:
            places.end(house, each)


def go_on(house: House, agent: Agent, actor: Actor) -> None:
    """The actor is there: give it what waits; then come understudies, and whoever starts after it."""
    house.touch(actor)
    if actor.leaves:
        places.rested(house, actor)  # It may have nothing to do any more.
    prepare(house, house.launches[actor.launch])
    calls.send_waiting(house, agent)
    turns.admit_waiting(house, agent)


def _has_work(house: House, agent: Agent, actor: Actor) -> bool:
    """Return whether something waits that the actor might do."""
    its = (house.sessions[name] for name in waiting(house, agent))
    return any(each.actor in (None, actor) for each in its if each.environment == actor.environment)


def waiting(house: House, agent: Agent) -> Iterator[str]:
    """Yield the sessions with turns and calls that wait for the agent."""
    yield from agent.all_waiting()
    yield from (house.calls[name].session for name in house.calls.unsent(agent.name))


def _next(house: House, agent: Agent) -> Session | None:
    """Return the session that is to have a place that is free now, None when none waits."""
    _, longest = places.waits_longest(house, agent)
    name = next(waiting(house, agent), None)
    return longest if longest is not None or name is None else house.sessions[name]


def after_fall(house: House, agent: Agent, actor: Actor) -> None:
    """An actor of the agent is gone: call it back when it is needed, give up on it when it will not come."""
    if house.stopping:
        return  # What waits comes back with the house.
    if agent.departed:
        for name in agent.all_waiting():
            turns.tell_wait(house, house.sessions[name], house.sessions[name].mailbox[0], agent)
        return
    if actor.state is State.BACKOFF and not actor.starts:
        for name in agent.waiting.get(actor.environment, {}):
            turns.tell_wait(house, house.sessions[name], house.sessions[name].mailbox[0], agent)
    if actor.hopeless:  # A prompt waits; who only asks is better told.
        calls.refuse_unsent(house, agent, AGENT_FAILED, actor.hopeless, actor.environment)
    if actor in agent.actors:
        _see_to(house, agent, actor)
    elif (session := _next(house, agent)) is not None:  # It waited for that end, and nobody was wanted meanwhile.
        needed(house, agent, session)
    calls.send_waiting(house, agent)
    turns.admit_waiting(house, agent)


def _see_to(house: House, agent: Agent, actor: Actor) -> None:
    """What waits for the actor has it come back, or ends when it will not."""
    has_place = actor is agent.first or agent.has_place(actor.environment)  # Else another has it by now.
    wanted = not agent.stays_down and has_place and _has_work(house, agent, actor)
    if actor.state is State.STOPPED and wanted:
        actor.want()
    elif actor.state is State.EXITED and wanted and not _step_in(house, agent, actor):
        verdict = starts.again(house, actor, actor.why)
        actor.gone(verdict.step, house.now, verdict.why, verdict.due)
    if actor.state in (State.FATAL, State.UNKNOWN) and actor in agent.actors:
        losses.give_up(house, agent, actor)
