"""What always holds of the core's state between two events. Pure; it changes nothing.

The running house asks `of_session` about each session that an event touched: a breach sets that session apart before
anything is written. Simulator and tests ask `of_house` after every step; so does a house with `VARIABLE` in its
environment, as chaos starts it: there a breach ends the supervisor.
"""

from collections import Counter

from understudy.supervisor.core.agent import Agent
from understudy.supervisor.core.budget import long
from understudy.supervisor.core.house import PING_BUSY_EVERY_S, House
from understudy.supervisor.core.launches import Launch
from understudy.supervisor.core.life import STAYING, Hindrance, State
from understudy.supervisor.core.looks import due_of
from understudy.supervisor.core.rests import row
from understudy.supervisor.core.sessions import Session, TurnState

VARIABLE = "UNDERSTUDY_ASSERT"


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
    agent, actor = house.agents.get(session.agent), session.actor
    if agent is not None:
        if current is not None:
            assert actor is not None, f"turn {current.number} of {session.id} runs, and nobody has it"
            assert session.id in actor.playing, f"nobody watches the turn of {session.id}"
            had = (current.launch, current.epoch)
            assert (actor.launch, actor.epoch) == had, f"{actor.title} has the turn of {session.id} that {had} has"
        if actor is not None:
            assert actor.agent == session.agent, f"{actor.title} plays {session.id}, of {session.agent}"
            its = actor.environment == session.environment
            assert its, f"{actor.title}, of {actor.launch}, plays {session.id}, of {session.environment!r}"
            holds = session.id in actor.holds
            assert current is not None or holds, f"{session.id} is with {actor.title}, which has nothing of it"
        if mailbox and current is None and not session.quarantined:
            assert agent.waits_since(session) <= house.now, f"turns of {session.id} wait, and nobody knows"


def of_agent(house: House, agent: Agent) -> None:
    """Assert what holds of one agent: who plays it, and that nobody waits while an understudy could play."""
    name = agent.name
    assert agent.running >= 0, f"{agent.running} turns run on {name}"
    assert agent.queued >= 0, f"{agent.queued} turns wait for {name}"
    places = [each.place for each in agent.actors]
    assert sorted(set(places)) == places, f"{name} has the places {places}"
    assert places[0] == 1, f"nobody is in the first place of {name}"
    assert not agent.first.environment, f"{agent.first.title} is in the first place, and was launched for some sessions"
    going = [each for each in agent.actors if each.lives and each.state is not State.UNKNOWN and not each.leaves]
    assert len(going) <= agent.places_max, f"{len(going)} play {name}, {agent.places_max} may"
    most = agent.spec.sessions_per_actor
    for actor in agent.actors:
        assert actor.agent == name, f"{actor.title} plays {name}"
        assert not most or len(actor.holds) <= most, f"{actor.title} holds {list(actor.holds)}, {most} may be"
        assert actor.lives or not house.turns_of(actor), f"{actor.title} is {actor.state.name}, and has turns"
        waits = actor.state is State.BACKOFF or actor.starts
        heir = house.launches[actor.launch].heir()
        if waits and heir is not None and not (house.stopping or agent.stays_down or actor.leaves):
            raise AssertionError(f"{actor.title} is {actor.state.name}, {heir.title} could play")


