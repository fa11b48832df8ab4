"""Sessions at rest are in the log alone: read when an event names them, let go when too many are in memory. Pure.

At rest is what has nothing to do and nobody's eye: no turn that runs or waits, no actor, no follower, no call, and all
of it is committed. So nothing walks through all sessions, neither at a start nor later.
"""

from collections.abc import Sequence
from typing import Protocol

from understudy.protocol import doors, verbs
from understudy.protocol.frames import Open, Prompt, Verb
from understudy.protocol.sizes import PATH_CHARACTERS_MAX
from understudy.supervisor.core.budget import long
from understudy.supervisor.core.events import (
    ActorSaid,
    ClientSaid,
    Event,
    NotRead,
    RequestRead,
    RestoredSession,
    SessionRead,
    SessionsRead,
)
from understudy.supervisor.core.house import House
from understudy.supervisor.core.sessions import Session

LIST = verbs.name_of(verbs.Sessions())
LOOKS = 4  # At so many sessions a step looks that takes none in, while too many are in memory,
LOOKS_MAX = 500  # and at so many at the most: half a millisecond.


class NotReadError(Exception):
    """The log does not give back what is wanted; when it `passes`, to try again later is of use."""

    def __init__(self, text: str, passes: bool = False) -> None:
        super().__init__(text)
        self.passes = passes


class Past(Protocol):
    """The log, as it can be asked what sessions and requests it has. All may raise `NotReadError`."""

    def session(self, session: str, /) -> RestoredSession | None:
        """Return the session."""

    def newest(self, before: str, count: int, /) -> list[RestoredSession]:
        """Return the newest sessions, or those that were opened before the session `before`."""

    def opened(self, request: str, /) -> tuple[str, bytes] | None:
        """Return which session the request opened, and its digest."""

    def accepted(self, session: str, request: str, /) -> tuple[int, bytes] | None:
        """Return as which turn of the session the request was accepted, and its digest."""


def with_past(house: House, events: Sequence[Event], past: Past) -> list[Event]:
    """Return `events`, each behind what the log has of what it names and the house has not in memory.

    What names something that cannot be read stands there as `NotRead`.
    """
    found: list[Event] = []
    read: set[str] = set()
    for event in events:
        if isinstance(event, ClientSaid) or type(event) is ActorSaid:
            name = getattr(event.frame, "session", "")
            try:
                if name and name not in read and name not in house.sessions:
                    session = past.session(name)
                    read.add(name)
                    if session is not None:
                        found.append(SessionRead(session))
                if type(event.frame) is Prompt or type(event.frame) is Open:
                    found.extend(_request_read(house, event.frame, past, name in read))
                elif type(event.frame) is Verb and event.frame.verb == LIST:
                    found.append(SessionsRead(_listed(event.frame, past)))
            except NotReadError as error:
                found.append(NotRead(event, str(error), error.passes))
                continue
        found.append(event)
    return found


def _request_read(house: House, frame: Open | Prompt, past: Past, is_read: bool) -> list[Event]:
    """Return what the request made, if that is in the log only. `is_read`: its session comes from there, too."""
    request = frame.request
    if isinstance(frame, Open):
        opened = past.opened(request) if request and request not in house.opens else None
        return [] if opened is None else [RequestRead(request, opened[0], 0, opened[1])]
    session = house.sessions.get(frame.session)
    may_be_old = is_read or (session is not None and session.past)
    if not request or not may_be_old or (frame.session, request) in house.prompts:
        return []
    accepted = past.accepted(frame.session, request)
    return [] if accepted is None else [RequestRead(request, frame.session, *accepted)]


def _listed(frame: Verb, past: Past) -> list[RestoredSession]:
    """Return the sessions that the verb asks for."""
    asked = doors.asked(frame.verb, frame.body)
    if not isinstance(asked, verbs.Sessions):
        return []  # It will be refused.
    if not asked.session:
        return past.newest(asked.before, verbs.SESSIONS_SHOWN_MAX)
    found = past.session(asked.session)
    return [] if found is None else [found]


def take_in(house: House, row: RestoredSession) -> None:
    """Have a session of the log's in memory, unless it is there already."""
    if row.session not in house.sessions:
        session = house.sessions[row.session] = from_log(row)
        session.opening = house.budget.keep(row.opening, row.opening_bytes)
        session.memory = house.budget.keep(row.memory, row.memory_bytes)
        house.budget.texts += long((row.cwd,))
        house.taken_in += 1
        house.grew = True


def from_log(row: RestoredSession) -> Session:
    """Return a session as the log has it, without its bodies."""
    session = Session(row.session, row.agent, row.cwd, last=row.last, recorded=row.last, opened_at=row.opened_at)
    session.quarantined, session.past = row.damage or _beyond_bounds(row), True
    session.environment = row.environment
    return session


def _beyond_bounds(row: RestoredSession) -> str:
    """Say why no actor could be told of the session: a version without bounds opened it; "" when there is no reason."""
    if len(row.cwd) > PATH_CHARACTERS_MAX:
        return f"its folder has a name of {len(row.cwd)} characters; the limit is {PATH_CHARACTERS_MAX}"
    return ""


def is_at_rest(house: House, session: Session) -> bool:
    """Return whether the log has all that is to be known of the session, once what was decided is committed."""
    if session.current is not None or session.actor is not None:
        return False
    kept = session.mailbox or session.followers or session.asks or session.answers
    if kept or session.dropped or session.quarantined or house.calls.in_session(session.id):
        return False
    agent = house.agents.get(session.agent)  # None: it is not in the configuration.
    actors = agent.actors if agent is not None else ()
    return not any(session.id in actor.playing or session.id in actor.holds for actor in actors)


def let_go(house: House) -> bool:
    """Let sessions at rest go while too many are in memory, those first that were not looked at for the longest.

    Return whether there are too many still. Called when a step ends in which there came more. It looks at twice as many as
    were taken in, so that no step pays for all of them.
    """
    if not _too_many(house):
        house.taken_in = 0
        return False
    if house.rows or house.committed != house.ticket:
        return True
    sessions, budget = house.sessions, house.budget
    looks = min(LOOKS + 2 * house.taken_in, LOOKS_MAX, len(sessions))
    house.taken_in = max(0, house.taken_in - looks // 2)
    for _ in range(looks):
        if not _too_many(house):
            return False
        name, session = next(iter(sessions.items()))
        if is_at_rest(house, session):
            del sessions[name]
            budget.let_go(session.opening)
            budget.let_go(session.memory)
            budget.texts -= long((session.cwd,))
        else:
            sessions.move_to_end(name)
    return True


def _too_many(house: House) -> bool:
    budget = house.budget
    return len(house.sessions) > house.sessions_kept_max or budget.texts > budget.limits.texts_bytes_max // 2
