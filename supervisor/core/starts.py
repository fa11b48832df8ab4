"""The one answer to "what hinders its start?", asked when a step ends, and the one to "does it return?". Pure.

Who waits is asked again only when something changed that it waits for. Whoever plays is asked before understudies.
"""

from dataclasses import dataclass

from understudy.supervisor.core import limits
from understudy.supervisor.core.agent import Agent
from understudy.supervisor.core.events import Exited
from understudy.supervisor.core.house import House
from understudy.supervisor.core.launches import Launch
from understudy.supervisor.core.life import Actor, Hindrance, Reason, State, Step, Why
from understudy.supervisor.core.restart import Restarts

ROOM = ""  # The key in `House.held` of those that wait for a place within the limits of the house.
VAIN_STARTS_MAX = 3  # What a session brought does not mend itself, and others wait for the place.
CANNOT_START = (126, 127)  # What an actor, or a shell, exits with when there is no such program, or none to be run.


def ask(house: House) -> None:
    """Start everybody who is to start and whom nothing hinders. Called when a step ends."""
    asked = [each for each in house.touched if each.starts or each.hindered is not None]
    for actor in list(house.touched):
        if actor.agent:
            asked += house.held.pop(actor.agent, ())
        asked += house.held.pop(_spares(actor.launch), ())
    asked += house.held.pop(ROOM, ())
    house.freed = False
    full = False
    for actor in sorted(dict.fromkeys(asked), key=lambda each: not each.agent):
        if full and actor.hindered is Hindrance.ROOM and actor.starts:
            house.held.setdefault(ROOM, {})[actor] = None  # One before it was refused: so is this one.
        elif actor.starts:
            _start(house, actor)
            full = full or (actor.hindered is Hindrance.ROOM and bool(actor.agent))


def _spares(launch: str) -> str:
    return f"~{launch}"


def _start(house: House, actor: Actor) -> None:
    found = hinders(house, actor)
    if found is None:
        launch = house.launches[actor.launch]
        house.carry_out([actor.start(launch.next_epoch(actor), house.now)])
        return
    by, keys, text = found
    actor.held(by, Why(Reason.WAITS, text), house.now)
    for key in keys:
        house.held.setdefault(key, {})[actor] = None


def hinders(house: House, actor: Actor) -> tuple[Hindrance, list[str], str] | None:
    """Return what `actor` waits for before it may start, the keys of `House.held` for that, and the text; None: nothing."""
    launch = house.launches[actor.launch]
    beside = list(launch.understudies)
    if actor.agent:
        agent = house.agents[actor.agent]
        missing = [house.agents[name].first for name in agent.spec.after if not _runs(house.agents[name])]
        if missing:
            names = ", ".join(f"{each.name} ({each.state.value})" for each in missing)
            return Hindrance.OTHERS, [each.agent for each in missing], f"starts when RUNNING: {names}"
        beside += [each for each in agent.actors if each.environment == actor.environment]
    # What its program knows of sessions must not live on beside another that is given them.
    ending = [each.title for each in beside if each.leaves and each.lives]
    if ending:
        keys = [_spares(actor.launch), *([actor.agent] if actor.agent else [])]
        return Hindrance.ENDING, keys, f"starts when ended: {', '.join(ending)}"
    if not actor.agent:
        waiting = [each for each in _players(house, launch) if _comes(each)]
        if waiting or not serves(house, launch):
            first = [house.agents[name].first for name in launch.agents]
            names = ", ".join(f"{each.name} ({each.state.value})" for each in (waiting or first)[:3])
            return Hindrance.PLAYERS, [_spares(actor.launch)], f"starts when RUNNING: {names}"
    if why := limits.no_room(house, actor):
        return Hindrance.ROOM, [ROOM], f"waits: {why}"
    return None


def serves(house: House, launch: Launch) -> bool:
    """Return whether understudies of the launch are of any use: beside those that play, or for lazy agents only."""
    standing = [house.agents[name] for name in launch.agents if not house.agents[name].stays_down]
    plays = any(
        each.state is State.RUNNING and each.launch == launch.name for agent in standing for each in agent.actors
    )
    return plays or (bool(standing) and all(each.is_lazy for each in standing))


def _runs(agent: Agent) -> bool:
    return any(each.state is State.RUNNING for each in agent.actors)


def _comes(player: Actor) -> bool:
    """Return whether the player is about to start: it goes first."""
    return player.state in (State.STARTING, State.BACKOFF) or player.starts


def _players(house: House, launch: Launch) -> list[Actor]:
    return [each for name in launch.agents for each in house.agents[name].actors if each.launch == launch.name]


@dataclass(frozen=True, slots=True)
class Return:
    """What becomes of an actor that is gone. `due`: when it is to start again, if it is."""

    step: Step
    why: Why
    due: float | None = None

    @property
    def comes_back(self) -> bool:
        """Whether another is to be started in its place, sooner or later."""
        return self.step in (Step.FELL, Step.GIVEN_UP)


def budget_of(house: House, actor: Actor) -> Restarts:
    """Return the budget of which the actor's restarts are taken."""
    return house.agents[actor.agent].budget(actor.place) if actor.agent else house.launches[actor.launch].restarts


def returns(house: House, actor: Actor, event: Exited | None, why: Why, wait_s_min: float = 0.0) -> Return:
    """Decide whether an actor that is gone comes back, when, and why not. `event` None: there never was a process.

    `wait_s_min`: nobody waits for the next, so long at least. It counts as a restart, if it is one: ask once.
    """
    apart = house.agents[actor.agent].apart if actor.agent else ""
    if event is not None and event.survivors:
        remedy = f"end them, then: understudy start {actor.agent or actor.launch}"
        text = f"{event.survivors} process(es) of it could not be ended: {remedy}"
        return Return(Step.SURVIVED, Why(Reason.LEFT, text))
    if apart:
        return Return(Step.GIVEN_UP, Why(Reason.APART, apart))
    if actor.state is State.STOPPING:
        return Return(Step.ENDED, actor.why)  # How it ended is told with its end.
    if not budget_of(house, actor).returns(None if event is None else event.status):
        return Return(Step.RETIRED, why)
    return again(house, actor, why, wait_s_min)


def again(house: House, actor: Actor, why: Why, wait_s_min: float = 0.0) -> Return:
    """Take a restart from the budget; return when it may be, or that there is none left."""
    wait_s = budget_of(house, actor).fell(house.now - actor.ran_from)
    actor.vain += actor.state is State.STARTING
    house.touch(actor if actor.agent else house.agents[actor.launch].first)  # With which the budget is written down.
    if actor.environment and actor.vain >= VAIN_STARTS_MAX:
        text = f"{why}; gave up after {actor.vain} starts in vain with what its session brought: open another one"
        return Return(Step.GIVEN_UP, Why(why.reason, text))
    if wait_s is None:
        policy = budget_of(house, actor).policy
        text = f"{why}; gave up after {policy.intensity} restarts within {policy.period_s:g} s of running"
        due = house.now + policy.fatal_retry_s if policy.fatal_retry_s else None
        return Return(Step.GIVEN_UP, Why(why.reason, text), due)
    wait_s = max(wait_s, wait_s_min)
    then = f"next start in {wait_s:.1f} s" if wait_s else ""
    return Return(Step.FELL, Why(why.reason, why.text, then=then), house.now + wait_s)
