"""How the line of an agent's actors stands, recorded so that the next supervisor of the same house goes on from it. Pure.

What has ended stays ended, whoever supervises; a budget that is spent is not given anew. A house that is started
afresh, or an agent whose configuration has changed, begins anew.
"""

import hashlib

import msgspec

from understudy.supervisor.core.child import State
from understudy.supervisor.core.events import RestRow, Spawned
from understudy.supervisor.core.house import House, Role
from understudy.supervisor.core.specs import AgentSpec

LASTING = (State.EXITED, State.FATAL, State.UNKNOWN)
WHY_CHARACTERS_MAX = 1_000
GRANTED_MAX = 1_000  # Restarts that are remembered; who has more of them in a period never gives up in earnest.


def digest(spec: AgentSpec) -> str:
    """Return what names the agent's configuration."""
    return hashlib.sha256(msgspec.msgpack.encode(spec)).hexdigest()[:16]


def record(house: House) -> None:
    """Write down each line that was touched and stands otherwise than it was written. Called when a step ends."""
    if house.stopping:
        return  # This life of the house is over.
    for name in house.touched:
        role = house.roles[name]
        stands = row(house, name, role)
        if stands != role.rest:
            role.rest = stands
            house.record(stands)


def row(house: House, name: str, role: Role) -> RestRow:
    """Return how it stands; what passes by itself (that it starts, waits or ends) is left out."""
    child, restarts = role.child, role.child.line.restarts
    says = child.state is State.RUNNING or child.state in LASTING or (child.by_person and child.state is State.STOPPED)
    return RestRow(
        name,
        house.life,
        child.state.value if says else "",
        child.why[:WHY_CHARACTERS_MAX] if says and child.state is not State.RUNNING else "",
        child.since if says else 0.0,
        restarts.total,
        restarts.granted[-GRANTED_MAX:],
        restarts.in_a_row,
        restarts.ran_s,
        child.epoch if says else 0,
        bool(child.apart),
        role.digest,
    )


def take_budget(role: Role, row: RestRow) -> None:
    """Go on with the budget that the last supervisor had written down."""
    restarts, role.rest = role.child.line.restarts, row
    restarts.total = row.restarts
    if row.digest == role.digest:
        restarts.granted, restarts.in_a_row, restarts.ran_s = list(row.granted), row.in_a_row, row.ran_s


def resting(role: Role, living: list[Spawned]) -> bool:
    """Return whether the agent is to stay at rest. `living`: its processes, understudies perhaps."""
    row = role.rest
    if row is None or row.digest != role.digest or any(each.epoch == row.epoch for each in living):
        return False
    if row.state == State.FATAL.value:
        return not living  # An understudy takes over.
    return row.state in (State.EXITED.value, State.UNKNOWN.value)


def running_since(role: Role, process: Spawned) -> float | None:
    """Return since when that incarnation was RUNNING, None when that was not written down."""
    row = role.rest
    running = row is not None and row.state == State.RUNNING.value and row.epoch == process.epoch
    return row.since if running and row is not None else None


def rest(role: Role) -> None:
    """Let the agent be at rest as it was."""
    row = role.rest
    assert row is not None, f"{role.child.name} is to rest, and nobody knows how"
    role.child.epoch = row.epoch
    role.child.rest(State(row.state), row.why, row.since, row.apart)


def stopped(role: Role) -> None:
    """A person had stopped it: since then."""
    row, child = role.rest, role.child
    if row is not None and row.state == child.state.value == State.STOPPED.value:
        child.since = row.since
