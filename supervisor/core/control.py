"""`start`, `stop`, `restart` and `signal`: what a person asks of actors, answered when it is done. Pure."""

import signal

from understudy.protocol.doors import packed_answer
from understudy.protocol.errors import AGENT_FAILED, BAD_FRAME, NOT_RUNNING, SHUTTING_DOWN, UNKNOWN_AGENT
from understudy.protocol.frames import ActorCall, Result, pack
from understudy.protocol.verbs import Outcome
from understudy.supervisor.core import bounds, calls, casting, places, turns
from understudy.supervisor.core.agent import GIVEN_UP, GONE, Agent
from understudy.supervisor.core.events import StopRow
from understudy.supervisor.core.house import Client, House, Wait
from understudy.supervisor.core.life import AT_REST, Actor, Hindrance, Reason, State, Why
from understudy.supervisor.core.open_calls import OpenCall

WAITS_MAX = 1_000
WAITS_PER_CLIENT_MAX = 100


def control(house: House, client: Client, request: str, verb: str, names: list[str]) -> None:
    """Start, stop or restart the agents `names`; the answer comes when each has reached its state.

    "all" are all of them; of these the lazy ones are started by prompts, as ever.
    """
    everybody, starts = names == ["all"], verb != "stop"
    cast = sorted(name for name in house.agents if not (starts and name in house.departed))
    names = cast if everybody else list(dict.fromkeys(names))
    if not _may(house, client, request, names, starts):
        return
    agents = [house.agents[name] for name in names]
    house.waits.append(Wait(client.peer, request, verb, [(agent.name, agent.first.epoch) for agent in agents]))
    for agent in agents:
        if verb != "start":
            places.end_all(house, agent, Why(Reason.STOPPED, f"{'restarted' if starts else 'stopped'} by a person"))
        if agent.by_person == starts and not agent.departed:
            agent.by_person = not starts
            house.record(StopRow(agent.name, house.life, agent.by_person))
        for actor in agent.actors:
            house.touch(actor)
        if verb == "restart":  # What stands by was started before, as the one that is ended was.
            for each in agent.launch.understudies:
                places.end(house, each)
    for agent in agents:
        if verb == "stop":
            calls.refuse_unsent(house, agent, AGENT_FAILED, f"{agent.name} was stopped by a person")
            casting.dismiss(house, agent.launch)
        else:
            for actor in [each for each in agent.actors[1:] if each.state in GIVEN_UP]:
                places.gone(house, agent, actor)  # The person has seen to what was left of it, or was wrong with it.
            if not (everybody and agent.is_lazy):
                casting.start(agent, agent.first)  # Its understudies follow when it is ready.
            elif (name := next(casting.waiting(house, agent), None)) is not None:
                casting.needed(house, agent, house.sessions[name])
            turns.admit_waiting(house, agent)


def send_signal(house: House, client: Client, request: str, names: list[str], number: int) -> None:
    """Have every actor of the one agent in `names` send its program a signal; answered when each has answered."""
    names = sorted(house.agents) if names == ["all"] else list(dict.fromkeys(names))
    if not _may(house, client, request, names):
        return
    if len(names) > 1:
        text = f"a signal goes to one agent at a time, not to {len(names)}: ask for each"
        house.fault(client.peer, BAD_FRAME, text, request)
        return
    _signal(house, client, request, house.agents[names[0]], number)


def _may(house: House, client: Client, request: str, names: list[str], starts: bool = False) -> bool:
    """Refuse what cannot be asked of these actors now; return whether it can. `starts`: it is that they start."""
    unknown = [name for name in names if name not in house.agents]
    if unknown or not names:
        agents = [agent for agent in map(_agent_of, unknown) if agent in house.agents]
        text = f"there is no agent {', '.join(map(repr, unknown))}; the cast is: {', '.join(sorted(house.agents))}"
        if agents:
            text = f"{', '.join(unknown)}: one actor cannot be asked for by itself; name its agent: {', '.join(agents)}"
        house.fault(client.peer, UNKNOWN_AGENT, text, request)
        return False
    if gone := [name for name in names if starts and name in house.departed]:
        text = f"{', '.join(gone)}: {GONE}; put it back, then: understudy reload"
        house.fault(client.peer, UNKNOWN_AGENT, text, request)
        return False
    if house.stopping:
        house.fault(client.peer, SHUTTING_DOWN, "the house is shutting down", request)
        return False
    if full := _full(house, client):
        bounds.refuse(house, client.peer, request, "verbs", full)
        return False
    return True


