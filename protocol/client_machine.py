"""The client's side of the conversation: requests, follows, credit, reconnects. Pure.

It never reads a socket or a clock: the client library (`client`) tells it what happened and
sends what `frames_to_send` returns. After a broken connection it asks again for everything
that is unanswered (a request id is accepted once) and follows on from the next number.

Numbers hold for one generation of the house's log. When another one begins, whatever refers to a number ends.
"""

from collections import Counter
from dataclasses import dataclass
from typing import TypeGuard, assert_never

from understudy.protocol.errors import (
    BAD_FRAME,
    CONNECTION_LOST,
    GENERATION_CHANGED,
    NO_HELLO,
    UNKNOWN_ASK,
    VERSION_MISMATCH,
)
from understudy.protocol.frames import (
    CREDIT_BYTES,
    ENTRY_OVERHEAD_BYTES,
    PROTOCOL_VERSION,
    Accepted,
    Answer,
    Ask,
    Call,
    Cancel,
    Credit,
    Entries,
    Entry,
    Fault,
    Follow,
    FromClient,
    Goodbye,
    Hello,
    Open,
    Opened,
    Part,
    Ping,
    Pong,
    Prompt,
    Result,
    ToClient,
    Unfollow,
    Verb,
    Welcome,
)
from understudy.protocol.standing import Standing
from understudy.protocol.verbs import NOT_TO_REPEAT

ANSWERS_KEPT_MAX = 64  # The newest answers to questions, which are said again after a reconnect,
ANSWERS_KEPT_BYTES_MAX = 32 << 20  # as long as they are no more than so many bytes.
RENUMBERED = (
    "the log of the house has begun a new generation, and may have lost its last moments: what was numbered before may "
    "be gone, or something else by now; look at the session anew"
)

Request = Open | Prompt | Cancel | Call | Verb


@dataclass(frozen=True, slots=True)
class Replied:
    """The one answer to a request."""

    request: str
    frame: Opened | Accepted | Result | Fault


@dataclass(frozen=True, slots=True)
class Arrived:
    """The next entries of a follow. Numbers below `number` were seen before: the first entry may begin with some."""

    follow: int
    number: int
    entries: list[Entry]


@dataclass(frozen=True, slots=True)
class FollowEnded:
    """The house will send nothing more for this follow, and why."""

    follow: int
    fault: Fault


@dataclass(frozen=True, slots=True)
class Asked:
    """The agent asks something that this client said it serves."""

    ask: Ask


@dataclass(frozen=True, slots=True)
class Welcomed:
    """The house answered the hello. `lost`: its log may have lost numbers that were told before."""

    welcome: Welcome
    lost: bool


