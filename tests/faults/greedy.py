"""Greedy clients, each a process of its own: `python -m tests.faults.greedy HOW RUNTIME_DIR` takes what it can of a house.

It says so on stdout when it begins and when it has it all, and keeps it until its stdin ends.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import zmq

from understudy.protocol.frames import (
    PROTOCOL_VERSION,
    Accepted,
    Call,
    Entries,
    Fault,
    Follow,
    Frame,
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
    Verb,
    Welcome,
    pack,
    unpack,
)
from understudy.protocol.messages import Joiner, decode, decoder, encode
from understudy.protocol.paths import gateway_address

MIB = 1 << 20
FORGOTTEN_S = 2.0  # A connection of which nothing more comes for so long was forgotten.


class Raw:
    """A bare client of one house, which reads only when it is told to."""

    def __init__(self, runtime_dir: str, name: str = "greedy") -> None:
        self.socket: Any = zmq.Context.instance().socket(zmq.DEALER)
        for option, value in ((zmq.LINGER, 0), (zmq.SNDHWM, 0), (zmq.RCVHWM, 1)):
            self.socket.setsockopt(option, value)
        self.ended: Any = self.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self.socket.connect(gateway_address(runtime_dir))
        self.joiner = Joiner(ToClient)
        self.frames: list[Any] = []
        self.send(Hello(PROTOCOL_VERSION, name))
        self.until(Welcome)

    def send(self, *frames: Frame) -> None:
        """Send frames."""
        for message in encode(frames):
            self.socket.send(message)

    def until(self, *kinds: type[Any]) -> Any:
        """Return the next frame of one of `kinds`; pings are answered, what else comes is let go."""
        while True:
            while not self.frames:
                assert self.socket.poll(20_000), f"none of {kinds} came"
                for frame in decode(self.socket.recv(), decoder(ToClient)):
                    whole = self.joiner.add(frame) if isinstance(frame, Part) else frame
                    if whole is not None:
                        self.frames.append(whole)
            frame = self.frames.pop(0)
            if isinstance(frame, Ping):
                self.send(Pong())
            elif isinstance(frame, kinds):
                return frame

    def open(self, agent: str = "rehearsal", body: bytes = b"") -> str:
        """Open a session."""
        self.send(Open(os.urandom(8).hex(), agent, "/tmp", body))
        opened = self.until(Opened, Fault)
        assert isinstance(opened, Opened), opened
        return opened.session

    def heard(self) -> None:
        """Wait until the house has read all that was said."""
        self.send(Ping())
        self.until(Pong)


def prompt(session: str, size: int) -> Prompt:
    return Prompt(os.urandom(8).hex(), session, pack([{"type": "text", "text": "x" * size}]))


# Each takes something of a house, and yields the connections that are to leave again.


def queued_prompts(runtime_dir: str) -> Iterator[Raw]:
    raw = Raw(runtime_dir)
    session = raw.open("away")
    for _ in range(12):
        raw.send(prompt(session, 15 * MIB))
        assert isinstance(raw.until(Accepted, Fault), Accepted)
    yield raw


def openings(runtime_dir: str) -> Iterator[Raw]:
    raw = Raw(runtime_dir)
    for _ in range(40):
        raw.open(body=pack({"_meta": {"x": "y" * (4 * MIB - 100)}}))
    yield raw


def unread_entries(runtime_dir: str) -> Iterator[Raw]:
    raw = Raw(runtime_dir)
    session = raw.open("away")
    raw.send(prompt(session, 15 * MIB))
    raw.until(Accepted)
    for at in range(4):
        slow = Raw(runtime_dir, f"slow {at}")
        slow.send(*(Follow(number, session, 1, 16 * MIB) for number in range(1, 61)))
        yield slow
    yield raw


def follows(runtime_dir: str) -> Iterator[Raw]:
    raw = Raw(runtime_dir)
    session = raw.open()
    for _ in range(10):
        raw.send(Hello(PROTOCOL_VERSION, "greedy"))
        raw.send(*(Follow(number, session, 2) for number in range(4096)))
        raw.heard()
    yield raw


def questions(runtime_dir: str) -> Iterator[Raw]:
    raw = Raw(runtime_dir)
    session = raw.open("asks")
    raw.send(Prompt("p", session, pack([{"type": "text", "text": "ask"}]), ["fs/write_text_file"]), Follow(1, session))
    said = ""
    while "ended" not in said:
        said += "".join(f"{entry.kind} {entry.body!r}" for entry in raw.until(Entries).entries)
    assert "19 refused" in said, said
    yield raw


def unfinished_parts(runtime_dir: str) -> Iterator[Raw]:
    for at in range(20):
        raw = Raw(runtime_dir, f"parts {at}")
        raw.send(*(Part(last=False, piece=b"x" * 60_000) for _ in range(250)))
        raw.heard()
        yield raw


def worked_off(runtime_dir: str, raws: list[Raw]) -> Iterator[Raw]:
    """Wait until all that was said is worked off: to the last of it, or the house has ended or forgotten the connection."""
    folders = {f"/tmp/last of {at}": raw for at, raw in enumerate(raws)}
    for folder, raw in folders.items():
        raw.send(Open(folder, "rehearsal", folder))
    observer = Raw(runtime_dir, "observer")
    heard = time.monotonic()
    while folders and time.monotonic() - heard < FORGOTTEN_S:
        observer.send(Verb("v", "sessions"))
        rows = unpack(observer.until(Result).body)
        over = {row["cwd"] for row in rows} | {folder for folder, raw in folders.items() if raw.ended.poll(1)}
        if not over.isdisjoint(folders):
            heard = time.monotonic()
        folders = {folder: raw for folder, raw in folders.items() if folder not in over}
    yield from [*raws, observer]


def unread_answers(runtime_dir: str) -> Iterator[Raw]:
    raw = Raw(runtime_dir)
    raw.send(*(Verb(f"v{at}", "sessions") for at in range(100_000)))
    yield from worked_off(runtime_dir, [raw])


def unread_answers_of_many(runtime_dir: str) -> Iterator[Raw]:
    raws = [Raw(runtime_dir, f"silent {at}") for at in range(100)]
    for at in range(20):
        raws[0].send(Open(f"o{at}", "rehearsal", "/tmp/" + "x" * 2_000))
        raws[0].until(Opened)
    for at in range(64):
        for raw in raws:
            raw.send(Verb(f"v{at}", "sessions"))
    yield from worked_off(runtime_dir, raws)


def waiting_calls(runtime_dir: str) -> Iterator[Raw]:
    raws = [Raw(runtime_dir, f"calls {at}") for at in range(4)]
    for raw in raws:
        session = raw.open("rehearsal")
        raw.send(*(Call(f"c{at}", session, "session/set_mode", pack({"modeId": "x" * 15 * MIB})) for at in range(3)))
        raw.heard()
        yield raw


HOW: dict[str, Callable[[str], Iterator[Raw]]] = {
    take.__name__: take
    for take in (
        queued_prompts,
        openings,
        unread_entries,
        follows,
        questions,
        unfinished_parts,
        unread_answers,
        unread_answers_of_many,
        waiting_calls,
    )
}


def main(how: str, runtime_dir: str) -> None:
    """Take it, and keep it until nobody wants that any more."""
    print("began", flush=True)
    raws = list(HOW[how](runtime_dir))
    print("done", flush=True)
    sys.stdin.read()
    for raw in raws:
        with contextlib.suppress(zmq.ZMQError):
            raw.send(Goodbye())
        raw.socket.disable_monitor()
        raw.socket.close(500)


if __name__ == "__main__":
    main(*sys.argv[1:])
