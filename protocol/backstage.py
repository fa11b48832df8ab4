"""The actor's side of the conversation: hello, begin and go, numbers, acknowledgements. Pure.

Everything that must reach the log has the actor's own number and is kept until it is
acknowledged; a new connection learns the last committed number and gets the rest again.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any, assert_never

from understudy.protocol import bodies, mending
from understudy.protocol.bodies import clipped
from understudy.protocol.codec import array, refusal
from understudy.protocol.errors import BAD_FRAME, LIMIT_REACHED, NO_HELLO, LocalError
from understudy.protocol.frames import (
    BACKSTAGE_VERSION,
    ActorCall,
    ActorHello,
    Answer,
    Ask,
    Begin,
    CancelTurn,
    Ended,
    Fault,
    FromActor,
    Go,
    Goodbye,
    Handover,
    Part,
    Ping,
    Pong,
    Recorded,
    Remember,
    Result,
    Stop,
    ToActor,
    Updates,
    Welcome,
    pack,
)
from understudy.protocol.sizes import (
    CODE_CHARACTERS_MAX,
    ENTRY_BYTES_MAX,
    MEMORY_BYTES_MAX,
    METHOD_CHARACTERS_MAX,
    REASON_CHARACTERS_MAX,
    TEXT_CHARACTERS_MAX,
    UPDATES_PER_FRAME_MAX,
)
from understudy.protocol.standing import Standing

UNRECORDED_BYTES_MAX = 4 << 20  # At this much unacknowledged, `may_speak` turns false and the driver waits.
UPDATES_BYTES_MAX = 256 << 10
NUMBERED_OVERHEAD_BYTES = 128
NOTHING = pack({})
# Of what cannot be sent as it is, this is not mended: whoever wrote the agent's code gets an error.
UNMENDED = frozenset({mending.NESTING, mending.THING})


@dataclass(frozen=True, slots=True)
class TurnHanded:
    """A turn to play; `go` says that its start needs no leave."""

    handover: Handover


@dataclass(frozen=True, slots=True)
class GoGiven:
    """The turn's start is committed."""

    session: str
    turn: int


@dataclass(frozen=True, slots=True)
class TurnCancelled:
    """Cancel the turn."""

    session: str
    turn: int


@dataclass(frozen=True, slots=True)
class Answered:
    """A question has its answer."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class Called:
    """A request outside any turn."""

    call: ActorCall


@dataclass(frozen=True, slots=True)
class StopAsked:
    """End in order."""

    grace_s: float


@dataclass(frozen=True, slots=True)
class Freed:
    """Something was acknowledged: who waited to speak may look again."""


@dataclass(frozen=True, slots=True)
class EndRecorded:
    """The turn's ending is in the log: nobody asks any more whether its agent saw it."""

    session: str
    turn: int


@dataclass(frozen=True, slots=True)
class LinkRefused:
    """The supervisor does not want this incarnation."""

    text: str


Cue = TurnHanded | GoGiven | TurnCancelled | Answered | Called | StopAsked | Freed | EndRecorded | LinkRefused
Numbered = Updates | Ended | Ask | Remember


@dataclass(slots=True)
class _Gathering:
    """Updates of one turn that are not yet a frame."""

    session: str
    turn: int
    updates: list[bytes]
    size: int = 0
    mended: bool = False


