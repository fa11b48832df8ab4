"""What goes to followers and actors from the log, read when it is their turn: one thing at a time is in memory.

A read that fails for now is tried again; what cannot be read for good is told to the core. Decides nothing else.
"""

import asyncio
from collections import deque
from collections.abc import Callable

import msgspec

from understudy.protocol.frames import ActorCall, Handover
from understudy.protocol.news import LogUnreadable, News
from understudy.supervisor.core.events import EntriesRead, Event, ReadEntries, TellActor, Unreadable
from understudy.supervisor.log.log import Log, LogError
from understudy.supervisor.shell.sockets import Router

LOG_RETRY_S = 0.25
READ_BYTES_MAX = 1 << 20


class ReadBack:
    """Reads `log` for the core: `push` takes its events; `is_there(client)` says whether anybody still wants them."""

    def __init__(
        self,
        log: Log,
        backstage: Router,
        push: Callable[[Event], None],
        is_there: Callable[[bytes], bool],
        announce: Callable[[News], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._log, self._backstage, self._push, self._is_there, self._announce = (
            log,
            backstage,
            push,
            is_there,
            announce,
        )
        self._reads: deque[ReadEntries] = deque()
        self._scheduled = False
        self._waiting: dict[bytes, deque[TellActor]] = {}  # Of each peer for which the log could not be read.

    # --- for followers ---

    def read(self, effect: ReadEntries) -> None:
        """Read entries when all that was asked for before has been read."""
        self._reads.append(effect)
        self._schedule()

    def _schedule(self) -> None:
        if self._reads and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._read)

    def _read(self) -> None:
        self._scheduled = False
        while self._reads and not self._is_there(self._reads[0].peer):
            self._reads.popleft()
        if not self._reads:
            return
        effect = self._reads.popleft()
        try:
            entries = self._log.read(effect.session, effect.number, min(effect.bytes_max, READ_BYTES_MAX))
        except LogError as error:
            self._announce(LogUnreadable(str(error)))
            if error.passes:
                self._loop.call_later(LOG_RETRY_S, self.read, effect)
            else:
                self._push(EntriesRead(effect.peer, effect.follow, [], effect.serial, str(error)))
        else:
            self._push(EntriesRead(effect.peer, effect.follow, entries, effect.serial))
            del entries
        self._schedule()  # Behind the step that takes the entries.

    # --- for actors ---

    def tell(self, effect: TellActor) -> None:
        """Send it with what it misses; or behind what waits for the same actor."""
        waiting = self._waiting.get(effect.peer)
        if waiting is not None:
            waiting.append(effect)
            return
        if not effect.missing:
            self._backstage.send(effect.peer, effect.frame, effect.lazily)
            return
        frame = effect.frame
        assert isinstance(frame, Handover | ActorCall), f"{frame} misses {effect.missing}"
        try:
            found = {name: self._missing(frame, name) for name in effect.missing}
        except LogError as error:
            self._announce(LogUnreadable(str(error)))
            if error.passes:
                self._waiting[effect.peer] = deque([effect])
                self._loop.call_later(LOG_RETRY_S, self._tell_on, effect.peer)
            else:
                self._push(Unreadable(frame, str(error)))
            return
        self._backstage.send(effect.peer, msgspec.structs.replace(frame, **found))
        self._backstage.flush()  # Before the next one is read.

    def _missing(self, frame: Handover | ActorCall, name: str) -> bytes:
        match name:
            case "opening":
                return self._log.opening(frame.session)
            case "memory":
                return self._log.memory(frame.session)
            case _:
                assert isinstance(frame, Handover), f"{frame} has no {name} in the log"
                return self._log.prompt(frame.session, frame.turn)

    def _tell_on(self, peer: bytes) -> None:
        for effect in self._waiting.pop(peer):
            self.tell(effect)
        self._backstage.flush()
