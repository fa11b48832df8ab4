"""What `status` and `sessions` show. Pure."""

from understudy.protocol.verbs import AgentStatus, HouseStatus, SessionStatus
from understudy.supervisor.core import bounds, limits, places
from understudy.supervisor.core.agent import GONE, Agent
from understudy.supervisor.core.at_rest import from_log
from understudy.supervisor.core.events import RestoredSession
from understudy.supervisor.core.house import House
from understudy.supervisor.core.life import Actor, Hindrance, State
from understudy.supervisor.core.sessions import TurnState


def house_row(house: House) -> HouseStatus:
    """Who the supervisor is, and how its house was started."""
    return HouseStatus(house.pid, house.epoch, "", list(house.spec.command), house.spec.source)


def status_rows(house: House) -> list[AgentStatus]:
    """One for each actor, who plays before its understudies."""
    rows = []
    for name, agent in sorted(house.agents.items()):
        rows += [_row(house, agent, actor, actor.name) for actor in agent.actors]
        if agent.launch.name == name:
            rows += [_row(house, agent, each, f"{name}~{at}") for at, each in enumerate(agent.launch.understudies, 1)]
    return rows


def _row(house: House, agent: Agent, actor: Actor, name: str) -> AgentStatus:
    leads = actor is agent.first  # What concerns the agent as a whole stands there.
    running = actor.state is State.RUNNING
    waits = waiting_for(house, agent, actor) if actor.agent else f"{actor.launch} to fall" if running else ""
    return AgentStatus(
        name=name,
        state=actor.state.value,
        pid=actor.pid or None,
        epoch=actor.epoch,
        uptime_s=round(house.now - actor.since, 3) if running else 0.0,
        restarts=agent.budget(actor.place).total if actor.agent else 0,
        queue=agent.queued if leads else 0,
        running=len(house.turns_of(actor)),
        sessions=agent.sessions if leads else 0,
        waiting_for=waits,
        limits=[text for text in limits_reached(house, agent) if text] if leads else [],
        memory_mb=actor.memory_mb,
        memory_limit_mb=actor.spec.memory_mb or None,
        files=actor.files,
        files_limit=actor.spec.files or None,
        link=f"silent for {house.now - actor.heard.at:.0f} s" if running and actor.heard.silent else "",
        why=str(actor.why),
        state_s=round(house.now - actor.since, 3),
        since=round(house.wall - (house.now - actor.since), 3),
        log=f"{house.spec.state_dir}/agents/{actor.spec.name}.log",
        at_rest=actor.state is State.STOPPED
        and not actor.starts
        and (agent.departed or (not agent.stays_down and (agent.may_rest() or actor.place > 1))),
        environment=actor.environment,
    )


def limits_reached(house: House, agent: Agent) -> list[str]:
    """Say which limits of the agent and the house are reached now."""
    return [
        bounds.sessions_full(agent),
        bounds.queue_full(agent),
        bounds.turns_full(agent),
        actors_full(house, agent),
        house.memory_over,
    ]


def actors_full(house: House, agent: Agent) -> str:
    """Say that sessions wait since no more actors may play the agent, "" when none does."""
    _, longest = places.waits_longest(house, agent)
    full = longest is not None and not agent.has_place(longest.environment)
    return f"actors_max: {len(agent.actors)} of {agent.places_max} actors play" if full else ""


def _no_place(house: House, agent: Agent) -> str:
    full = actors_full(house, agent)
    return f"a place; {full}" if full else ""


def waiting_for(house: House, agent: Agent, actor: Actor) -> str:
    """Say what the actor's work waits for, "" when for nothing but the agent itself."""
    questions = [ask for session, _ in house.turns_of(actor) for ask in session.asks.values() if ask.public]
    if questions:
        oldest = min(ask.since for ask in questions)
        return f"an answer to {len(questions)} question(s), the oldest for {house.now - oldest:.0f} s"
    if actor.state is State.RUNNING and actor.heard.silent:
        return f"the actor, silent for {house.now - actor.heard.at:.0f} s"
    if house.log_failed_at is not None:  # With no turn that runs or waits, an ending may wait to be told.
        return f"the log, which cannot be written for {house.now - house.log_failed_at:.0f} s: {house.log_failure}"
    if agent.departed and actor.lives:
        return f"the end of its turns: {GONE}"
    if not agent.queued or actor is not agent.first:
        return ""
    if agent.departed:
        return f"the agent, {GONE}, to be back (put it there, then: understudy reload)"
    if agent.by_person:
        return f"stopped by a person; understudy start {agent.name}"
    if actor.hindered is Hindrance.ROOM and (full := limits.no_room(house, actor)):
        return f"room in the house: {full}"
    match actor.state:
        case State.RUNNING:
            return (
                house.memory_over
                or bounds.turns_full(agent)
                or _no_place(house, agent)
                or _no_room_on_the_way(house, agent, actor)
                or "the turn before it in its session"
            )
        case State.STARTING:
            return f"the actor to be ready, for {house.now - actor.since:.0f} s"
        case State.BACKOFF:
            return f"the actor to start: {actor.why}" if actor.why.text else "the actor to start"
        case State.STOPPED if (full := _no_place(house, agent)) and not agent.stays_down:
            return full
        case State.STOPPING | State.STOPPED | State.EXITED | State.FATAL | State.UNKNOWN:
            return f"the actor, which is {actor.state.value}: {actor.why}"


def _no_room_on_the_way(house: House, agent: Agent, actor: Actor) -> str:
    """Say that the actor has not taken enough of what it was sent, or others have not, "" when there is room."""
    peer = actor.peer
    waiting = agent.waiting.get(actor.environment, {})
    free = (session for session in map(house.sessions.__getitem__, waiting) if session.current is None)
    size = max((session.bytes_to_hand(session.mailbox[0].body.size) for session in free), default=0)
    if house.budget.room(peer, size) or peer is None:
        return ""
    window = house.budget.windows.get(peer)
    if window is None:
        return "the actor to say hello again: its connection was given up"
    if house.budget.crowded:
        return f"room to send it more: clients and actors have {house.budget.under_way} bytes to take"
    return f"room to send it more: it has {window.under_way} bytes to take"


def session_rows(house: House, found: list[RestoredSession]) -> list[SessionStatus]:
    """One for each session that the log has `found`, as it is now if it is in memory."""
    sessions = [house.sessions.get(row.session) or from_log(row) for row in found]
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
            full=bounds.entries_full(session, house.agents[session.agent].spec)
            if session.agent in house.agents
            else "",
            quarantined=session.quarantined,
            actor=session.actor.title if session.actor is not None else "",
            environment=session.environment,
        )
        for session in sessions
    ]
