"""Followers: who has seen which entries, under a credit in bytes. Pure.

A follower that is caught up gets entries as they are committed; one that fell behind reads
them from the log at its own pace. There is no buffer of unsent entries in between.
"""

from understudy.protocol.errors import BEYOND_THE_LOG, LIMIT_REACHED, UNKNOWN_SESSION, UNREADABLE
from understudy.protocol.frames import CREDIT_BYTES, ENTRY_OVERHEAD_BYTES, Credit, Entries, Entry, Follow
from understudy.protocol.sizes import ENTRIES_BYTES
from understudy.supervisor.core.events import EntriesRead, ReadEntries
from understudy.supervisor.core.house import FOLLOWS_PER_CLIENT_MAX, Client, House
from understudy.supervisor.core.sessions import Follower, Session

CREDIT_BYTES_MAX = 16 * CREDIT_BYTES
ECHOES = ("prompt", "started")  # Who prompted knows; an answer follows.


def follow(house: House, client: Client, frame: Follow) -> None:
    """Begin (or begin again, elsewhere) the follow that the client named."""
    session = house.sessions.get(frame.session)
    request = f"follow:{frame.follow}"
    if session is None:
        house.fault(client.peer, UNKNOWN_SESSION, f"there is no session {frame.session!r}", request)
        return
    if frame.number > session.last + 1:
        text = f"session {session.id} ends at number {session.last}; {frame.number} is beyond the log"
        house.fault(client.peer, BEYOND_THE_LOG, text, request)
        return
    if len(client.follows) >= FOLLOWS_PER_CLIENT_MAX and frame.follow not in client.follows:
        text = f"a client may follow {FOLLOWS_PER_CLIENT_MAX} sessions at once; unfollow one"
        house.fault(client.peer, LIMIT_REACHED, text, request)
        return
    unfollow(house, client, frame.follow)
    credit = max(1, min(frame.credit, CREDIT_BYTES_MAX))
    house.follows_made += 1
    follower = Follower(client.peer, frame.follow, max(frame.number, 1), credit, house.follows_made, holds=frame.holds)
    session.followers[client.peer, frame.follow] = follower
    client.follows[frame.follow] = session.id
    _hold(house, session, int(frame.holds))
    _advance(house, session, follower)


def unfollow(house: House, client: Client, number: int) -> None:
    """Forget one follow."""
    client.behind.pop(number, None)
    session = house.sessions.get(client.follows.pop(number, ""))
    if session is not None:
        follower = session.followers.pop((client.peer, number), None)
        if follower is not None:
            _hold(house, session, -int(follower.holds))


def _hold(house: House, session: Session, change: int) -> None:
    """One more, or less, wants that the session's agent stays up."""
    agent = house.agents.get(session.agent)
    if agent is not None and change:
        agent.held_by[session.environment] = agent.held_by.get(session.environment, 0) + change
        for actor in agent.actors:
            actor.idle_from = house.now
            house.touch(actor)


def credit(house: House, client: Client, frame: Credit) -> None:
    """Take more credit, and go on reading when the follower is behind."""
    session = house.sessions.get(client.follows.get(frame.follow, ""))
    if session is None:
        return
    follower = session.followers[client.peer, frame.follow]
    was_out = follower.credit <= 0
    follower.credit = min(follower.credit + max(0, frame.credit), CREDIT_BYTES_MAX)
    if was_out:
        _advance(house, session, follower)


def read(house: House, event: EntriesRead) -> None:
    """Send what was read for a follower; read on while it is behind and has credit."""
    client = house.clients.get(event.peer)
    if client is None:
        return
    client.reading = False
    session = house.sessions.get(client.follows.get(event.follow, ""))
    follower = session.followers.get((event.peer, event.follow)) if session else None
    if session is not None and follower is not None and follower.serial == event.serial:
        if event.reason:
            unfollow(house, client, event.follow)
            house.fault(client.peer, UNREADABLE, event.reason, f"follow:{event.follow}")
            read_on(house, client)
            return
        entries = []
        for entry in event.entries:
            if entry.last < follower.next:
                continue
            # The log may hold more than this step knows to be committed: never tell it early.
            if entry.last > session.recorded or not _takes(house, follower, entry):
                break
            entries.append(entry)
        for some in frames_of(entries):
            house.tell(follower.peer, Entries(follower.follow, some))
        if entries:
            _advance(house, session, follower)
        elif follower.wants:
            client.behind[event.follow] = None
    read_on(house, client)


def feed(house: House) -> None:
    """Give everything that is committed by now to the followers that are caught up."""
    batches: dict[tuple[bytes, int], list[Entry]] = {}
    unfed, sessions, committed = house.unfed, house.sessions, house.committed
    while unfed and unfed[0][0] <= committed:
        entry = unfed.popleft()[1]
        house.unfed_bytes -= len(entry.body)
        session = sessions[entry.session]
        session.recorded = entry.last
        for key, follower in session.followers.items():
            if not follower.caught_up:
                continue
            if not _takes(house, follower, entry):
                follower.caught_up = False
                house.clients[key[0]].behind[key[1]] = None
                continue
            batches.setdefault(key, []).append(entry)
    for (peer, number), entries in batches.items():
        for some in frames_of(entries):
            house.tell(peer, Entries(number, some), lazily=some[-1].kind in ECHOES)


def frames_of(entries: list[Entry]) -> list[list[Entry]]:
    """Return `entries` in order, as many at once as are one frame: about `ENTRIES_BYTES`, or one that alone has more."""
    frames: list[list[Entry]] = []
    start = size = 0
    for at, entry in enumerate(entries):
        entry_bytes = len(entry.body) + ENTRY_OVERHEAD_BYTES
        if size + entry_bytes > ENTRIES_BYTES and at > start:
            frames.append(entries[start:at])
            start, size = at, 0
        size += entry_bytes
    if start < len(entries):
        frames.append(entries[start:] if start else entries)
    return frames


def read_on(house: House, client: Client) -> None:
    """Read for the follow that has waited the longest, one at a time, while the client takes what it is told."""
    for number in list(client.behind):
        if client.reading or not house.room(client.peer):
            return
        session = house.sessions[client.follows[number]]
        follower = session.followers[client.peer, number]
        if follower.wants and not house.room(client.peer, follower.wants):
            continue
        del client.behind[number]
        if follower.caught_up or follower.credit <= 0:
            continue
        client.reading, follower.wants = True, 0
        house.effects.append(
            ReadEntries(client.peer, number, session.id, follower.next, follower.credit, follower.serial)
        )


def _takes(house: House, follower: Follower, entry: Entry) -> bool:
    """Count `entry` as sent, if the follower has credit for it, and its peer room; return whether that is so."""
    if follower.credit <= 0:
        return False
    size = len(entry.body) + ENTRY_OVERHEAD_BYTES
    if not house.budget.spend(follower.peer, size):
        house.room(follower.peer, size)  # There is none: see that it is told when there is.
        follower.wants = size
        return False
    follower.next = entry.last + 1
    follower.credit -= size
    return True


def _advance(house: House, session: Session, follower: Follower) -> None:
    """Let the follower have what it has not; it waits for its turn when it is behind."""
    follower.caught_up = follower.next > session.recorded
    client = house.clients[follower.peer]
    if not follower.caught_up and follower.credit > 0:
        client.behind[follower.follow] = None
        read_on(house, client)
