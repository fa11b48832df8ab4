"""Safe mode: what runs in the supervisor's place when that failed to start three times in a row.

No agents, no log; only the gateway, which says what is wrong. After a while it makes way for another try in earnest.
"""

import asyncio
import contextlib
import os
import socket
from pathlib import Path
from typing import Any

import zmq

from understudy.protocol import doors, verbs
from understudy.protocol.doors import about
from understudy.protocol.errors import SAFE_MODE
from understudy.protocol.frames import (
    PROTOCOL_VERSION,
    Fault,
    Frame,
    FromClient,
    Hello,
    Ping,
    Pong,
    Result,
    ToClient,
    Verb,
    Welcome,
)
from understudy.protocol.owners import open_ours
from understudy.protocol.paths import gateway_address
from understudy.protocol.stderr import say
from understudy.supervisor import pair
from understudy.supervisor.core.events import Ready, ShutdownAsked
from understudy.supervisor.core.specs import HouseSpec
from understudy.supervisor.core.succession import STATUS_RELOAD, STATUS_TRY_AGAIN
from understudy.supervisor.shell.sockets import Router

TRY_AGAIN_S = 60.0
FALL_CHARACTERS_MAX = 4_000
FLUSH_MS = 200
ENDS = {"shutdown": 0, "reload": STATUS_RELOAD}


def note_fall(runtime_dir: str, text: str) -> None:
    """Write down why a supervisor fell, for safe mode and `understudy doctor`."""
    with contextlib.suppress(OSError), open(_fall_path(runtime_dir), "w", opener=open_ours) as file:
        file.write(text[-FALL_CHARACTERS_MAX:])


def forget_fall(runtime_dir: str) -> None:
    """A supervisor starts: why one before it fell does not say why this one might."""
    with contextlib.suppress(OSError):
        _fall_path(runtime_dir).unlink(missing_ok=True)


def read_fall(runtime_dir: str) -> str:
    """Return why the last supervisor fell, "" when that is not known."""
    try:
        with open(_fall_path(runtime_dir), opener=open_ours) as file:
            return file.read().strip()
    except OSError:
        return ""


def _fall_path(runtime_dir: str) -> Path:
    return Path(runtime_dir, "last-fall")


def answer(house: HouseSpec, frame: FromClient) -> ToClient | None:
    """Return what safe mode says to `frame`, None for nothing. Pure but for our pid."""
    match frame:
        case Hello():
            return Welcome(PROTOCOL_VERSION, 0, 0, os.getpid())
        case Ping():
            return Pong()
        case Verb(verb=verb, body=body, request=request):
            match doors.asked(verb, body):
                case verbs.House():
                    why = read_fall(house.runtime_dir) or "no reason was left"
                    told: object = verbs.HouseStatus(os.getpid(), 0, why, list(house.command), house.source)
                case verbs.Shutdown() | verbs.Reload():
                    told = verbs.Leaving(os.getpid())
                case _:
                    return _refusal(house, request)
            return Result(request, doors.packed_answer(told))
        case _:
            request = about(frame)
            return _refusal(house, request) if request else None


def _refusal(house: HouseSpec, request: str) -> Fault:
    last = read_fall(house.runtime_dir).rpartition("\n")[2]
    text = (
        f"the house is in safe mode, without agents: its supervisor could not start ({last}); "
        "what was accepted is kept. See: understudy doctor. Then: understudy reload"
    )
    return Fault(SAFE_MODE, text, request)


class SafeMode:
    """The gateway, and the keeper's word."""

    def __init__(self, house: HouseSpec, keeper: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._house, self._keeper = house, keeper
        self.status: asyncio.Future[int] = loop.create_future()
        self._context: zmq.Context[Any] = zmq.Context()
        self._gateway = Router(
            self._context,
            gateway_address(house.runtime_dir),
            FromClient,
            house.state_dir,
            self._take,
            lambda _: None,
            lambda: None,
            lambda _: 1 << 40,  # Nobody confirms anything here.
            lambda _: None,
        )
        loop.add_reader(keeper.fileno(), self._hear)
        pair.send_if_room(keeper, Ready())
        loop.call_later(TRY_AGAIN_S, self._end, STATUS_TRY_AGAIN)

    def _take(self, peer: bytes, frames: list[Frame]) -> None:
        for frame in frames:
            said = answer(self._house, frame)  # type: ignore[arg-type]
            if said is not None:
                self._gateway.send(peer, said)
            if isinstance(frame, Verb) and isinstance(said, Result) and frame.verb in ENDS:
                asyncio.get_running_loop().call_soon(self._end, ENDS[frame.verb])  # Not in the midst of a drain.
        self._gateway.flush()

    def _hear(self) -> None:
        messages = pair.read_messages(self._keeper)
        if messages is None or any(isinstance(each, ShutdownAsked) for each in messages):
            self._end(0)

    def _end(self, status: int) -> None:
        if not self.status.done():
            asyncio.get_running_loop().remove_reader(self._keeper.fileno())
            self._gateway.close(FLUSH_MS)
            self._context.term()  # It sends what is due, as long as `close` says: the process would end before.
            self.status.set_result(status)


def main(house: HouseSpec, keeper: socket.socket) -> int:
    """Be in safe mode until told to end, or to try again; return the exit status. Called in the keeper's fork."""
    say("SAFE MODE: no agents run; see understudy doctor")

    async def run() -> int:
        return await SafeMode(house, keeper).status

    return asyncio.run(run())