class Backstage:
    """The state machine of one actor over all its connections."""

    def __init__(self, actor: str, epoch: int, pid: int) -> None:
        self.actor = actor
        self.epoch = epoch
        self.pid = pid
        self.ready = True  # False: it could not start, and connects only to say why.
        self.standing = Standing.DOWN
        self.parted = False  # Our goodbye was answered, so everything before it was heard.
        self.unrecorded_bytes = 0
        self._number = 0
        self._connections = 0
        self._kept: deque[tuple[Numbered, int]] = deque()
        self._gathering: _Gathering | None = None
        self._playing: dict[tuple[str, int], bool] = {}  # (session, turn) -> whether `go` has come.
        self._beginning: dict[tuple[str, int], None] = {}
        self._over: set[tuple[str, int]] = set()  # Turns whose endings are not acknowledged.
        self._asked: dict[str, Ask] = {}
        # Turns for which it was said already that something in them was mended.
        self._mended: set[tuple[str, int]] = set()
        self._out: list[FromActor] = []

    @property
    def may_speak(self) -> bool:
        """Whether less than the bound is unacknowledged."""
        return self.unrecorded_bytes < UNRECORDED_BYTES_MAX

    @property
    def all_recorded(self) -> bool:
        """Whether everything that was said is acknowledged."""
        return not self._kept and self._gathering is None

    def connected(self) -> None:
        """A fresh connection is there: nothing but the hello goes out before it is answered."""
        self.standing = Standing.GREETING
        self._connections += 1
        self._out = [ActorHello(BACKSTAGE_VERSION, self.actor, self.epoch, self.pid, self._connections, self.ready)]

    def disconnected(self) -> None:
        """The connection is gone; what is kept goes out again after the next hello."""
        if self.standing is not Standing.REFUSED:
            self.standing = Standing.DOWN
        self._out = []

    def begin(self, session: str, turn: int) -> bool:
        """Ask for leave to start the turn; return True when it was given before."""
        if self._playing.get((session, turn), False):
            return True
        self._beginning[session, turn] = None
        self._tell(Begin(session, turn))
        return False

    def say(self, session: str, turn: int, update: dict[str, Any]) -> None:
        """Say one update. After the turn's ending it belongs to no turn. Raises `LocalError`, as `ask` and `remember` do."""
        if (session, turn) not in self._playing:
            turn = 0
        packed, mended = bodies.packed_quickly(update), False
        if packed is None:
            packed, mended = _packed(update)
        if type(update) is not dict:
            raise LocalError(BAD_FRAME, f"an update is a map with a `sessionUpdate`, not {type(update).__name__}")
        gathering = self._gathering
        if (
            gathering is None
            or (gathering.session, gathering.turn) != (session, turn)
            or len(gathering.updates) >= UPDATES_PER_FRAME_MAX
            or gathering.size + len(packed) > UPDATES_BYTES_MAX
        ):
            self._gather()
            gathering = self._gathering = _Gathering(session, turn, [])
        if mended and self._first_mended(session, turn):
            gathering.mended = True
        gathering.updates.append(packed)
        gathering.size += len(packed)
        self.unrecorded_bytes += len(packed)

    def end(self, session: str, turn: int, reason: str, body: dict[str, Any] | None = None) -> None:
        """Say the one ending of a turn that was handed over, whatever is in it: what cannot be sent is cut or mended."""
        assert (session, turn) in self._playing, f"turn {turn} of {session} is not being played"
        packed, mended = _packed_anyhow(body) if body else (NOTHING, False)
        self._gather()
        mended = mended and self._first_mended(session, turn)
        self._mended.discard((session, turn))
        del self._playing[session, turn]
        self._beginning.pop((session, turn), None)
        if self._asked:
            self._asked = {name: ask for name, ask in self._asked.items() if (ask.session, ask.turn) != (session, turn)}
        self._over.add((session, turn))
        self._number += 1
        reason = clipped(reason, REASON_CHARACTERS_MAX)
        self._keep(Ended(self._number, session, turn, reason, packed, mended), len(packed))

    def ask(self, session: str, turn: int, method: str, body: Any, public: bool) -> str:
        """Ask a question; return the id that its answer will bear."""
        packed, mended = _packed(body)  # Before the number is taken: if this fails, the number would be a gap.
        if len(method) > METHOD_CHARACTERS_MAX:
            raise LocalError(
                LIMIT_REACHED, f"a method of {len(method)} characters; the limit is {METHOD_CHARACTERS_MAX}"
            )
        self._gather()
        self._number += 1
        name = f"{self.actor}#{self.epoch}.{self._number}"
        self._asked[name] = frame = Ask(
            self._number,
            session,
            turn,
            name,
            clipped(method, METHOD_CHARACTERS_MAX),
            packed,
            public,
            mended and self._first_mended(session, turn),
        )
        self._keep(frame, len(packed))
        return name

    def remember(self, session: str, body: Any) -> None:
        """Keep `body` for the session across actors."""
        packed, _ = _packed(body, MEMORY_BYTES_MAX)
        self._gather()
        self._number += 1
        self._keep(Remember(self._number, session, packed), len(packed))

    def answer_call(self, request: str, body: Any) -> None:
        """Answer a call. Raises `LocalError` when `body` cannot be sent."""
        packed, _ = _packed(body)
        self._gather()
        self._tell(Result(request, packed))

    def refuse_call(self, request: str, code: str, text: str, detail: Any = None) -> None:
        """Answer a call with a fault."""
        self._gather()
        packed, _ = _packed_anyhow(detail)
        self._tell(Fault(clipped(code, CODE_CHARACTERS_MAX), clipped(text, TEXT_CHARACTERS_MAX), request, packed))

    def leave(self, reason: str) -> None:
        """Say goodbye, with the reason that people will read."""
        self._gather()
        self._tell(Goodbye(clipped(reason, TEXT_CHARACTERS_MAX)))

    def frames_to_send(self) -> list[FromActor]:
        """Return what is to be sent now, once."""
        self._gather()
        out, self._out = self._out, []
        return out

    def receive(self, frame: ToActor) -> list[Cue]:
        """Take one frame of the supervisor's; return what it means."""
        match frame:
            case Recorded(n=n):
                return self._recorded(n)
            case Handover():
                return self._handed(frame)
            case Go():
                return self._go(frame)
            case CancelTurn(session=session, turn=turn):
                return [TurnCancelled(session, turn)] if (session, turn) in self._playing else []
            case Answer(ask=ask):
                self._asked.pop(ask, None)
                return [Answered(frame)]
            case ActorCall():
                return [Called(frame)]
            case Stop(grace_s=grace_s):
                return [StopAsked(grace_s)]
            case Welcome():
                return self._welcome(frame)
            case Fault():
                return self._fault(frame)
            case Ping():
                self._tell(Pong())
                return []
            case Goodbye():
                self.parted = True
                return [Freed()]
            case Pong() | Part():
                return []
            case _:
                assert_never(frame)

    def _fault(self, frame: Fault) -> list[Cue]:
        if frame.code != NO_HELLO:
            self.standing = Standing.REFUSED
            return [LinkRefused(frame.text)]
        # It has given our connection up: hello and all that is not acknowledged are said again.
        if self.standing is Standing.UP:
            self.connected()
        return []

    def _welcome(self, frame: Welcome) -> list[Cue]:
        self.standing = Standing.UP
        freed = self._recorded(frame.committed)
        # A question may be recorded and yet unknown to the supervisor that came after: it is put again.
        self._out.extend(ask for ask in self._asked.values() if ask.n <= frame.committed)
        self._out.extend(kept for kept, _ in self._kept)
        self._out.extend(Begin(session, turn) for session, turn in self._beginning)
        return freed

    def _recorded(self, number: int) -> list[Cue]:
        cues: list[Cue] = [Freed()]
        while self._kept:
            frame, size = self._kept[0]
            last = frame.n + frame.count - 1 if type(frame) is Updates else frame.n
            if last > number:
                break
            self._kept.popleft()
            self.unrecorded_bytes -= size
            if type(frame) is Ended:
                self._over.discard((frame.session, frame.turn))
                cues.append(EndRecorded(frame.session, frame.turn))
        return cues

    def _handed(self, frame: Handover) -> list[Cue]:
        key = (frame.session, frame.turn)
        # It waits for `go` and is handed over once more: the supervisor has not heard our `begin`.
        if key in self._beginning:
            self._tell(Begin(*key))
        if key in self._over or key in self._playing:
            return []  # It is the repeat of one that we play.
        self._playing[key] = frame.go
        return [TurnHanded(frame)]

    def _go(self, frame: Go) -> list[Cue]:
        key = (frame.session, frame.turn)
        if self._playing.get(key) is not False:
            return []  # It is the repeat of a `go`, or the turn is over.
        self._playing[key] = True
        self._beginning.pop(key, None)
        return [GoGiven(*key)]

    def _gather(self) -> None:
        """Make the gathered updates a frame."""
        gathering, self._gathering = self._gathering, None
        if gathering is None:
            return
        count = len(gathering.updates)
        frame = Updates(
            self._number + 1, gathering.session, gathering.turn, count, array(gathering.updates), gathering.mended
        )
        self._number += count
        self.unrecorded_bytes -= gathering.size
        self._keep(frame, gathering.size)

    def _keep(self, frame: Numbered, size: int) -> None:
        size += NUMBERED_OVERHEAD_BYTES
        self._kept.append((frame, size))
        self.unrecorded_bytes += size
        self._tell(frame)

    def _first_mended(self, session: str, turn: int) -> bool:
        """Return whether to tell that something in this turn was mended: once, and not of what belongs to no turn."""
        key = (session, turn)
        if key not in self._playing or key in self._mended:
            return False
        self._mended.add(key)
        return True

    def _tell(self, frame: FromActor) -> None:
        if self.standing is Standing.UP:
            self._out.append(frame)


