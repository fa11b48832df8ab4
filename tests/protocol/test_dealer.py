"""One connection: what was sent on it before it broke arrives, and making one never holds up the loop."""

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Any

import zmq

from tests.false_house import fill_backlog
from understudy.protocol.dealer import Dealer
from understudy.protocol.frames import Frame, Goodbye, Ping, ToClient
from understudy.protocol.messages import encode

ROUNDS = 20


async def last_words(folder: Path) -> list[Frame]:
    """Return what a client hears of a house that says two things and is gone before the client looks."""
    address = f"ipc://{folder}/socket"
    house: zmq.Context[Any] = zmq.Context()
    router = house.socket(zmq.ROUTER)
    router.bind(address)
    heard: list[Frame] = []
    broken = asyncio.Event()
    context: zmq.Context[Any] = zmq.Context()
    dealer = Dealer(context, address, ToClient, heard.extend, lambda _: broken.set())
    dealer.send([Ping()])
    peer, _ = router.recv_multipart()
    for frame in (Ping(), Goodbye("the end")):
        router.send_multipart([peer, encode([frame])[0]])
    house.destroy(linger=1000)  # It blocks this loop until all of that is on its way.
    await broken.wait()
    context.destroy(0)
    return heard


def test_what_came_before_the_end_is_heard(tmp_path: Path) -> None:
    for _ in range(ROUNDS):
        assert [Ping(), Goodbye("the end")] == asyncio.run(last_words(tmp_path))


async def broken(path: str) -> None:
    """Return when a connection to `path` has turned out to be none."""
    why = asyncio.get_running_loop().create_future()
    context: zmq.Context[Any] = zmq.Context()
    Dealer(context, f"ipc://{path}", ToClient, lambda _: None, why.set_result)
    async with asyncio.timeout(20):
        await why
    context.destroy(0)


def test_that_nobody_listens_is_noticed(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    asyncio.run(broken(path))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        asyncio.run(broken(path))
    asyncio.run(broken(path))


def test_a_place_where_no_socket_can_be_is_one_where_nobody_listens(tmp_path: Path) -> None:
    asyncio.run(broken(str(tmp_path / ("x" * 200))))


def test_a_house_that_accepts_nothing_takes_one_place_of_its_backlog_for_an_attempt_and_none_when_it_is_full(
    tmp_path: Path,
) -> None:
    async def accepted(path: str, listener: socket.socket) -> int:
        context: zmq.Context[Any] = zmq.Context()
        dealer = Dealer(context, f"ipc://{path}", ToClient, lambda _: None, lambda _: None)
        dealer.send([Ping()])
        async with asyncio.timeout(20):
            connections = [(await asyncio.get_running_loop().sock_accept(listener))[0]]
        dealer.close()
        context.destroy(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                connections.append(listener.accept()[0])
        for each in connections:
            each.close()
        return len(connections)

    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as held:
        listener.bind(path)
        listener.listen(5)
        listener.setblocking(False)
        assert 1 == asyncio.run(accepted(path, listener))
        fill_backlog(path, held)
        asyncio.run(broken(path))  # A connect that blocks would stay here for ever.


def test_a_connection_that_breaks_at_once_is_told_to_nobody_who_does_not_have_it_yet(tmp_path: Path) -> None:
    async def told() -> list[bool]:
        loop, context = asyncio.get_running_loop(), zmq.Context()
        had: list[bool] = []
        for _ in range(ROUNDS):
            mine: list[Dealer] = []
            over = loop.create_future()

            def broke(_: str, mine: list[Dealer] = mine, over: "asyncio.Future[None]" = over) -> None:
                had.append(bool(mine))
                over.set_result(None)

            mine.append(Dealer(context, f"ipc://{path}", ToClient, lambda _: None, broke))
            async with asyncio.timeout(20):
                await over
        context.destroy(0)
        return had

    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))

    assert [True] * ROUNDS == asyncio.run(told())
