"""The supervisor's loop in this very process, with sockets, a log, and a test in the keeper's place."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
import zmq

from understudy.protocol.frames import PROTOCOL_VERSION, Hello
from understudy.supervisor import pair
from understudy.supervisor.core.events import ClientSaid, ShutdownAsked
from understudy.supervisor.core.specs import HouseSpec
from understudy.supervisor.shell.shell import Shell


def test_what_comes_after_its_end_is_left_to_the_next_supervisor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context: zmq.Context[Any] = zmq.Context()
    monkeypatch.setattr(zmq, "Context", lambda: context)

    async def main() -> list[Any]:
        failures: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        keeper, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with keeper, ours:
            shell = Shell(HouseSpec((), str(tmp_path), str(tmp_path)), ours, [], "house")
            keeper.send(pair.encode(ShutdownAsked()))
            assert 0 == await shell.status

            shell.push(ClientSaid(b"peer", Hello(PROTOCOL_VERSION, "late")))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            asyncio.get_running_loop().remove_reader(ours.fileno())
        return failures

    assert [] == asyncio.run(main())
    context.term()