def _agent_of(actor: str) -> str:
    """Return the agent of an actor, or of an understudy, that `status` shows by this name."""
    return actor.partition("/")[0].partition("~")[0]


def _full(house: House, client: Client) -> str:
    """Say that too many verbs wait for their agents, "" when not."""
    mine = sum(wait.peer == client.peer for wait in house.waits)
    if mine >= WAITS_PER_CLIENT_MAX:
        return f"{mine} of {WAITS_PER_CLIENT_MAX} verbs of this client wait for their agents"
    if len(house.waits) >= WAITS_MAX:
        return f"{len(house.waits)} of {WAITS_MAX} verbs wait for their agents"
    return bounds.calls_full(house, client.peer, 0)


def _signal(house: House, client: Client, request: str, agent: Agent, number: int) -> None:
    if not 1 <= number < signal.NSIG:
        house.fault(client.peer, BAD_FRAME, f"there is no signal {number}", request)
        return
    running = [each for each in agent.actors if each.state is State.RUNNING]
    if not running:
        text = f"{agent.name} is {agent.first.state.value}; start it with: understudy start {agent.name}"
        house.fault(client.peer, NOT_RUNNING, text, request)
    for actor in running:
        house.calls_made += 1
        name = f"c{house.calls_made}"
        house.calls[name] = OpenCall(client.peer, request, "", agent.name, "signal", b"", sent=True, actor=actor)
        house.tell_actor(actor, ActorCall(name, "", "signal", "", pack(number)))


def answer(house: House) -> None:
    """Answer the verbs whose actors have all reached their state. Called when a step ends."""
    for wait in list(house.waits):
        outcomes = _outcomes(house, wait)
        if outcomes is not None:
            house.waits.remove(wait)
            told = [Outcome(name, house.agents[name].first.state.value, error) for name, error in outcomes.items()]
            house.tell(wait.peer, Result(wait.request, packed_answer(told)), house.after)


def _outcomes(house: House, wait: Wait) -> dict[str, str | None] | None:
    """Return what came of each actor, None while one of them is under way, unless the house ends.

    It goes on at the one that was under way when it looked last: verbs that wait are many, and so may be their actors.
    """
    found: dict[str, str | None] = {}
    for _ in wait.epochs:
        name, epoch = wait.epochs[wait.at]
        found[name] = _outcome(house, house.agents[name], wait.verb, epoch)
        if found[name] is None and not house.stopping:
            return None
        wait.at = (wait.at + 1) % len(wait.epochs)
    return {name: found[name] for name, _ in wait.epochs}


def _outcome(house: House, agent: Agent, verb: str, epoch: int) -> str | None:
    """Return "" when the actor is there, what is wrong when it will not be, None while it is under way."""
    actor = agent.first
    if verb == "stop":  # Somebody may have started it again meanwhile.
        over = all(each.state in AT_REST for each in agent.actors) or not (agent.by_person or agent.departed)
        return "" if over else None
    if actor.state is State.RUNNING and (verb == "start" or actor.epoch != epoch):
        return ""
    if actor.state is State.EXITED and not actor.starts:
        return ""
    if actor.state is State.STOPPED and not actor.starts and agent.is_lazy:
        return ""
    if actor.hindered is Hindrance.ROOM:
        leaving = house.tally.living > house.tally.staying
        return None if leaving else f"{actor.state.value}: {actor.why}"
    return _hopeless(house, actor, set())


def _hopeless(house: House, actor: Actor, seen: set[Actor]) -> str | None:
    """Say why the actor, or one that it starts after, will certainly not be RUNNING unless somebody does something.

    `seen`: those of whom nothing was to be said, however many start after them.
    """
    if actor in seen:
        return None
    seen.add(actor)
    if actor.state in AT_REST and not actor.starts:
        return f"{actor.state.value}: {actor.why}"
    if actor.hopeless:
        return f"{actor.state.value}: {actor.hopeless}"
    after = house.agents[actor.agent].spec.after if actor.hindered is Hindrance.OTHERS else ()
    for other in (house.agents[name].first for name in after):
        why = _hopeless(house, other, seen) if other.state is not State.RUNNING else None
        if why is not None:
            return f"{actor.state.value}: it starts after {other.name}, which is {why}"
    return None