def _packed(body: Any, bytes_max: int = ENTRY_BYTES_MAX) -> tuple[bytes, bool]:
    """Return `body` packed, and whether it was mended for that; raise `LocalError` naming why it cannot be sent.

    What JSON holds and a body does not (half characters, huge integers, NaN) is made fit: an agent may send it.
    """
    odd: set[str] = set()
    try:
        try:
            packed = pack(body)
            wrong = bodies.wrong_with(packed) if len(packed) <= bytes_max else ""
        except (UnicodeEncodeError, OverflowError) as error:
            packed, wrong = b"", refusal(error)
        if wrong:
            packed = pack(mending.mended(body, odd))
            wrong = wrong if odd & UNMENDED else bodies.wrong_with(packed)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise LocalError(BAD_FRAME, f"this cannot be sent: {error}; say what JSON can hold") from error
    if len(packed) > bytes_max:
        raise LocalError(LIMIT_REACHED, f"{len(packed)} bytes cannot be sent at once; the limit is {bytes_max}")
    if wrong:
        raise LocalError(BAD_FRAME, f"this cannot be sent: {wrong}; say what JSON can hold")
    return packed, bool(odd)


def _packed_anyhow(body: Any) -> tuple[bytes, bool]:
    """As `_packed`, or what of the code and the text can be sent: an ending is never left unsaid."""
    try:
        return _packed(body)
    except LocalError as error:
        known = body if isinstance(body, dict) else {}
        said, code = known.get("text"), known.get("code")
        text = clipped(said, TEXT_CHARACTERS_MAX) if isinstance(said, str) else ""
        text = f"{text} (the rest of it was dropped: {error.text})".strip()
        code = clipped(code if isinstance(code, str) else error.code, CODE_CHARACTERS_MAX)
        return pack({"code": code, "text": text}), True
