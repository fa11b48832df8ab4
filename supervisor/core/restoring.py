"""A supervisor that starts takes back what the log gives it. Pure."""

from understudy.supervisor.core import asks, losses, turns
from understudy.supervisor.core.child import State
from understudy.supervisor.core.house import House
from understudy.supervisor.core.restored import Restored
from understudy.supervisor.core.sessions import (
    CONTINUATION,
    CONTINUED,
    HANDED_STATES,
    WITHDRAWN,
    Session,
    Turn,
    TurnState,
)
from understudy.supervisor.core.specs import OnCrash


def take_back(house: House, restored: Restored, shown: set[tuple[str, int]] | None) -> None:
    """Restore sessions, requests and open turns; settle those turns whose actors are dead. `shown`: what these had shown."""
    for row in restored.sessions:
        session = Session(row.session, row.agent, row.cwd, row.opening, row.memory, row.last, row.last)
        session.opened_at, session.quarantined = row.opened_at, row.damage
        house.sessions[row.session] = session
        if session.agent in house.roles:
            house.roles[session.agent].sessions += 1
    house.opens.update(restored.opens)
    house.prompts.update(restored.prompts)
    for open_turn in restored.turns:
        session = house.sessions[open_turn.session]
        role = house.roles.get(session.agent)
        if role is None:
            continue  # Its agent left the configuration; it waits in the log until it is back.
        turn = Turn(open_turn.turn, open_turn.body, open_turn.serves, open_turn.client)
        if open_turn.state == CONTINUED:
            turn.body = CONTINUATION
        if open_turn.state not in HANDED_STATES:
            turns.enqueue(house, session, turn)
            continue
        session.current, turn.since = turn, house.now
        turn.state = TurnState.HANDED if open_turn.state == WITHDRAWN else TurnState.RUNNING
        if open_turn.state != "started":
            turns.mark_cancelled(house, session, turn)
        for entry in open_turn.told:
            asks.restore_entry(house, session, turn, entry)
        turn.unmarked = role.child.spec.on_crash is OnCrash.RETRY
        role.plays(session)
        # While an actor lives it may still be shown: then its exit settles it, unless one before it had shown it.
        if role.child.state is State.STOPPED or (shown is not None and (session.id, turn.number) in shown):
            losses.settle(house, role, session, turn, "the supervisor ended while this turn ran", shown)
