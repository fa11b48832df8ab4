"""Hangs: an actor that is silent on the link, a turn that takes too long or makes no progress. Pure.

Three signals are kept apart: the process (the keeper's word), the link (any frame of the actor, asked for by a
ping when there was none), and progress (entries of the turn, while nobody is asked and the log can write).
"""

from understudy.protocol.frames import Ping
from understudy.supervisor.core import turns
from understudy.supervisor.core.child import Child, Link, State
from understudy.supervisor.core.events import Kill
from understudy.supervisor.core.house import PING_BUSY_EVERY_S, House, Role
from understudy.supervisor.core.sessions import Session, Turn, TurnState
from understudy.supervisor.core.specs import OnHang

ANSWER_S_MAX = 1.75  # A ping unanswered for so long means a silent link: with the pause before it, under 3 s.
LATE_S_MAX = 0.5  # A tick so late means that we were held up ourselves: what actors said waits to be read.


def greeted(house: House, child: Child) -> None:
    """The actor has a new connection: it is heard from now on."""
    child.link = Link(house.now, house.after)
    _look_within(house, PING_BUSY_EVERY_S)


def stopped(house: House, child: Child) -> None:
    """A signal stopped its process: ask it at once, and give it as long as any for the answer.

    What it said before may come after: see `heard`.
    """
    if child.state is State.RUNNING and _is_looked_at(house, child):
        child.link.doubted = True
        if child.link.pinged is None:
            _ping(house, child)
        house.touch(child.spec.name)


def heard(house: House, role: Role, child: Child, is_pong: bool) -> None:
    """Any frame of the actor's proves the link; of one that was stopped, the answer to a ping after its next answer does."""
    link = child.link
    if link.silent:
        text = f"{child.title} is heard again, after {house.now - link.heard:.1f} s of silence"
        house.warn(text)
        for session, turn in role.turns() if child is role.child else []:
            house.write(session, "note", turn.number, {"text": text})
        house.touch(child.spec.name)
    link.heard, link.silent = house.now, False
    if not link.doubted:
        link.pinged = None
    elif is_pong:
        link.doubted = False
        _ping(house, child)
        house.touch(child.spec.name)
    else:
        link.pinged = house.now


def progressed(house: House, session: Session) -> None:
    """The session's turn has a new entry, or an answer."""
    if session.current is not None:
        session.current.progressed, session.current.quiet_told = house.now, False


def dues(house: House, role: Role) -> list[float]:
    """Return when to look again: at the link of each busy or pinged actor, at each turn that has a timeout."""
    found = []
    child = role.child
    for each in role.actors:
        if each.state is not State.RUNNING or not _is_looked_at(house, each):
            continue
        if each.link.pinged is not None:
            found.append(each.link.pinged + ANSWER_S_MAX)
        elif each is child and role.running:
            found.append(each.link.heard + PING_BUSY_EVERY_S)
    if role.running and (child.spec.turn_timeout_s or child.spec.quiet_timeout_s):
        for session, turn in role.turns():
            found.extend(due for due in (_over_at(role, turn), _quiet_at(house, role, session, turn)) if due)
    return found


def ticked(house: House, ping_idle: bool) -> list[Kill]:
    """Look at every link and every turn with a timeout; return which actors are to end. `ping_idle`: ask all."""
    late = house.now > house.due + LATE_S_MAX
    kills: list[Kill] = []
    for role in house.roles.values():
        for child in role.actors:
            if child.state is State.RUNNING and child.peer is not None:
                kills.extend(_look_at_link(house, role, child, ping_idle, late))
        if role.running and not late:
            kills.extend(_look_at_turns(house, role))
    return kills