def of_launch(launch: Launch, agents: list[Agent]) -> None:
    """Assert what holds of one launch: that none of its actors has two incarnations, and none a foreign one."""
    actors = [*launch.understudies, *(each for agent in agents for each in agent.actors if each.launch == launch.name)]
    epochs = [each.epoch for each in actors if each.epoch]
    assert len(epochs) == len(set(epochs)), f"{launch.name} has an epoch twice: {epochs}"
    assert max(epochs, default=0) <= launch.epoch, f"{launch.name}: {epochs} of {launch.epoch}"
    for actor in actors:
        known = launch.known.get(actor.epoch)
        assert not actor.epoch or known is actor, f"{actor.title} is taken for {known and known.title}"
    for understudy in launch.understudies:
        assert understudy.launch == launch.name, f"{understudy.title} stands by for {launch.name}"
        assert not understudy.agent, f"{understudy.title} stands by, and plays"
        has = {**understudy.playing, **understudy.holds}
        assert not has, f"{understudy.title} stands by, and has {list(has)}"


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
    for name, agent in house.agents.items():
        of_agent(house, agent)
        for actor in agent.actors:
            stands = agent.rests.get(actor.name)
            written = house.stopping or agent.departed or stands == row(house, agent, actor)
            assert written, f"{actor.name} stands otherwise than it was written"
        counted, kept = (running[name], queued[name]), (agent.running, agent.queued)
        assert counted == kept, f"{name} has (running, queued) {counted}, and is said to have {kept}"
        assert sessions[name] <= agent.sessions, f"{name} has {sessions[name]} of {agent.sessions} sessions in memory"
    of_memory(house)
    for launch in house.launches.values():
        of_launch(launch, [house.agents[name] for name in launch.agents])
    asked: Counter[str] = Counter()
    for session in house.sessions.values():
        asked[session.agent] += sum(len(ask.frame.body) for ask in session.asks.values() if ask.frame is not None)
    for name, agent in house.agents.items():
        bytes_said = agent.question_bytes
        assert asked[name] == bytes_said, f"{name} asks {asked[name]} bytes, and is said to ask {bytes_said}"
    for actor in house.actors():
        due, at = due_of(house, actor), house.dues.of(actor)
        soon = house.now + (PING_BUSY_EVERY_S if actor.playing else 0.0)
        assert due is None or at <= max(due, soon), f"{actor.title} is due at {due}, and looked at at {at}"
        assert house.replan or house.due <= max(at, house.now), f"{actor.title} is looked at before the house"
        asked_again = not actor.starts or any(actor in each for each in house.held.values())
        assert asked_again, f"{actor.title} is to start, and nobody asks whether it may"
    _of_tally(house)
    for session_id, number in house.cancels:
        current = house.sessions[session_id].current
        assert current is not None, f"turn {number} of {session_id} is over, its cancel is not"
        assert current.number == number, f"turn {number} of {session_id} is over, its cancel is not"
    everybody = set(house.actors())
    for peer, actor in house.peers.items():
        assert actor.peer == peer, f"{actor.title} has a connection that is another's"
        assert actor in everybody, f"{actor.title} is gone, and has a connection"
    of_bytes(house)
    assert house.committed <= house.ticket, f"{house.committed} is committed of {house.ticket}"
    tickets = [ticket for ticket, _ in house.unfed]
    assert tickets == sorted(tickets), f"entries wait out of order: {tickets}"
    unfed = sum(len(entry.body) for _, entry in house.unfed)
    assert unfed == house.unfed_bytes, f"{unfed} bytes of entries wait for the log, and {house.unfed_bytes} are counted"


def of_memory(house: House) -> None:
    """Assert that every session that anything of the house names is in memory: the others are at rest."""
    count = len(house.sessions)
    assert count <= house.session_count, f"{count} sessions are in memory, of {house.session_count}"
    named = [entry.session for _, entry in house.unfed] + [name for name, _ in house.cancels]
    named += [call.session for call in house.calls.values() if call.session]  # A signal is of none.
    named += [name for client in house.clients.values() for name in client.follows.values()]
    named += [name for agent in house.agents.values() for name in agent.all_waiting()]
    named += [name for actor in house.actors() for name in (*actor.playing, *actor.holds)]
    missing = {name for name in named if name not in house.sessions}
    assert not missing, f"sessions {sorted(missing)} are not at rest, and not in memory"


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


def _of_tally(house: House) -> None:
    """Assert that the house counts its actors as they stand."""
    living = [each for each in house.actors() if each.lives]
    staying = [each for each in living if each.state in STAYING]
    crowded = {each for each in house.actors() if each.agent and each.hindered is Hindrance.ROOM}
    kb = [sum(round(1024 * each.memory_mb) for each in some) for some in (living, staying)]
    tally = house.tally
    counted = (tally.living, tally.staying, tally.living_kb, tally.staying_kb)
    assert counted == (len(living), len(staying), *kb), f"{counted} are counted of {len(living)}, {len(staying)}, {kb}"
    assert crowded == tally.crowded.keys(), f"{[each.title for each in tally.crowded]} are said to wait for room"
