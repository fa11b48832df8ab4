"""The faults themselves: each finds its victim in the house as it is now, and says what it did."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from random import Random
from typing import Any, assert_never

import msgspec
import zmq

from understudy.protocol.frames import PROTOCOL_VERSION, Hello, Prompt, pack
from understudy.protocol.messages import encode
from understudy.protocol.paths import gateway_address, gateway_path
from understudy.protocol.processes import children, stat, title
from understudy.supervisor.chaos.load import Load
from understudy.supervisor.chaos.proc import actors_of, supervisor_of

STOP_S_MIN = 0.05
STOP_S_MAX = 0.8
FULL_S_MIN = 0.2
FULL_S_MAX = 2.0
FILL = "filled-by-chaos"
FILL_STEPS = (1 << 20, 1 << 12, 1)
GARBAGE_BYTES_MAX = 2_000
MESSAGES_MAX = 20


class Fault(Enum):
    """What chaos does to a house."""

    KILL = "kill"
    STOP = "stop"
    SEGV = "segv"
    MEMORY = "memory"
    FILES = "files"
    SUPERVISOR = "supervisor"
    GARBAGE = "garbage"
    DISK = "disk"


@dataclass(slots=True)
class Stage:
    """Where faults strike: one house, its keeper, the agents under load; `asking` follow all directives."""

    runtime_dir: str
    state_dir: str
    keeper: int
    agents: tuple[str, ...]
    asking: tuple[str, ...]
    _stopped: set[int] = field(default_factory=set[int])

    def actor(self, random: Random) -> int:
        """Return an actor, or the program that it drives where it has one; 0 while none lives."""
        found = [pid for agent in self.agents for pid in actors_of(self.keeper, agent)]
        if not found:
            return 0
        actor = random.choice(found)
        return random.choice([actor, *children(actor)])

    async def strike(self, fault: Fault, load: Load, random: Random) -> str | None:
        """Do it; return what was done, None when there was no victim."""
        match fault:
            case Fault.KILL:
                return self._signal(self.actor(random), signal.SIGKILL)
            case Fault.SEGV:
                return self._signal(self.actor(random), signal.SIGSEGV)
            case Fault.SUPERVISOR:
                return self._signal(supervisor_of(self.keeper), signal.SIGKILL)
            case Fault.STOP:
                return await self._stop(random)
            case Fault.MEMORY:
                return await self._direct(load, f"[[memory {random.randint(20, 400)}]]", random)
            case Fault.FILES:
                return await self._direct(load, f"[[files {random.randint(20, 400)}]]", random)
            case Fault.GARBAGE:
                return await asyncio.to_thread(throw_garbage, self.runtime_dir, random)
            case Fault.DISK:
                return await self._fill(random)
            case _:
                assert_never(fault)

    @asynccontextmanager
    async def curtain(self) -> AsyncIterator[None]:
        """Whatever happens, nobody stays stopped."""
        try:
            yield
        finally:
            for pid in self._stopped:
                _send(pid, signal.SIGCONT)

    def _signal(self, pid: int, number: signal.Signals) -> str | None:
        name = title(pid)
        return f"{number.name} to {pid} ({name})" if pid and _send(pid, number) else None

    async def _stop(self, random: Random) -> str | None:
        pid = random.choice((self.actor(random), self.actor(random), supervisor_of(self.keeper)))
        for_s = random.uniform(STOP_S_MIN, STOP_S_MAX)
        done = self._signal(pid, signal.SIGSTOP)
        if done is None:
            return None
        self._stopped.add(pid)
        await asyncio.sleep(for_s)
        _send(pid, signal.SIGCONT)
        self._stopped.discard(pid)
        return f"{done}, SIGCONT after {for_s:.3f} s"

    async def _fill(self, random: Random) -> str | None:
        """Fill the disk of the log, and free it. Only a disk of its own: everybody else's programs would fail, too."""
        path = Path(self.state_dir, FILL)
        if path.exists() or not own_disk(self.state_dir):
            return None
        for_s = random.uniform(FULL_S_MIN, FULL_S_MAX)
        try:
            size = await asyncio.to_thread(fill, path)
            await asyncio.sleep(for_s)
        finally:
            path.unlink(missing_ok=True)
        return f"{size >> 10} KB filled the disk for {for_s:.3f} s"

    async def _direct(self, load: Load, directive: str, random: Random) -> str | None:
        if not self.asking:
            return None
        agent = random.choice(self.asking)
        await load.direct(agent, directive)
        return f"{agent} {directive}"


def _send(pid: int, number: signal.Signals) -> bool:
    """Send a signal to a process that lives; return whether it was there."""
    if stat(pid) is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


def own_disk(state_dir: str) -> bool:
    """Return whether the log's folder is a mount of its own."""
    return os.path.ismount(state_dir)


def fill(path: Path) -> int:
    """Write a file that takes all that is free; return its size. Blocks."""
    with path.open("wb", buffering=0) as file:
        for size in FILL_STEPS:
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
        return file.tell()


def throw_garbage(runtime_dir: str, random: Random) -> str:
    """Send what no client of ours sends: to the ZeroMQ socket, and below it. Blocks for a moment."""
    context: zmq.Context[Any] = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.linger = 100
    messages = [random.choice(_messages(random)) for _ in range(random.randint(1, MESSAGES_MAX))]
    try:
        dealer.connect(gateway_address(runtime_dir))
        for message in messages:
            dealer.send_multipart(message)
        dealer.poll(200)
    finally:
        dealer.close()
        context.term()
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as raw:
        raw.setblocking(False)
        raw.connect(gateway_path(runtime_dir))
        raw.send(random.randbytes(random.randint(1, GARBAGE_BYTES_MAX)))
    return f"{len(messages)} messages"


def _messages(random: Random) -> list[list[bytes]]:
    hello = encode([Hello(PROTOCOL_VERSION, f"garbage-{random.random()}")])[0]
    prompt = encode([Prompt("r", "s0", pack([{"type": "text", "text": "x"}]))])[0]
    wrong = [{"type": "hello", "version": "one", "client": 5}, {"type": "part"}, [1, None, {}], "x"]
    return [
        [random.randbytes(random.randint(0, GARBAGE_BYTES_MAX))],
        [hello[: random.randint(0, len(hello) - 1)]],
        [hello, prompt[: random.randint(0, len(prompt) - 1)]],
        [prompt],
        [hello],
        [msgspec.msgpack.encode(random.choice(wrong))],
        [msgspec.msgpack.encode([random.choice(wrong)] * random.randint(1, 50))],
        [b"a", b"b", random.randbytes(20)],
    ]
