"""How an agent's actors stand, recorded so that the next supervisor of the same house goes on from it. Pure.

What has ended stays ended, whoever supervises; a budget that is spent is not given anew. A house that is started
afresh, or an agent whose configuration has changed, begins anew.
"""

import hashlib

import msgspec

from understudy.supervisor.core.agent import Agent
from understudy.supervisor.core.events import RestRow, Spawned
from understudy.supervisor.core.house import House
from understudy.supervisor.core.life import Actor, Reason, State, Step, Why
from understudy.supervisor.core.specs import AgentSpec

LASTING = {State.EXITED: Step.RETIRED, State.FATAL: Step.GIVEN_UP, State.UNKNOWN: Step.SURVIVED}
STATES = {state.value: state for state in State}
WHY_CHARACTERS_MAX = 1_000
GRANTED_MAX = 1_000  # Restarts that are remembered; who has more of them in a period never gives up in earnest.


def digest(spec: AgentSpec) -> str:
    """Return what names the agent's configuration."""
    return hashlib.sha256(msgspec.msgpack.encode(spec)).hexdigest()[:16]


def record(house: House) -> None:
    """Write down each actor that was touched and stands otherwise than it was written. Called when a step ends."""
    if house.stopping:
        return  # This life of the house is over.
    for actor in house.touched:
        if actor.agent and actor.agent not in house.departed:
            agent = house.agents[actor.agent]
            stands = row(house, agent, actor)
            if stands != agent.rests.get(actor.name):
                agent.rests[actor.name] = stands
                house.record(stands)


def row(house: House, agent: Agent, actor: Actor) -> RestRow:
    """Return how it stands; what passes by itself (that it starts, waits or ends) is left out."""
    restarts, runs = agent.budget(actor.place), actor.state is State.RUNNING
    says = runs or actor.state in LASTING or (agent.by_person and actor.state is State.STOPPED)
    return RestRow(
        actor.name,
        house.life,
        actor.state.value if says else "",
        actor.why.text[:WHY_CHARACTERS_MAX] if says and not runs else "",
        actor.since if says else 0.0,
        restarts.total,
        restarts.granted[-GRANTED_MAX:],
        restarts.in_a_row,
        restarts.ran_s,
        actor.epoch if says else 0,
        bool(agent.apart),
        agent.digest,
        actor.launch if actor.environment else "",
    )


def stood(row: RestRow) -> State | None:
    """Return the state that a row names, None when that passed by itself."""
    return STATES.get(row.state)


def take_budget(agent: Agent, row: RestRow) -> None:
    """Go on with the budget that the last supervisor had written down."""
    place = row.agent.rpartition("/")[2] if row.agent != agent.name else "1"
    restarts = agent.budget(int(place))
    restarts.total = row.restarts
    if row.digest == agent.digest:
        restarts.granted, restarts.in_a_row, restarts.ran_s = list(row.granted), row.in_a_row, row.ran_s


def resting(agent: Agent, first: int | None, spares: bool) -> bool:
    """Return whether the agent is to stay at rest.

    `first`: the epoch of who lives in its first place, None when nobody does; `spares`: whether understudies live.
    """
    row = agent.rests.get(agent.name)
    if row is None or row.digest != agent.digest or (first is not None and first >= row.epoch):
        return False
    if stood(row) is State.FATAL:
        return not spares  # An understudy takes over.
    return stood(row) in (State.EXITED, State.UNKNOWN)


def running_since(agent: Agent | None, name: str, process: Spawned) -> float | None:
    """Return since when that incarnation was RUNNING, None when that was not written down."""
    row = None if agent is None else agent.rests.get(name)
    running = row is not None and stood(row) is State.RUNNING and row.epoch == process.epoch
    return row.since if running and row is not None else None


def forget(house: House, agent: Agent, actor: Actor) -> None:
    """There is no such place any more: the next supervisor is not to know of it."""
    row = agent.rests.pop(actor.name, None)
    if row is not None and row.state:
        house.record(RestRow(actor.name, house.life, "", digest=agent.digest))


def left_over(agent: Agent, living: list[Spawned]) -> list[tuple[int, RestRow]]:
    """Return the places, beside the first, where something could not be ended, and how they stood."""
    found = [(int(name.rpartition("/")[2]), row) for name, row in agent.rests.items() if name != agent.name]
    there = {each.epoch for each in living}
    lasting = [each for each in found if stood(each[1]) is State.UNKNOWN and each[1].digest == agent.digest]
    return [each for each in lasting if each[1].epoch not in there]


def rest(house: House, agent: Agent, actor: Actor, row: RestRow) -> None:
    """Let the actor be at rest as it was."""
    agent.apart = row.why if row.apart else agent.apart
    house.launches[actor.launch].know(actor, row.epoch)
    actor.epoch = row.epoch
    state = stood(row)
    assert state is not None, f"{row.agent} was at rest, and nothing says how"
    retry_s = agent.spec.restart.fatal_retry_s if state is State.FATAL and not row.apart else 0.0
    reason = Reason.APART if row.apart else Reason.ENDED
    actor.rest(LASTING[state], Why(reason, row.why), row.since, row.since + retry_s if retry_s else None)


def stopped(agent: Agent) -> None:
    """A person had stopped it: since then."""
    row, actor = agent.rests.get(agent.name), agent.first
    if row is not None and stood(row) is actor.state is State.STOPPED:
        actor.since = row.since
