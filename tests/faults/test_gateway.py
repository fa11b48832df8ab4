"""Garbage on the gateway, and too many connections: clear faults, flat memory, other clients served."""

import asyncio
import json
import os
import resource
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from tests.faults.house import Houses, RealHouse, wait_until
from tests.faults.promises import kept
from understudy.protocol.client import connect
from understudy.protocol.frames import PROTOCOL_VERSION, Fault, Frame, Hello, Open, Prompt, ToClient, pack
from understudy.protocol.messages import decode, decoder, encode
from understudy.protocol.paths import gateway_address, gateway_path
from understudy.protocol.processes import stat
from understudy.supervisor.chaos.ledger import Accepted


@pytest.fixture
def house(houses: Houses, tmp_path: Path) -> RealHouse:
    return houses(f'[agent.rehearsal]\ndriver = "scripted"\noptions = {{ ledger = "{tmp_path}/ledger" }}\n')


@pytest.fixture
def connections_max() -> Iterator[int]:
    """Let the test's process have as many descriptors as it may; return how many of them connections can be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield min(1000, hard // 2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def memory_kb(pid: int) -> int:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * 4


def files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


class Raw:
    """A bare DEALER on the gateway."""

    def __init__(self, house: RealHouse) -> None:
        self.socket: Any = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(gateway_address(house.runtime_dir))

    def answer(self) -> list[Frame]:
        assert self.socket.poll(5000), "no answer"
        return decode(self.socket.recv(), decoder(ToClient))

    def close(self) -> None:
        self.socket.close()


def hello(version: int = PROTOCOL_VERSION) -> bytes:
    return encode([Hello(version, "raw")])[0]


@pytest.mark.faults
@pytest.mark.parametrize(
    ("message", "code"),
    [
        (os.urandom(100), "bad_frame"),
        (hello()[:-3], "bad_frame"),
        (pack([{"type": "hello", "version": "one", "client": 5}]), "bad_frame"),
        (pack([{"type": "nonsense"}]), "bad_frame"),
        (pack({"type": "hello"}), "bad_frame"),
        (encode([Prompt("r", "s", pack([]))])[0], "no_hello"),
        (hello(PROTOCOL_VERSION + 1), "version_mismatch"),
    ],
    ids=["random", "truncated", "wrong types", "unknown frame", "no array", "no hello", "other version"],
)
def test_garbage_gets_a_clear_fault(house: RealHouse, message: bytes, code: str) -> None:
    raw = Raw(house)
    raw.socket.send(message)

    (fault,) = raw.answer()
    raw.close()

    assert isinstance(fault, Fault)
    assert code == fault.code, fault.text


@pytest.mark.faults
def test_refusals_name_the_thing_and_the_remedy(house: RealHouse) -> None:
    raw = Raw(house)
    raw.socket.send(encode([Hello(PROTOCOL_VERSION, "raw"), Open("o", "nobody", "/"), Prompt("p", "s0", pack([]))])[0])

    frames = raw.answer()
    while len(frames) < 3:
        frames += raw.answer()
    raw.close()

    assert ["unknown_agent", "unknown_session"] == [frame.code for frame in frames if isinstance(frame, Fault)]
    assert any("rehearsal" in frame.text for frame in frames if isinstance(frame, Fault))


@pytest.mark.faults
def test_a_flood_of_garbage_leaves_memory_descriptors_and_others_alone(house: RealHouse, connections_max: int) -> None:
    supervisor = house.supervisor()

    def flood() -> None:
        for at in range(100):
            raw = Raw(house)
            for message in (os.urandom(200), hello()[:-1], pack([1, 2, 3]), b"", pack([{"type": "part"}]) * 3):
                raw.socket.send(message)
            raw.socket.send_multipart([b"a", b"b", b"c"])
            if at % 25 == 0:
                raw.socket.send(b"x" * (64 << 20))
            assert raw.answer()
            raw.close()

    def many() -> None:
        connections = []
        for _ in range(connections_max):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(gateway_path(house.runtime_dir))
            connections.append(connection)
        for connection in connections:
            connection.close()

    async def served() -> list[str]:
        async with connect(house.runtime_dir) as client:
            session = await client.open("rehearsal", "/tmp")
            return [await session.ask(f"{at}") for at in range(200)]

    async def together() -> list[str]:
        flooding = asyncio.gather(asyncio.to_thread(flood), asyncio.to_thread(many))
        answers = await served()
        await flooding
        return answers

    asyncio.run(together())  # Warm: buffers and caches have their size.
    memory, descriptors, log = memory_kb(supervisor), files(supervisor), len(house.log())
    answers = asyncio.run(together())

    assert [str(at) for at in range(200)] == answers
    wait_until(lambda: files(supervisor) <= descriptors + 5, f"descriptors back at {descriptors}")
    assert memory_kb(supervisor) < memory + 8_000
    assert len((house.folder / "house.log").read_bytes()) - log < 200_000
    assert supervisor == house.supervisor()


@pytest.mark.faults
def test_out_of_descriptors_the_house_comes_back_and_keeps_its_promises(tmp_path: Path) -> None:
    house = RealHouse(
        tmp_path, f'[agent.rehearsal]\ndriver = "scripted"\noptions = {{ ledger = "{tmp_path}/ledger" }}\n'
    )
    house.start(before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (96, 96)))
    first = house.supervisor()
    accepted = Accepted()

    async def load(rounds: int) -> None:
        async with connect(house.runtime_dir, wait_s=60) as client:
            session = await client.open("rehearsal", "/tmp")
            for at in range(rounds):
                text = f"{session.id} {at} [[stream 3 2]]"
                turn = await session.prompt(text)
                accepted.turns[session.id, turn.number] = text
                await turn.ending()

    def exhaust() -> None:
        connections: list[socket.socket] = []

        def enough() -> bool:
            while len(connections) < 300 and stat(first) is not None:
                connections.append(socket.socket(socket.AF_UNIX))
                connections[-1].setblocking(False)
                if connections[-1].connect_ex(gateway_path(house.runtime_dir)):  # It falls, or cannot keep up.
                    connections.pop().close()
                    return False
            return True

        wait_until(enough, "the supervisor to fall or to bear it")
        for connection in connections:
            connection.close()

    async def together() -> None:
        async with asyncio.timeout(100):
            await asyncio.gather(load(60), asyncio.to_thread(exhaust))

    try:
        asyncio.run(together())
        house.wait_answering()
        reasons: Counter[str] = kept(house.runtime_dir, accepted, tmp_path / "ledger")
        assert 60 == sum(count for reason, count in reasons.items() if reason != "unseen")
    finally:
        house.stop()


@pytest.mark.faults
def test_a_second_house_is_refused_and_names_the_first(house: RealHouse) -> None:
    assert house.keeper is not None
    second = house.run("up")

    assert 1 == second.returncode
    assert f"pid {house.keeper.pid}" in second.stderr
    assert house.answers()


@pytest.mark.faults
def test_what_a_killed_house_left_does_not_hinder_the_next(house: RealHouse) -> None:
    assert house.keeper is not None
    victims = [house.keeper.pid, house.supervisor(), house.pid()]
    for pid in victims:
        os.kill(pid, signal.SIGSTOP)
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    house.keeper.wait()
    assert Path(gateway_path(house.runtime_dir)).exists()

    house.start()

    assert "RUNNING" == json.loads(house.run("status", "--json").stdout)[0]["state"]