@dataclass(frozen=True, slots=True)
class HelloRefused:
    """The house will not speak with us: trying again is of no use."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class HelloDeferred:
    """The house, which knew us, will not speak with us now: to be tried again later."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class Unheard:
    """The house does not know this connection any more, or cannot read what we say on it: only a new one helps."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class HouseLeft:
    """The house said goodbye."""

    reason: str


Happening = Replied | Arrived | FollowEnded | Asked | Welcomed | HelloRefused | HelloDeferred | Unheard | HouseLeft


@dataclass(slots=True)
class Place:
    """Where one follow stands: the next number wanted, bytes received and not yet consumed, bytes to give back."""

    session: str
    next: int
    window: int
    unconsumed: int = 0
    owed: int = 0
    holds: bool = False


class ClientMachine:
    """The state machine of one client over all its connections."""

    def __init__(self, client: str, name: str = "", pid: int = 0) -> None:
        self.client = client
        self.name = name
        self.pid = pid
        self.standing = Standing.DOWN
        self.generation = 0  # 0: no house with a log has answered yet (safe mode has none).
        self.pending: dict[str, Request] = {}
        self.places: dict[int, Place] = {}
        self._sent: set[str] = set()
        self._cancelling: Counter[str] = Counter()  # By session: how many cancels of everything in it are unanswered.
        self._answers: dict[str, Answer] = {}
        # Answers that the house refused as late: they are said again only if it asks again.
        self._unwanted: set[str] = set()
        # Names of requests and answers that were under way when the house said that it could not read something.
        self._doubted: set[str] = set()
        self._out: list[FromClient] = []
        self._follows = 0
        self._connections = 0
        self._welcomed = False

    def connected(self) -> None:
        """A fresh connection is there: nothing but the hello goes out before it is answered."""
        assert self.standing is Standing.DOWN, f"connected while {self.standing.value}"
        self.standing = Standing.GREETING
        self._connections += 1
        self._out = [Hello(PROTOCOL_VERSION, self.client, self.pid, self.name, self._connections)]

    def disconnected(self) -> list[Happening]:
        """The connection is gone. What may have been carried out and would be twice is answered: nobody knows."""
        if self.standing is Standing.REFUSED:
            return []
        self.standing = Standing.DOWN
        self._out = []
        happenings: list[Happening] = []
        for name, frame in list(self.pending.items()):
            if name in self._sent and (what := _not_to_repeat(frame)):
                self._take(name)
                text = f"the connection broke while {what} was under way; it may have been carried out"
                happenings.append(Replied(name, Fault(CONNECTION_LOST, text, name)))
        self._sent.clear()
        return happenings

    def misread(self, text: str) -> list[Happening]:
        """The house said what is no frame: it may have been the answer to anything. `disconnected` follows."""
        if self.standing is not Standing.UP:
            return []
        return [each for each in self._nameless(Fault(BAD_FRAME, text)) if isinstance(each, Replied)]

    def request(self, frame: Request) -> None:
        """Ask for something; `Replied` with the same request id follows, over as many connections as it takes.

        A prompt waits for the answers to cancels of everything that were asked for before it in its session: said
        again on a new connection, such a cancel would mean the prompt as well.
        """
        assert frame.request not in self.pending, f"request {frame.request} is under way"
        self.pending[frame.request] = frame
        if self.standing is Standing.UP and not (type(frame) is Prompt and self._cancelling[frame.session]):
            self._send(frame)
        if _cancels_all(frame):
            self._cancelling[frame.session] += 1

    def abandon(self, request: str) -> None:
        """Nobody waits for this answer any more; the house may carry the request out all the same."""
        self._take(request)

    def answer(self, frame: Answer) -> None:
        """Answer a question. Said again on each new connection: it may have been lost, and only the first one counts."""
        self._let_go(frame.ask)
        self._answers[frame.ask] = frame
        while len(self._answers) > ANSWERS_KEPT_MAX or (
            len(self._answers) > 1 and sum(len(each.body) for each in self._answers.values()) > ANSWERS_KEPT_BYTES_MAX
        ):
            self._let_go(next(iter(self._answers)))
        if self.standing is Standing.UP:
            self._out.append(frame)

    def ask_whether_known(self) -> None:
        """Nothing has been heard for a while: a house that has forgotten us says so."""
        if self.standing is Standing.UP:
            self._out.append(Ping())

    def follow(self, session: str, number: int, window: int = CREDIT_BYTES, holds: bool = False) -> int:
        """Follow `session` from `number`; return the follow's id. `holds`: as in `Follow`."""
        self._follows += 1
        self.places[self._follows] = place = Place(session, max(1, number), window, holds=holds)
        if self.standing is Standing.UP:
            self._out.append(self._follow(self._follows, place))
        return self._follows

    def unfollow(self, follow: int) -> None:
        """No more of this follow."""
        if self.places.pop(follow, None) is not None and self.standing is Standing.UP:
            self._out.append(Unfollow(follow))

    def consumed(self, follow: int, size: int) -> bool:
        """`size` bytes of a follow's entries (as `cost` counts them) have been dealt with: they are credit again.

        Return whether that is to be sent now.
        """
        place = self.places.get(follow)
        if place is None:
            return False
        place.unconsumed -= size
        place.owed += size
        if place.owed < place.window // 2 or self.standing is not Standing.UP:
            return False
        self._out.append(Credit(follow, place.owed))
        place.owed = 0
        return True

    def leave(self, reason: str = "") -> None:
        """Say goodbye."""
        if self.standing is Standing.UP:
            self._out.append(Goodbye(reason))

    def frames_to_send(self) -> list[FromClient]:
        """Return what is to be sent now, once."""
        out, self._out = self._out, []
        return out

    def receive(self, frame: ToClient) -> list[Happening]:
        """Take one frame of the house's; return what it means."""
        match frame:
            case Entries():
                return self._entries(frame)
            case Accepted() | Opened() | Result():
                if not self._take(frame.request):
                    return []  # Nobody waits for it: it was answered before.
                return [Replied(frame.request, frame)]
            case Fault():
                return self._fault(frame)
            case Welcome():
                return self._welcome(frame)
            case Ask():
                return [] if self._is_answered(frame.ask) else [Asked(frame)]
            case Ping():
                self._out.append(Pong())
                return []
            case Goodbye(reason=reason):
                return [HouseLeft(reason)]
            case Pong() | Part():
                return []

    def _welcome(self, frame: Welcome) -> list[Happening]:
        if self.standing is not Standing.GREETING:
            return []
        self.standing, self._welcomed = Standing.UP, True
        lost = 0 not in (self.generation, frame.generation) and self.generation != frame.generation
        self.generation = frame.generation or self.generation
        happenings = [Welcomed(frame, lost), *(self._renumbered() if lost else [])]
        for number, place in self.places.items():
            self._out.append(self._follow(number, place))
        self._send_unsent()
        self._out.extend(answer for ask, answer in self._answers.items() if ask not in self._unwanted)
        return happenings

    def _renumbered(self) -> list[Happening]:
        """Another generation has begun: end what refers to numbers of the one before."""
        happenings: list[Happening] = []
        for number in [number for number, place in self.places.items() if place.next > 1]:
            del self.places[number]
            happenings.append(FollowEnded(number, Fault(GENERATION_CHANGED, RENUMBERED, f"follow:{number}")))
        for name in [name for name, frame in self.pending.items() if isinstance(frame, Cancel) and frame.turn]:
            self._take(name)
            happenings.append(Replied(name, Fault(GENERATION_CHANGED, RENUMBERED, name)))
        for ask in list(self._answers):
            self._let_go(ask)
        return happenings

    def _take(self, name: str) -> bool:
        """Let go of a request that has its answer; return False when it had one before."""
        frame = self.pending.pop(name, None)
        self._sent.discard(name)
        self._doubted.discard(name)
        if frame is not None and _cancels_all(frame):
            self._cancelling[frame.session] -= 1
            if not self._cancelling[frame.session]:
                del self._cancelling[frame.session]
            if self.standing is Standing.UP:
                self._send_unsent()
        return frame is not None

    def _is_answered(self, ask: str) -> bool:
        """Return whether a question that is put to us has our answer, or gets it again: it is not served twice.

        One whose answer was lost with a connection got it with the next hello; unless whoever asks came back later.
        """
        if ask in self._unwanted:
            self._unwanted.discard(ask)
            self._out.append(self._answers[ask])
        return ask in self._answers

    def _let_go(self, ask: str) -> None:
        """Say an answer no more."""
        self._answers.pop(ask, None)
        self._unwanted.discard(ask)
        self._doubted.discard(_answer_name(ask))

    def _send_unsent(self) -> None:
        cancelling: set[str] = set()
        for name, frame in self.pending.items():
            if name not in self._sent and not (type(frame) is Prompt and frame.session in cancelling):
                self._send(frame)
            if _cancels_all(frame):
                cancelling.add(frame.session)

    def _send(self, frame: Request) -> None:
        self._sent.add(frame.request)
        self._out.append(frame)

    def _follow(self, number: int, place: Place) -> Follow:
        place.owed = 0
        return Follow(number, place.session, place.next, max(1, place.window - place.unconsumed), place.holds)

    def _entries(self, frame: Entries) -> list[Happening]:
        place = self.places.get(frame.follow)
        if place is None:
            return []
        number = place.next
        fresh: list[Entry] = []
        for entry in frame.entries:
            if entry.last < place.next or entry.session != place.session:
                continue  # It was there already, as happens around a reconnect, or belongs to another session.
            if entry.first > place.next:
                # Entries are missing: follow anew from the number that is next.
                self._out.append(self._follow(frame.follow, place))
                break
            place.next = entry.last + 1
            place.unconsumed += cost(entry)
            fresh.append(entry)
        return [Arrived(frame.follow, number, fresh)] if fresh else []

    def _fault(self, frame: Fault) -> list[Happening]:
        if frame.code == NO_HELLO and self.standing in (Standing.GREETING, Standing.UP):
            self._sent.discard(frame.request)  # It was certainly not carried out, so even a call can be said again.
            return [Unheard(frame)]
        if not frame.request:
            return self._nameless(frame)
        kind, _, name = frame.request.partition(":")
        if kind == "follow" and name.isdecimal() and len(name) < 20 and self.places.pop(int(name), None) is not None:
            return [FollowEnded(int(name), frame)]
        if kind == "answer" and frame.code == UNKNOWN_ASK and name in self._answers:
            self._unwanted.add(name)
        elif kind == "answer":
            self._let_go(name)
        return [Replied(frame.request, frame)] if self._take(frame.request) else []

    def _nameless(self, fault: Fault) -> list[Happening]:
        """Act on a fault that names nothing: it is to the hello, or to something that the house could not read.

        Then all that was sent and not answered is said once more, on a new connection, since parts of a frame may lie
        on this one; what was under way a second time is refused with this fault.
        """
        if self.standing is Standing.GREETING:
            if self._welcomed and fault.code != VERSION_MISMATCH:
                return [HelloDeferred(fault)]
            self.standing = Standing.REFUSED
            return [HelloRefused(fault)]
        if self.standing is not Standing.UP:
            return []
        happenings: list[Happening] = []
        for name in [name for name in self._sent if name in self._doubted]:
            self._take(name)
            happenings.append(Replied(name, Fault(fault.code, fault.text, name, fault.body)))
        for ask, answer in self._answers.items():
            if _answer_name(ask) in self._doubted:  # The agent waits, so it gets an error for an answer.
                self._answers[ask] = Answer(answer.session, ask, error="the house could not read the answer")
        self._doubted.update(self._sent, map(_answer_name, self._answers))
        return [*happenings, Unheard(fault)]


def _answer_name(ask: str) -> str:
    """Return what the house calls an answer in a fault."""
    return f"answer:{ask}"


def _not_to_repeat(frame: Request) -> str:
    """Return the name of what the house does not remember and does again when it is said again, "" for anything else."""
    match frame:
        case Call(method=method):
            return method
        case Verb(verb=verb):
            return verb if verb in NOT_TO_REPEAT else ""
        case Open() | Prompt() | Cancel():
            return ""
        case _:
            assert_never(frame)


def _cancels_all(frame: Request) -> TypeGuard[Cancel]:
    return type(frame) is Cancel and not frame.turn


def cost(entry: Entry) -> int:
    """Return what an entry costs of a follow's credit, in bytes."""
    return len(entry.body) + ENTRY_OVERHEAD_BYTES