def _look_at_link(house: House, role: Role, child: Child, ping_idle: bool, late: bool) -> list[Kill]:
    link, plays = child.link, child is role.child
    if link.silent and plays and _only_unseen(role):  # They were handed over since: it did not play then.
        child.last_words = f"{child.title} hangs: not a frame of it for {house.now - link.heard:.1f} s"
        return child.kill(child.last_words, house.now)
    if not _is_looked_at(house, child):
        return []
    if link.pinged is None:
        if ping_idle or (plays and role.running and house.now >= link.heard + PING_BUSY_EVERY_S):
            _ping(house, child)
        return []
    if late:
        link.pinged = house.now
    if house.now < link.pinged + ANSWER_S_MAX:
        return []
    link.silent = True
    text = f"{child.title} hangs: not a frame of it for {house.now - link.heard:.1f} s, nor an answer to a ping"
    house.warn(text)
    if plays and not _only_unseen(role):
        return _react(house, role, role.turns(), text)
    child.last_words = text  # No work is lost with an understudy, nor with one whose turns no agent has seen.
    return child.kill(text, house.now)


def _is_looked_at(house: House, child: Child) -> bool:
    """Return whether the link is to be judged: not one that is silent, nor one whose hello waits for the log to be answered."""
    return not child.link.silent and child.link.welcome <= house.committed


def _only_unseen(role: Role) -> bool:
    """Return whether turns wait for the actor, or for room on the way to it, and none has begun: the next one gets them."""
    turns_had = [turn for _, turn in role.turns()]
    return bool(turns_had or role.waiting) and all(turn.state is TurnState.HANDED for turn in turns_had)


def _ping(house: House, child: Child) -> None:
    child.link.pinged = house.now
    house.tell_actor(child, Ping())


def _look_at_turns(house: House, role: Role) -> list[Kill]:
    spec = role.child.spec
    kills: list[Kill] = []
    if not spec.turn_timeout_s and not spec.quiet_timeout_s:
        return kills
    for session, turn in role.turns():
        over, quiet = _over_at(role, turn), _quiet_at(house, role, session, turn)
        if over is not None and house.now >= over:
            turn.over_told = True
            text = f"turn {turn.number} takes {house.now - turn.since:.1f} s; turn_timeout_s is {spec.turn_timeout_s:g}"
        elif quiet is not None and house.now >= quiet:
            turn.quiet_told = True
            quiet_s = house.now - max(turn.since, turn.progressed)
            text = f"turn {turn.number} is quiet for {quiet_s:.1f} s; quiet_timeout_s is {spec.quiet_timeout_s:g}"
        else:
            continue
        kills.extend(_react(house, role, [(session, turn)], text))
    return kills


def _over_at(role: Role, turn: Turn) -> float | None:
    timeout_s = role.child.spec.turn_timeout_s
    return turn.since + timeout_s if timeout_s and not turn.over_told and not turn.cancelled else None


def _quiet_at(house: House, role: Role, session: Session, turn: Turn) -> float | None:
    """Quiet is counted while nobody is asked, and while we can take what the agent says."""
    timeout_s = role.child.spec.quiet_timeout_s
    if not timeout_s or turn.quiet_told or turn.cancelled or session.asks or house.log_failed_at is not None:
        return None
    return max(turn.since, turn.progressed) + timeout_s


def _react(house: House, role: Role, hanging: list[tuple[Session, Turn]], text: str) -> list[Kill]:
    """Do what the agent's `on_hang` says; whatever that is, it is written into the sessions."""
    child, what = role.child, role.child.spec.on_hang
    then = {
        OnHang.TELL: "; cancel the turn, or wait",
        OnHang.CANCEL: "; the turn is cancelled",
        OnHang.RESTART: "; the actor is restarted",
    }
    for session, turn in hanging:
        house.write(session, "note", turn.number, {"text": text + then[what]})
    match what:
        case OnHang.TELL:
            pass
        case OnHang.CANCEL:
            for session, turn in hanging:
                turns.cancel(house, session, turn.number)
        case OnHang.RESTART:
            child.last_words = text
            return child.kill(text, house.now)
    return []


def _look_within(house: House, wait_s: float) -> None:
    house.due = min(house.due, house.now + wait_s)
