"""Agents that left the configuration while something of theirs is under way. Pure.

What their actors play goes on to its end; then those are ended in order, as those are at once that play nothing. What waits
waits on, and who waits for it is told why: it is played when the agent is back. Once nothing is under way any more the agent
is forgotten.
"""

from understudy.protocol.environments import parts_of
from understudy.protocol.news import AgentDeparted
from understudy.supervisor.core import places
from understudy.supervisor.core.agent import GONE, Agent
from understudy.supervisor.core.events import Spawned
from understudy.supervisor.core.house import House
from understudy.supervisor.core.launches import Launch
from understudy.supervisor.core.life import AT_REST, Reason, State, Why
from understudy.supervisor.core.restart import Restarts
from understudy.supervisor.core.specs import AgentSpec, Comeback, RestartPolicy


def expected(house: House, process: Spawned, name: str) -> None:
    """A process lives that plays the agent `name`, which is not in the configuration."""
    if name and name not in house.agents:
        _add(house, name, parts_of(process.actor)[0])


def agent_of(house: House, name: str) -> Agent:
    """Return the agent of a session with turns that have no ending; one that is not in the configuration is added."""
    if name not in house.agents:
        _add(house, name, name)
    return house.agents[name]


def _add(house: House, name: str, launch: str) -> None:
    spec = AgentSpec(name, restart=RestartPolicy(Comeback.TEMPORARY))
    restarts = Restarts(spec.restart, house.random)
    launched = house.launches.setdefault(launch, Launch(launch, spec, restarts))
    house.agents[name] = Agent(spec, launched, restarts, departed=True)
    house.departed[name] = None
    places.added(house, house.agents[name], 1).why = Why(Reason.STOPPED, GONE)


def start(house: House) -> None:
    """End the actors that play nothing now; the others end with their turns."""
    for name in house.departed:
        agent = house.agents[name]
        going = sum(len(house.turns_of(each)) for each in agent.actors)
        house.announce(AgentDeparted(name, going, agent.queued))
        for actor in agent.actors:
            if actor.lives and not house.turns_of(actor):
                places.stop(house, actor, Why(Reason.STOPPED, GONE))


def forget(house: House) -> None:
    """Forget the agents of which nothing is under way any more. Called when a step ends."""
    awaited = {name for wait in house.waits for name, _ in wait.epochs}
    for name in [name for name in house.departed if name not in awaited]:
        agent = house.agents[name]
        rests = all(each.state in AT_REST and each.state is not State.UNKNOWN for each in agent.actors)
        if rests and not (agent.running or agent.queued):
            del house.agents[name], house.departed[name]
            for actor in agent.actors:
                house.launches[actor.launch].forget(actor)
                house.touched.pop(actor, None)
                house.acks.pop(actor, None)
            for environment, launch in list(agent.own.items()):
                places.forget_launch(house, agent, launch.name, environment)
