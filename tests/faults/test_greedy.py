"""One client after the other takes what it can of a house: its memory stays bounded, others are served, all is given back."""

import asyncio
import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from tests.faults.house import RealHouse, wait_until
from understudy.protocol.client import connect
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
    Joiner,
    Open,
    Opened,
    Part,
    Ping,
    Pong,
    Prompt,
    ToClient,
    Verb,
    Welcome,
    decode,
    decoder,
    encode,
    pack,
)
from understudy.protocol.paths import gateway_address

MIB = 1 << 20
ABOVE_REST_MB_MAX = 100
AFTERWARDS_MB_MAX = 30
CONFIG = """
[agent.rehearsal]
driver = "scripted"
[agent.away]
driver = "scripted"
[agent.asks]
driver = "python"
play = "asking:Asking"
"""
ASKING = """
import asyncio
from understudy.actors.actor import Actor

class Asking(Actor):
    async def play(self, turn):
        body = {"path": "/x", "content": "x" * 15_000_000}
        asking = [asyncio.ensure_future(turn.ask("fs/write_text_file", body, public=False)) for _ in range(20)]
        done, waiting = set(), set(asking)
        while len(waiting) > 1:  # One is asked.
            more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            done |= more
        for each in waiting:
            each.cancel()
        refused = sum("too many questions are open" in str(each.exception()) for each in done)
        await turn.say(f"{refused} refused")
        return "end_turn"
"""


class Raw:
    """A bare client of one house, which reads only when it is told to."""

    def __init__(self, house: RealHouse, name: str = "greedy") -> None:
        self.socket: Any = zmq.Context.instance().socket(zmq.DEALER)
        for option, value in ((zmq.LINGER, 0), (zmq.SNDHWM, 0), (zmq.RCVHWM, 1)):
            self.socket.setsockopt(option, value)
        self.socket.connect(gateway_address(house.runtime_dir))
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


def queued_prompts(house: RealHouse) -> Iterator[Raw]:
    raw = Raw(house)
    session = raw.open("away")
    for _ in range(12):
        raw.send(prompt(session, 15 * MIB))
        assert isinstance(raw.until(Accepted, Fault), Accepted)
    yield raw


def openings(house: RealHouse) -> Iterator[Raw]:
    raw = Raw(house)
    for _ in range(40):
        raw.open(body=pack({"_meta": {"x": "y" * (4 * MIB - 100)}}))
    yield raw


def unread_entries(house: RealHouse) -> Iterator[Raw]:
    raw = Raw(house)
    session = raw.open("away")
    raw.send(prompt(session, 15 * MIB))
    raw.until(Accepted)
    for at in range(4):
        slow = Raw(house, f"slow {at}")
        slow.send(*(Follow(number, session, 1, 16 * MIB) for number in range(1, 61)))
        yield slow
    yield raw


def follows(house: RealHouse) -> Iterator[Raw]:
    raw = Raw(house)
    session = raw.open()
    for _ in range(10):
        raw.send(Hello(PROTOCOL_VERSION, "greedy"))
        raw.send(*(Follow(number, session, 2) for number in range(4096)))
        raw.heard()
    yield raw


def questions(house: RealHouse) -> Iterator[Raw]:
    raw = Raw(house)
    session = raw.open("asks")
    raw.send(Prompt("p", session, pack([{"type": "text", "text": "ask"}]), ["fs/write_text_file"]), Follow(1, session))
    said = ""
    while "ended" not in said:
        said += "".join(f"{entry.kind} {entry.body!r}" for entry in raw.until(Entries).entries)
    assert "19 refused" in said, said
    yield raw


def unfinished_parts(house: RealHouse) -> Iterator[Raw]:
    for at in range(20):
        raw = Raw(house, f"parts {at}")
        raw.send(*(Part(last=False, piece=b"x" * 500_000) for _ in range(30)))
        raw.heard()
        yield raw


def unread_answers(house: RealHouse) -> Iterator[Raw]:
    raw = Raw(house)
    raw.send(*(Verb(f"v{at}", "sessions") for at in range(100_000)))
    yield raw


def unread_answers_of_many(house: RealHouse) -> Iterator[Raw]:
    raws = [Raw(house, f"silent {at}") for at in range(100)]
    for at in range(20):
        raws[0].send(Open(f"o{at}", "rehearsal", "/tmp/" + "x" * 2_000))
        raws[0].until(Opened)
    for at in range(64):
        for raw in raws:
            raw.send(Verb(f"v{at}", "sessions"))
    yield from raws


def waiting_calls(house: RealHouse) -> Iterator[Raw]:
    raws = [Raw(house, f"calls {at}") for at in range(4)]
    for raw in raws:
        session = raw.open("rehearsal")
        raw.send(*(Call(f"c{at}", session, "session/set_mode", pack({"modeId": "x" * 15 * MIB})) for at in range(3)))
        raw.heard()
        yield raw


@pytest.fixture
def house(tmp_path: Path) -> Iterator[RealHouse]:
    (tmp_path / "asking.py").write_text(ASKING)
    made = RealHouse(tmp_path, CONFIG)
    made.start(before=lambda: os.chdir(tmp_path))
    made.pid("away")
    assert made.run("stop", "away").returncode == 0
    yield made
    made.stop()


def memory_mb(pid: int, what: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


async def asked(house: RealHouse, until: Callable[[], bool]) -> list[float]:
    """Ask another agent again and again; return how many seconds each took."""
    took: list[float] = []
    async with connect(house.runtime_dir, wait_s=60) as client:
        session = await client.open("rehearsal", "/tmp")
        while not until() or len(took) < 100:
            began = time.perf_counter()
            assert f"{len(took)}" == await asyncio.wait_for(session.ask(f"{len(took)}"), 60)
            took.append(time.perf_counter() - began)
    return took


@pytest.mark.faults
@pytest.mark.parametrize(
    "takes",
    [
        queued_prompts,
        openings,
        unread_entries,
        follows,
        questions,
        unfinished_parts,
        unread_answers,
        unread_answers_of_many,
        waiting_calls,
    ],
)
def test_a_greedy_client_costs_the_house_little_and_others_are_served(
    house: RealHouse, takes: Callable[[RealHouse], Iterator[Raw]]
) -> None:
    supervisor = house.supervisor()
    calm = asyncio.run(asked(house, lambda: True))
    rest = memory_mb(supervisor, "VmRSS")
    forget_peak(supervisor)
    raws: list[Raw] = []

    async def together() -> list[float]:
        taking = asyncio.get_running_loop().run_in_executor(None, lambda: raws.extend(takes(house)))
        took = await asked(house, taking.done)
        await taking
        return took

    busy = asyncio.run(together())
    peak = memory_mb(supervisor, "VmHWM") - rest
    ratio = statistics.median(busy) / statistics.median(calm)
    print(f"{takes.__name__}: {peak:.0f} MB above rest; others' asks took {ratio:.2f} times as long")
    for raw in raws:
        with contextlib.suppress(zmq.ZMQError):
            raw.send(Goodbye())
        raw.socket.close(500)

    def given_back() -> bool:
        return memory_mb(supervisor, "VmRSS") - rest <= AFTERWARDS_MB_MAX

    assert peak <= ABOVE_REST_MB_MAX
    wait_until(given_back, f"memory to be given back to {rest:.0f} MB")
    assert supervisor == house.supervisor()
