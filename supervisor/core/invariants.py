"""What always holds of the core's state between two events. Pure; it changes nothing.

The running house asks `of_session` about each session that an event touched: a breach sets that session apart before
anything is written. Simulator and tests ask `of_house` after every step; so does a house with `VARIABLE` in its
environment, as chaos starts it: there a breach ends the supervisor.
"""

from collections import Counter
from operator import attrgetter

from understudy.supervisor.core.budget import long
from understudy.supervisor.core.child import LIVING, State
from understudy.supervisor.core.house import House, Role
from understudy.supervisor.core.rests import row
from understudy.supervisor.core.sessions import Session, TurnState

VARIABLE = "UNDERSTUDY_ASSERT"
NOT_TO_COME_BACK = (State.STOPPED, State.EXITED, State.UNKNOWN)


def of_session(house: House, session: Session) -> None:
    """Assert what holds of one session, and of its place with its agent. Quick: it is asked after each event."""
    current, mailbox = session.current, session.mailbox
    assert session.recorded <= session.last, f"{session.id}: {session.recorded} recorded of {session.last}"
    if current is not None:
        assert current.state is not TurnState.QUEUED, f"turn {current.number} of {session.id} runs and is queued"
        cancels = (session.id, current.number) in house.cancels
        assert cancels is current.cancelled, f"turn {current.number} of {session.id}: cancelled is {current.cancelled}"
    else:
        assert not session.answers, f"{session.id} keeps answers of no turn"
    if session.asks:
        number = 0 if current is None else current.number
        turns = {ask.turn for ask in session.asks.values()}
        assert turns == {number}, f"{session.id} has questions of turns {turns} while {number} runs"
    if mailbox:
        assert mailbox[0].state is TurnState.QUEUED, (
            f"turn {mailbox[0].number} of {session.id} waits and is handed over"
        )
        assert current is None or current.number < mailbox[0].number, f"{session.id}: {mailbox[0].number} is overtaken"
    role = house.roles.get(session.agent)
    if role is not None:
        assert current is None or session.id in role.playing, f"nobody watches the turn of {session.id}"
        if mailbox and current is None and not session.quarantined:
            assert session.id in role.waiting, f"turns of {session.id} wait, and nobody knows"


def of_agent(role: Role) -> None:
    """Assert what holds of one agent's actors: who plays, and that none has two incarnations."""
    spec = role.child.spec
    assert role.running >= 0, f"{role.running} turns run on {spec.name}"
    assert role.queued >= 0, f"{role.queued} turns wait for {spec.name}"
    assert role.child.line.player is role.child, f"two know who plays {spec.name}, and disagree"
    epochs = [each.epoch for each in role.actors if each.epoch]
    assert len(epochs) == len(set(epochs)), f"{spec.name} has an epoch twice: {epochs}"
    assert max(epochs, default=0) <= role.child.line.epoch, f"{spec.name}: {epochs} of {role.child.line.epoch}"
    oldest = min((each for each in role.actors if each.state in LIVING), key=attrgetter("epoch"), default=None)
    if role.child.state in LIVING:
        assert role.child is oldest, f"{role.child.title} plays, beside {oldest and oldest.title}"
    elif oldest is not None and role.child.state not in NOT_TO_COME_BACK and not role.child.apart:
        # One that is on its way out is waited for, whoever is younger.
        assert oldest.state is State.STOPPING, (
            f"{role.child.title} is {role.child.state.name}, {oldest.title} could play"
        )


def of_house(house: House) -> None:
    """Assert everything that holds of the house."""
    running: Counter[str] = Counter()
    queued: Counter[str] = Counter()
    sessions: Counter[str] = Counter()
    for session in house.sessions.values():
        of_session(house, session)
        queued[session.agent] += len(session.mailbox)
        running[session.agent] += session.current is not None
        sessions[session.agent] += 1
        for peer, number in session.followers:
            client = house.clients.get(peer)
            assert client is not None, f"somebody who is gone follows {session.id}"
            assert client.follows.get(number) == session.id, f"follow {number} of {client.id} is not of {session.id}"
    for name, role in house.roles.items():
        of_agent(role)
        assert house.stopping or role.rest == row(house, name, role), f"{name} stands otherwise than it was written"
        for child in role.actors:
            seen = child.due is None or house.replan or house.due <= max(child.due, house.now)
            assert seen, f"{child.title} is due before the house"
        counted = (running[name], queued[name], sessions[name])
        kept = (role.running, role.queued, role.sessions)
        assert counted == kept, f"{name} has (running, queued, sessions) {counted}, and is said to have {kept}"
        asks = [ask.frame for each in role.playing.values() for ask in each.asks.values() if ask.frame is not None]
        asked = sum(len(frame.body) for frame in asks)
        assert asked == role.question_bytes, f"{name} asks {asked} bytes, and is said to ask {role.question_bytes}"
    for session_id, number in house.cancels:
        current = house.sessions[session_id].current
        assert current is not None, f"turn {number} of {session_id} is over, its cancel is not"
        assert current.number == number, f"turn {number} of {session_id} is over, its cancel is not"
    for peer, agent in house.peers.items():
        assert any(each.peer == peer for each in house.roles[agent].actors), f"{agent} has a connection of nobody's"
    of_bytes(house)
    assert house.committed <= house.ticket, f"{house.committed} is committed of {house.ticket}"
    tickets = [ticket for ticket, _ in house.unfed]
    assert tickets == sorted(tickets), f"entries wait out of order: {tickets}"
    unfed = sum(len(entry.body) for _, entry in house.unfed)
    assert unfed == house.unfed_bytes, f"{unfed} bytes of entries wait for the log, and {house.unfed_bytes} are counted"


def of_bytes(house: House) -> None:
    """Assert that every byte that is counted has an owner who is there."""
    budget = house.budget
    peers = {*house.clients, *house.peers}
    assert set(budget.windows) <= peers, f"bytes are under way to {set(budget.windows) - peers}, who are gone"
    assert budget.under_way == sum(window.under_way for window in budget.windows.values()), "bytes under way to nobody"
    for window in budget.windows.values():
        pinged = window.behind + sum(ping.size for ping in window.pings)
        assert window.under_way == pinged, f"{window.under_way} bytes are under way, {pinged} are asked about"
    bodies = [body for session in house.sessions.values() for body in (session.opening, session.memory)]
    turns = [[*session.mailbox, session.current] for session in house.sessions.values()]
    bodies += [turn.body for each in turns for turn in each if turn is not None]
    kept = sum(len(body.kept or b"") for body in bodies)
    assert kept == budget.kept, f"{kept} bytes of bodies are kept, and {budget.kept} are counted"
    texts = sum(long((session.cwd,)) for session in house.sessions.values())
    texts += sum(long(turn.serves) for each in turns for turn in each if turn is not None)
    assert texts == budget.texts, f"{texts} bytes of long texts are kept, and {budget.texts} are counted"
