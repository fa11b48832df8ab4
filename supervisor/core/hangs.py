"""Hangs: an actor that is silent on the link, a turn that takes too long or makes no progress. Pure.

Three signals are kept apart: the process (the keeper's word), the link (any frame of the actor, asked for by a
ping when there was none), and progress (entries of the turn, while nobody is asked and the log can write).
"""

from collections.abc import Iterable

from msgspec.structs import replace

from understudy.protocol.frames import Ping
from understudy.protocol.news import ActorHeard, ActorHung, TurnOverdue, TurnQuiet
from understudy.supervisor.core import turns
from understudy.supervisor.core.events import Kill
from understudy.supervisor.core.house import PING_BUSY_EVERY_S, House
from understudy.supervisor.core.life import Actor, Heard, Reason, State, Why
from understudy.supervisor.core.sessions import Session, Turn, TurnState
from understudy.supervisor.core.specs import AgentSpec, OnHang

ANSWER_S_MAX = 1.75  # A ping unanswered for so long means a silent link: with the pause before it, under 3 s.


Hanging = ActorHung | TurnOverdue | TurnQuiet


def greeted(house: House, actor: Actor) -> None:
    """The actor has a new connection: it is heard from now on."""
    actor.heard = Heard(house.now, house.after)


def suspended(house: House, actor: Actor) -> None:
    """A signal suspended its process: ask it at once, and give it as long as any for the answer.

    What it said before may come after: see `heard`.
    """
    if actor.state is State.RUNNING and _is_looked_at(house, actor):
        actor.heard.doubted = True
        if actor.heard.pinged is None:
            _ping(house, actor)
        house.touch(actor)


def heard(house: House, actor: Actor, is_pong: bool) -> None:
    """Any frame of the actor's proves the link; of one that was suspended, the answer to a ping after its next answer does."""
    last = actor.heard
    if last.silent:
        news = ActorHeard(actor.agent, actor.name, actor.epoch, house.now - last.at)
        house.announce(news)
        for session, turn in house.turns_of(actor):
            house.note(session, turn.number, news)
        house.touch(actor)
    last.at, last.silent = house.now, False
    if not last.doubted:
        last.pinged = None
    elif is_pong:
        last.doubted = False
        _ping(house, actor)
        house.touch(actor)
    else:
        last.pinged = house.now


def progressed(house: House, session: Session) -> None:
    """The session's turn has a new entry, or an answer."""
    if session.current is not None:
        session.current.progressed, session.current.quiet_told = house.now, False


def dues(house: House, actor: Actor) -> list[float]:
    """Return when to look again: at the link of an actor that is busy or pinged, at each turn that has a timeout."""
    found = []
    if actor.state is State.RUNNING and _is_looked_at(house, actor):
        if actor.heard.pinged is not None:
            found.append(actor.heard.pinged + ANSWER_S_MAX)
        elif actor.playing:
            found.append(actor.heard.at + PING_BUSY_EVERY_S)
    if actor.playing:
        spec = house.agents[actor.agent].spec
        if spec.turn_timeout_s or spec.quiet_timeout_s:
            for session, turn in house.turns_of(actor):
                found.extend(due for due in (_over_at(spec, turn), _quiet_at(house, spec, session, turn)) if due)
    return found


def ticked(house: House, actors: Iterable[Actor], ping_idle: bool, late: bool) -> list[Kill]:
    """Look at the links of `actors`, and at their turns with a timeout; return which of them are to end.

    `ping_idle`: ask also who has no turn; `late`: we were held up, and what they said waits to be read.
    """
    kills: list[Kill] = []
    for actor in actors:
        if actor.state is State.RUNNING and actor.peer is not None:
            kills.extend(_look_at_link(house, actor, ping_idle, late))
        if actor.playing and not late:
            kills.extend(_look_at_turns(house, actor))
    return kills


