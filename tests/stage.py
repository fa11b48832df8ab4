"""A stage for one actor: a bound backstage socket that the test speaks for, and the actor's real process."""

import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any, TypeVar

import zmq

from understudy.protocol import processes
from understudy.protocol.frames import (
    PROTOCOL_VERSION,
    ActorHello,
    Frame,
    FromActor,
    Go,
    Handover,
    Part,
    Ping,
    Pong,
    Recorded,
    ToActor,
    Updates,
    Welcome,
    pack,
    unpack,
)
from understudy.protocol.messages import Joiner, decode, decoder, encode
from understudy.protocol.paths import backstage_address

WAIT_S_MAX = 60
ACTOR = """
import json, sys
from types import SimpleNamespace
from understudy.actors.actor import Role
from understudy.actors.entry import main
role, house, mark = json.loads(sys.argv[1])
sys.exit(main(lambda: (Role(**role), mark), SimpleNamespace(**house)))
"""
F = TypeVar("F")


class Stage:
    """One actor and the socket that it speaks to, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = folder / "ledger"
        self.mark = f"{uuid.uuid4().hex}/rehearsal#1"
        self.context: zmq.Context[Any] = zmq.Context()
        self.actor: subprocess.Popen[bytes] | None = None
        self.hello: ActorHello | None = None
        self._socket: zmq.Socket[bytes] | None = None
        self._peer = b""
        self._frames: list[Frame] = []
        self._joiner = Joiner(FromActor)

    def bind(self) -> None:
        """Open the backstage."""
        self._socket = self.context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.router_mandatory = 1
        self._socket.rcvtimeo = WAIT_S_MAX * 1000
        self._socket.bind(backstage_address(str(self.folder)))

    def unbind(self) -> None:
        """Close the backstage, as a supervisor's death does."""
        if self._socket is not None:
            self._socket.close(0)
        self._socket = None
        self._frames, self._joiner = [], Joiner(FromActor)

    def start(
        self,
        options: dict[str, Any] | None = None,
        orphan_grace_s: float = 30.0,
        memory_mb: int = 0,
        files: int = 0,
        **others: Any,
    ) -> None:
        """Start the actor's process, in a session of its own as the keeper does. `options`, `others`: the role's."""
        role = {
            "name": "rehearsal",
            "epoch": 1,
            "command": [],
            "cwd": "",
            "env": {},
            "memory_mb": memory_mb,
            "files": files,
            "options": {"driver": "scripted", "ledger": str(self.ledger), **(options or {})},
            "log": str(self.folder / "log"),
            **others,
        }
        house = {"runtime_dir": str(self.folder), "state_dir": str(self.folder), "orphan_grace_s": orphan_grace_s}
        with (self.folder / "stderr").open("ab") as stderr:
            self.actor = subprocess.Popen(
                [sys.executable, "-c", ACTOR, json.dumps([role, house, self.mark])],
                cwd=self.folder,
                env={**os.environ, "UNDERSTUDY_MARK": self.mark},
                stderr=stderr,
                start_new_session=True,
            )

    def greet(self, committed: int = 0) -> None:
        """Take the hello and answer it."""
        self.hello = self.receive(ActorHello)
        self.send(Welcome(PROTOCOL_VERSION, epoch=1, committed=committed))

    def send(self, *frames: ToActor) -> None:
        """Send frames to the actor."""
        assert self._socket is not None
        for message in encode(frames):
            self._socket.send_multipart([self._peer, message])

    def receive(self, kind: type[F]) -> F:
        """Return the actor's next frame, which must be of `kind`."""
        frame = self._next()
        assert isinstance(frame, kind), f"expected {kind.__name__}, got {frame}; stderr: {self.stderr()}"
        return frame

    def until(self, kind: type[F]) -> F:
        """Return the actor's next frame of `kind`; what comes before is let go."""
        while not isinstance(frame := self._next(), kind):
            pass
        return frame

    def is_silent(self) -> bool:
        """Return whether the actor, asked now, has nothing else to say."""
        self.send(Ping())
        return isinstance(self._next(), Pong)

    def _next(self) -> Frame:
        assert self._socket is not None
        while not self._frames:
            try:
                self._peer, message = self._socket.recv_multipart()
            except zmq.Again:
                status = None if self.actor is None else self.actor.poll()
                text = f"the actor (status {status}) said nothing for {WAIT_S_MAX} s; stderr: {self.stderr()}"
                raise AssertionError(text) from None
            for frame in decode(message, decoder(FromActor)):
                whole = self._joiner.add(frame) if isinstance(frame, Part) else frame
                if isinstance(whole, Ping):  # Behind so much, as a house answers it.
                    self.send(Pong())
                elif whole is not None:
                    self._frames.append(whole)
        return self._frames.pop(0)

    def play(self, text: str, session: str = "s", turn: int = 1) -> None:
        """Hand over a turn that may begin at once."""
        self.send(handover(text, session, turn, go=True))

    def text(self, kind: type[F]) -> tuple[str, F]:
        """Return what the actor says, acknowledging it, until a frame of `kind` comes; and that frame."""
        said = ""
        while not isinstance(frame := self._next(), kind):
            if isinstance(frame, Updates):
                said += "".join(text_of(update) for update in unpack(frame.body))
                self.send(Recorded(frame.n + frame.count - 1))
        return said, frame

    def begin(self, session: str = "s", turn: int = 1) -> None:
        """Say go."""
        self.send(Go(session, turn))

    def prompts(self) -> list[dict[str, Any]]:
        """Return what the agent really got."""
        return [json.loads(line) for line in self.ledger.read_text().splitlines()] if self.ledger.exists() else []

    def stderr(self) -> str:
        """Return what the actor wrote on stderr."""
        return (self.folder / "stderr").read_text()

    def status(self) -> int:
        """Wait for the actor's end; return its exit status."""
        assert self.actor is not None
        return self.actor.wait(WAIT_S_MAX)

    def close(self) -> None:
        """End the actor, what it left, and the socket."""
        if self.actor is not None:
            if self.actor.poll() is None:  # Once reaped, its pid may be another's.
                os.killpg(self.actor.pid, signal.SIGKILL)
                self.actor.wait()
            for pid in processes.marked(self.mark):
                processes.kill(pid, signal.SIGKILL)
        self.unbind()
        self.context.destroy(0)


def handover(text: str, session: str = "s", turn: int = 1, go: bool = False) -> Handover:
    """Return the hand-over of a prompt with one text block."""
    return Handover(session, turn, "/", pack([{"type": "text", "text": text}]), go=go)


def text_of(update: dict[str, Any]) -> str:
    """Return the text of an update, "" when it has none."""
    content = update.get("content")
    return str(content.get("text", "")) if isinstance(content, dict) else ""
