"""`start`, `stop`, `restart` and `signal`: what a person asks of actors, answered when it is done. Pure."""

import signal

from understudy.protocol.errors import BAD_FRAME, NOT_RUNNING, SHUTTING_DOWN, UNKNOWN_AGENT
from understudy.protocol.frames import ActorCall, Result, Stop, pack
from understudy.protocol.verbs import Outcome, packed
from understudy.supervisor.core import bounds, casting
from understudy.supervisor.core.child import AT_REST, Child, State
from understudy.supervisor.core.events import StopRow
from understudy.supervisor.core.house import Client, House, Wait
from understudy.supervisor.core.open_calls import OpenCall

WAITS_MAX = 1_000
WAITS_PER_CLIENT_MAX = 100


def control(house: House, client: Client, request: str, verb: str, names: list[str]) -> None:
    """Start, stop or restart the actors `names` ("all": every one); the answer comes when each has reached its state."""
    names = sorted(house.roles) if names == ["all"] else list(dict.fromkeys(names))
    if not _may(house, client, request, names):
        return
    house.waits.append(Wait(client.peer, request, verb, {name: house.roles[name].child.epoch for name in names}))
    for name in names:
        role = house.roles[name]
        for child in role.actors if verb != "start" else []:
            if child.state is State.RUNNING:
                house.tell_actor(child, Stop(child.spec.stop_grace_s), house.after_if_written)
            house.carry_out(child.stop(house.now))
        if role.child.by_person != (verb == "stop"):
            house.record(StopRow(name, house.life, verb == "stop"))
        for child in role.actors:
            child.by_person = verb == "stop"
        house.touch(name)
        if verb != "stop":
            casting.start(house, role)  # Its understudies follow when it is ready.


def send_signal(house: House, client: Client, request: str, names: list[str], number: int) -> None:
    """Have the one actor of `names` send its program a signal; the answer is the actor's."""
    names = sorted(house.roles) if names == ["all"] else list(dict.fromkeys(names))
    if not _may(house, client, request, names):
        return
    if len(names) > 1:
        text = f"a signal goes to one agent at a time, not to {len(names)}: ask for each"
        house.fault(client.peer, BAD_FRAME, text, request)
        return
    _signal(house, client, request, house.roles[names[0]].child, number)


def _may(house: House, client: Client, request: str, names: list[str]) -> bool:
    """Refuse what cannot be asked of these actors now; return whether it can."""
    unknown = [name for name in names if name not in house.roles]
    if unknown or not names:
        text = f"there is no agent {', '.join(map(repr, unknown))}; the cast is: {', '.join(sorted(house.roles))}"
        house.fault(client.peer, UNKNOWN_AGENT, text, request)
        return False
    if house.stopping:
        house.fault(client.peer, SHUTTING_DOWN, "the house is shutting down", request)
        return False
    if full := _full(house, client):
        bounds.refuse(house, client.peer, request, "verbs", full)
        return False
    return True


def _full(house: House, client: Client) -> str:
    """Say that too many verbs wait for their agents, "" when not."""
    mine = sum(wait.peer == client.peer for wait in house.waits)
    if mine >= WAITS_PER_CLIENT_MAX:
        return f"{mine} of {WAITS_PER_CLIENT_MAX} verbs of this client wait for their agents"
    if len(house.waits) >= WAITS_MAX:
        return f"{len(house.waits)} of {WAITS_MAX} verbs wait for their agents"
    return bounds.calls_full(house, client.peer, 0)


def _signal(house: House, client: Client, request: str, child: Child, number: int) -> None:
    if not 1 <= number < signal.NSIG:
        house.fault(client.peer, BAD_FRAME, f"there is no signal {number}", request)
        return
    if child.state is not State.RUNNING:
        text = f"{child.name} is {child.state.value}; start it with: understudy start {child.name}"
        house.fault(client.peer, NOT_RUNNING, text, request)
        return
    house.calls_made += 1
    name = f"c{house.calls_made}"
    house.calls[name] = OpenCall(client.peer, request, "", child.spec.name, "signal", b"", sent=True)
    house.tell_actor(child, ActorCall(name, "", "signal", "", pack(number)))


def answer(house: House) -> None:
    """Answer the verbs whose actors have all reached their state. Called when a step ends."""
    for wait in list(house.waits):
        outcomes = _outcomes(house, wait)
        if outcomes is not None:
            house.waits.remove(wait)
            told = [Outcome(name, house.roles[name].child.state.value, error) for name, error in outcomes.items()]
            house.tell(wait.peer, Result(wait.request, packed(told)), house.after)


def _outcomes(house: House, wait: Wait) -> dict[str, str | None] | None:
    """Return what came of each actor, None while one of them is under way, unless the house ends.

    First it looks at the one that was under way when it looked last: verbs that wait are many, and so may be their actors.
    """
    found: dict[str, str | None] = {}
    for name in dict.fromkeys((wait.under_way or next(iter(wait.epochs)), *wait.epochs)):
        found[name] = _outcome(house, house.roles[name].child, wait.verb, wait.epochs[name])
        if found[name] is None and not house.stopping:
            wait.under_way = name
            return None
    return {name: found[name] for name in wait.epochs}


def _outcome(house: House, child: Child, verb: str, epoch: int) -> str | None:
    """Return "" when the actor is there, what is wrong when it will not be, None while it is under way."""
    if verb == "stop":  # Somebody may have started it again meanwhile.
        return "" if child.state in AT_REST or child.epoch > epoch else None
    if child.state is State.RUNNING and (verb == "start" or child.epoch > epoch):
        return ""
    if child.state is State.EXITED:
        return ""
    if child.state in AT_REST and child.crowded:
        leaving = any(each.state is State.STOPPING for role in house.roles.values() for each in role.actors)
        return None if leaving else f"{child.state.value}: {child.why}"
    return _hopeless(child, set())


def _hopeless(child: Child, seen: set[str]) -> str | None:
    """Say why the actor, or one that it starts after, will certainly not be RUNNING unless somebody does something.

    `seen`: those of whom nothing was to be said, however many start after them.
    """
    if child.name in seen:
        return None
    seen.add(child.name)
    if child.state in AT_REST and not child.held:
        return f"{child.state.value}: {child.why}"
    if child.hopeless:
        return f"{child.state.value}: {child.hopeless}"
    for other in [line.player for line in child.others if line.player is not None] if child.held else []:
        why = _hopeless(other, seen)
        if why is not None:
            return f"{child.state.value}: it starts after {other.name}, which is {why}"
    return None
