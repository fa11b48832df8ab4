"""A supervisor that starts takes back what the log gives it. Pure."""

from understudy.supervisor.core import asks, losses, turns
from understudy.supervisor.core.child import State
from understudy.supervisor.core.events import TurnRow
from understudy.supervisor.core.house import House, Role
from understudy.supervisor.core.restored import Restored, RestoredTurn, Shown
from understudy.supervisor.core.sessions import (
    CONTINUED,
    HANDED_STATES,
    WITHDRAWN,
    Session,
    Turn,
    TurnState,
)
from understudy.supervisor.core.specs import OnCrash


def take_back(house: House, restored: Restored, shown: Shown) -> None:
    """Restore sessions, requests and open turns; settle those turns whose actors are dead. `shown`: by dead actors."""
    for row in restored.sessions:
        opening = house.budget.keep(row.opening, row.opening_bytes)
        memory = house.budget.keep(row.memory, row.memory_bytes)
        session = Session(row.session, row.agent, row.cwd, opening, memory, row.last, row.last)
        session.opened_at, session.quarantined = row.opened_at, row.damage
        house.sessions[row.session] = session
        if session.agent in house.roles:
            house.roles[session.agent].sessions += 1
    house.opens.update(restored.opens)
    house.prompts.update(restored.prompts)
    for open_turn in restored.turns:
        session = house.sessions[open_turn.session]
        role = house.roles.get(session.agent)
        if role is None:  # Its agent left the configuration; it waits in the log until that is back.
            house.unsettled.add((session.agent, open_turn.epoch))
        elif open_turn.state not in HANDED_STATES:
            turns.enqueue(house, session, _turn(house, open_turn))
        else:
            _take_back_handed(house, role, session, open_turn, shown)


def _turn(house: House, row: RestoredTurn) -> Turn:
    body = house.budget.keep(row.body, row.size)
    return Turn(row.turn, body, row.serves, row.client, continues=row.state == CONTINUED)


def _take_back_handed(house: House, role: Role, session: Session, row: RestoredTurn, shown: Shown) -> None:
    """An actor has the turn: while that lives, its exit settles it; else it is settled now, by what that had shown."""
    session.current = turn = _turn(house, row)
    turn.since = house.now
    turn.state = TurnState.HANDED if row.state == WITHDRAWN else TurnState.RUNNING
    role.plays(session)
    lives = role.child.state is not State.STOPPED
    turn.epoch = row.epoch
    if lives and not row.epoch:  # Older versions did not record who has it: it is whoever plays.
        turn.epoch = role.child.epoch
        house.record(TurnRow(session.id, turn.number, row.state, epoch=turn.epoch))
    if row.state != "started":
        turns.mark_cancelled(house, session, turn)
    for entry in row.told:
        asks.restore_entry(house, session, turn, entry)
    turn.unmarked = role.child.spec.on_crash is OnCrash.RETRY
    if not lives or turn.epoch != role.child.epoch:
        what = "the supervisor ended while this turn ran"
        losses.settle(house, role, session, turn, what, shown.get((session.agent, turn.epoch)))