def _look_at_link(house: House, actor: Actor, ping_idle: bool, late: bool) -> list[Kill]:
    last = actor.heard
    if last.silent and actor.agent and _only_unseen(house, actor):  # They were handed over since: it did not play then.
        text = f"{actor.title} hangs: not a frame of it for {house.now - last.at:.1f} s"
        actor.last_words = Why(Reason.HANGS, text)
        return actor.kill(actor.last_words, house.now)
    if not _is_looked_at(house, actor):
        return []
    if last.pinged is None:
        if ping_idle or (actor.playing and house.now >= last.at + PING_BUSY_EVERY_S):
            _ping(house, actor)
        return []
    if late:
        last.pinged = house.now
    if house.now < last.pinged + ANSWER_S_MAX:
        return []
    last.silent = True
    hung = ActorHung(actor.agent, actor.name, actor.epoch, house.now - last.at)
    house.announce(hung)
    if actor.agent and not _only_unseen(house, actor):
        return _react(house, actor, house.turns_of(actor), hung)
    # No work is lost with an understudy, nor with one whose turns no agent has seen.
    actor.last_words = Why(Reason.HANGS, str(hung))
    return actor.kill(actor.last_words, house.now)


def _is_looked_at(house: House, actor: Actor) -> bool:
    """Return whether the link is to be judged: not one that is silent, nor one whose hello waits for the log to be answered."""
    return not actor.heard.silent and actor.heard.welcome <= house.committed


def _only_unseen(house: House, actor: Actor) -> bool:
    """Return whether turns wait for the actor, or for room on the way to it, and none has begun: the next one gets them."""
    turns_had = [turn for _, turn in house.turns_of(actor)]
    waiting = house.agents[actor.agent].waiting.get(actor.environment)
    return bool(turns_had or waiting) and all(turn.state is TurnState.HANDED for turn in turns_had)


def _ping(house: House, actor: Actor) -> None:
    actor.heard.pinged = house.now
    house.tell_actor(actor, Ping())


def _look_at_turns(house: House, actor: Actor) -> list[Kill]:
    spec = house.agents[actor.agent].spec
    kills: list[Kill] = []
    if not spec.turn_timeout_s and not spec.quiet_timeout_s:
        return kills
    for session, turn in house.turns_of(actor):
        if turn.since is None:
            continue  # It is not on its way yet.
        over, quiet = _over_at(spec, turn), _quiet_at(house, spec, session, turn)
        if over is not None and house.now >= over:
            turn.over_told = True
            news: Hanging = TurnOverdue(session.id, turn.number, house.now - turn.since, spec.turn_timeout_s)
        elif quiet is not None and house.now >= quiet:
            turn.quiet_told = True
            quiet_s = house.now - max(turn.since, turn.progressed)
            news = TurnQuiet(session.id, turn.number, quiet_s, spec.quiet_timeout_s)
        else:
            continue
        kills.extend(_react(house, actor, [(session, turn)], news))
    return kills


def _over_at(spec: AgentSpec, turn: Turn) -> float | None:
    timeout_s = spec.turn_timeout_s
    if not timeout_s or turn.since is None or turn.over_told or turn.cancelled:
        return None
    return turn.since + timeout_s


def _quiet_at(house: House, spec: AgentSpec, session: Session, turn: Turn) -> float | None:
    """Quiet is counted while nobody is asked, and while we can take what the agent says."""
    timeout_s = spec.quiet_timeout_s
    if not timeout_s or turn.since is None or turn.quiet_told or turn.cancelled:
        return None
    if session.asks or house.log_failed_at is not None:
        return None
    return max(turn.since, turn.progressed) + timeout_s


def _react(house: House, actor: Actor, turns_had: list[tuple[Session, Turn]], news: Hanging) -> list[Kill]:
    """Do what the agent's `on_hang` says; whatever that is, it is written into the sessions."""
    what = house.agents[actor.agent].spec.on_hang
    told = replace(news, then=what.value)
    for session, turn in turns_had:
        house.note(session, turn.number, told)
    match what:
        case OnHang.TELL:
            pass
        case OnHang.CANCEL:
            for session, turn in turns_had:
                turns.cancel(house, session, turn.number)
        case OnHang.RESTART:
            actor.last_words = Why(Reason.HANGS, str(news))
            return actor.kill(actor.last_words, house.now)
    return []
