"""What `status` and `sessions` show. Pure."""

from itertools import islice

from understudy.protocol.verbs import AgentStatus, HouseStatus, SessionStatus
from understudy.supervisor.core import bounds
from understudy.supervisor.core.child import Child, State
from understudy.supervisor.core.house import House, Role
from understudy.supervisor.core.sessions import TurnState

SESSIONS_SHOWN_MAX = 1_000


def house_row(house: House) -> HouseStatus:
    """Who the supervisor is, and how its house was started."""
    return HouseStatus(house.pid, house.epoch, "", list(house.spec.command), house.spec.source)


def status_rows(house: House) -> list[AgentStatus]:
    """One for each actor, who plays before its understudies."""
    rows = []
    for name, role in sorted(house.roles.items()):
        rows.append(_row(house, role, role.child, name))
        for at, child in enumerate(role.understudies, 1):
            rows.append(_row(house, role, child, f"{name}~{at}"))
    return rows


def _row(house: House, role: Role, child: Child, name: str) -> AgentStatus:
    plays = child is role.child
    running = child.state is State.RUNNING
    return AgentStatus(
        name=name,
        state=child.state.value,
        pid=child.pid or None,
        epoch=child.epoch,
        uptime_s=round(house.now - child.since, 3) if running else 0.0,
        restarts=child.line.restarts.total if plays else 0,
        queue=role.queued if plays else 0,
        running=role.running if plays else 0,
        sessions=role.sessions if plays else 0,
        waiting_for=waiting_for(house, role) if plays else f"{child.spec.name} to fall" if running else "",
        limits=[text for text in limits_reached(house, role) if text] if plays else [],
        memory_mb=child.memory_mb,
        memory_limit_mb=child.spec.memory_mb or None,
        files=child.files,
        files_limit=child.spec.files or None,
        link=f"silent for {house.now - child.link.heard:.0f} s" if running and child.link.silent else "",
        why=child.why,
        state_s=round(house.now - child.since, 3),
        since=round(house.wall - (house.now - child.since), 3),
        log=f"{house.spec.state_dir}/agents/{child.spec.name}.log",
    )


def limits_reached(house: House, role: Role) -> list[str]:
    """Say which limits of the agent and the house are reached now."""
    return [bounds.sessions_full(role), bounds.queue_full(role), bounds.turns_full(role), house.memory_over]


def waiting_for(house: House, role: Role) -> str:
    """Say what the agent's work waits for, "" when for nothing but the agent itself."""
    questions = [ask for session, _ in role.turns() for ask in session.asks.values() if ask.public]
    if questions:
        oldest = min(ask.since for ask in questions)
        return f"an answer to {len(questions)} question(s), the oldest for {house.now - oldest:.0f} s"
    if role.child.state is State.RUNNING and role.child.link.silent:
        return f"the actor, silent for {house.now - role.child.link.heard:.0f} s"
    if house.log_failed_at is not None:  # With no turn that runs or waits, an ending may wait to be told.
        return f"the log, which cannot be written for {house.now - house.log_failed_at:.0f} s: {house.log_failure}"
    if not role.queued:
        return ""
    if role.child.by_person:
        return f"stopped by a person; understudy start {role.child.name}"
    match role.child.state:
        case State.RUNNING:
            return (
                house.memory_over
                or bounds.turns_full(role)
                or no_room(house, role)
                or "the turn before it in its session"
            )
        case State.STARTING:
            return f"the actor to be ready, for {house.now - role.child.since:.0f} s"
        case State.BACKOFF:
            return f"the actor to start: {role.child.why}" if role.child.why else "the actor to start"
        case State.STOPPING | State.STOPPED | State.EXITED | State.FATAL | State.UNKNOWN:
            return f"the actor, which is {role.child.state.value}: {role.child.why}"


def no_room(house: House, role: Role) -> str:
    """Say that the actor has not taken enough of what it was sent, or others have not, "" when there is room."""
    peer = role.child.peer
    free = (session for session in map(house.sessions.__getitem__, role.waiting) if session.current is None)
    size = max((session.bytes_to_hand(session.mailbox[0].body.size) for session in free), default=0)
    if house.budget.room(peer, size) or peer is None:
        return ""
    window = house.budget.windows.get(peer)
    if window is None:
        return "the actor to say hello again: its connection was given up"
    if house.budget.crowded:
        return f"room to send it more: clients and actors have {house.budget.under_way} bytes to take"
    return f"room to send it more: it has {window.under_way} bytes to take"


def session_rows(house: House, only: str = "") -> list[SessionStatus]:
    """One for each session (or for `only`), the newest first, at most `SESSIONS_SHOWN_MAX`."""
    if only:
        newest = [house.sessions[only]] if only in house.sessions else []
    else:
        newest = list(islice(reversed(house.sessions.values()), SESSIONS_SHOWN_MAX))
    return [
        SessionStatus(
            session=session.id,
            agent=session.agent,
            cwd=session.cwd,
            last=session.recorded,
            queue=len(session.mailbox),
            running=session.current is not None and session.current.state is TurnState.RUNNING,
            turn=session.current.number if session.current else None,
            opened_at=session.opened_at,
            full=bounds.entries_full(session, house.roles[session.agent].child.spec)
            if session.agent in house.roles
            else "",
            quarantined=session.quarantined,
        )
        for session in newest
    ]
