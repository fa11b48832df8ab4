"""The client that blocks: the same client, for scripts and notebooks. Each test also leaves no thread behind."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import understudy
from tests.faults.house import RealHouse, wait_until
from understudy.protocol import blocking
from understudy.protocol.acp import PERMISSION
from understudy.protocol.blocking import BlockingClient
from understudy.protocol.errors import CLOSED, CONNECTION_LOST, UNKNOWN_AGENT, UNKNOWN_SESSION
from understudy.protocol.items import Item
from understudy.protocol.verbs import House, Sessions

pytestmark = pytest.mark.slow


def connected(house: RealHouse) -> BlockingClient:
    return understudy.connect_blocking(house.runtime_dir, "test")


def code_of(call: Callable[[], Any], kind: type[understudy.LocalError | understudy.RemoteError]) -> str:
    with pytest.raises(kind) as raised:
        call()
    return raised.value.code


def collect(feed: blocking.BlockingFeed, seen: list[Item]) -> None:
    for item in feed:
        seen.append(item)  # noqa: PERF402 (what came before the time-out is wanted, too)


def test_it_prompts_asks_follows_and_carries_out_verbs(house: RealHouse) -> None:
    with connected(house) as client:
        session = client.open("rehearsal")
        assert "hello" == session.ask("hello")
        turn = session.prompt("[[say one]] [[say two]]")
        assert "end_turn" == turn.ending().reason
        kinds = []
        for item in session.follow(turn.number):
            kinds.append(item.kind)
            if item.kind == "ended":
                break
        assert ["prompt", "started", "update", "update", "ended"] == kinds
        assert {} == session.call("ready")
        assert "hello" == client.session(session.id).ask("hello")
        assert client.verb(House()).pid == client.verb("house")["pid"] == house.supervisor()
        assert [session.id] == [row.session for row in client.sessions()]
        assert str(Path.cwd()) == client.verb(Sessions(session.id))[0].cwd
        assert [("rehearsal", "RUNNING")] == [(row.name, row.state) for row in client.status()]
        assert ["STOPPED"] == [each.state for each in client.stop("rehearsal")]
        assert ["RUNNING"] == [each.state for each in client.start("all")]
        assert [""] == [each.error for each in client.restart("rehearsal")]


def test_what_is_refused_says_whose_fault_it_is(house: RealHouse) -> None:
    with connected(house) as client:
        assert UNKNOWN_AGENT == code_of(lambda: client.open("nobody"), understudy.RemoteError)
        assert UNKNOWN_SESSION == code_of(lambda: next(client.session("s").follow()), understudy.RemoteError)
        assert "bad_frame" == code_of(lambda: client.verb("status", object()), understudy.LocalError)


def test_without_a_house_it_says_so(tmp_path: Path) -> None:
    assert CONNECTION_LOST == code_of(
        lambda: understudy.connect_blocking(str(tmp_path), wait_s=0.1), understudy.LocalError
    )


def test_a_question_is_answered_and_a_turn_cancelled(house: RealHouse) -> None:
    with connected(house) as client:
        session = client.open("rehearsal")
        turn = session.prompt("[[ask may I]] [[hang]]")
        for item in session.follow(turn.number):
            if item.kind == "asked":
                assert PERMISSION == item.body["method"]
                session.answer(item.body["ask"], {"outcome": {"outcome": "selected", "optionId": "allow"}})
            elif item.kind == "answered":
                turn.cancel()
            elif item.kind == "ended":
                break
        assert "cancelled" == turn.ending().reason


def test_a_time_out_loses_nothing(house: RealHouse) -> None:
    with connected(house) as client:
        session = client.open("rehearsal")
        turn = session.prompt("[[ask first]] [[say at last]]")
        with pytest.raises(TimeoutError):
            turn.ending(timeout_s=0.01)
        with pytest.raises(TimeoutError):
            session.ask("after it", timeout_s=0.01)
        feed = session.follow(turn.number, timeout_s=0.3)
        seen: list[Item] = []
        with pytest.raises(TimeoutError):
            collect(feed, seen)
        (ask,) = [item.body["ask"] for item in seen if item.kind == "asked"]
        session.answer(ask, {"outcome": {"outcome": "cancelled"}})
        wait_until(lambda: not client.verb(Sessions(session.id))[0].queue, "the turns to be played")
        while seen[-1].kind != "ended" or seen[-1].turn == turn.number:
            seen.append(next(feed))
        assert list(range(turn.number, turn.number + len(seen))) == [item.number for item in seen]


def test_a_follow_ends_with_close_and_nothing_more_can_be_asked(house: RealHouse) -> None:
    with connected(house) as client, ThreadPoolExecutor() as others:
        session = client.open("rehearsal")
        begun = threading.Barrier(3)

        def read(feed: blocking.BlockingFeed) -> list[str]:
            kinds = [next(feed).kind]
            begun.wait()
            return kinds + [item.kind for item in feed]

        one, other = session.follow(), session.follow()
        reading = [others.submit(read, one), others.submit(read, other)]
        begun.wait()
        one.close()
        assert ["opened"] == reading[0].result()
        waiting = others.submit(session.ask, "[[hang]]")
        wait_until(lambda: client.status()[0].running == 1, "the turn to run")

        client.close()

        assert ["opened"] == [each for each in reading[1].result() if each == "opened"]
        assert CLOSED == code_of(waiting.result, understudy.LocalError)
        assert CLOSED == code_of(client.status, understudy.LocalError)
        assert [] == list(one)
        one.close()
        client.close()


def test_it_works_beside_a_running_loop(house: RealHouse) -> None:
    async def cell() -> str:
        with connected(house) as client:
            return client.open("rehearsal").ask("in a notebook")

    assert "in a notebook" == asyncio.run(cell())


def test_one_that_is_forgotten_leaves_when_the_garbage_is_collected(house: RealHouse) -> None:
    def forget() -> str:
        client = connected(house)
        return client.open("rehearsal").ask("hello")

    assert "hello" == forget()
    wait_until(lambda: not [each for each in threading.enumerate() if "understudy" in each.name], "the thread to end")


@pytest.mark.faults
def test_a_supervisor_that_falls_is_not_noticed(house: RealHouse) -> None:
    with connected(house) as client:
        session = client.open("rehearsal")
        turn = session.prompt("[[stream 20 10]]")
        os.kill(house.supervisor(), signal.SIGKILL)
        assert "end_turn" == turn.ending().reason
        assert "hello" == session.ask("hello")


@pytest.mark.faults
def test_a_house_that_is_gone_is_an_error_and_the_next_one_is_found(house: RealHouse) -> None:
    with connected(house) as client, ThreadPoolExecutor() as others:
        session = client.open("rehearsal")
        client.stop("rehearsal")
        waiting = others.submit(session.ask, "before")
        wait_until(lambda: client.status()[0].queue == 1, "the turn to be queued")
        house.stop()

        assert CONNECTION_LOST == code_of(waiting.result, understudy.LocalError)
        with pytest.raises(understudy.LocalError, match=r"is gone; what it had accepted is kept.*`understudy up`"):
            session.ask("hello")

        house.start()
        assert "hello" == session.ask("hello")


FORKED = """
import os, sys, understudy
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of any fork beside a thread.
client = understudy.connect_blocking(sys.argv[1])
session = client.open("rehearsal")
feed = session.follow()
child = os.fork()
if not child:
    for call in (client.status, lambda: next(feed)):
        try:
            call()
        except understudy.LocalError as error:
            print(error.code, "forked" in error.text, flush=True)
    client.close()
    with understudy.connect_blocking(sys.argv[1]) as own:
        print(own.session(session.id).ask("the child's own"), flush=True)
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
print(session.ask("the parent's"), flush=True)
"""  # It is not closed: the end of the process does that.

INTERRUPTED = """
import sys, threading, understudy
with understudy.connect_blocking(sys.argv[1]) as client:
    session = client.open("rehearsal")
    turn = session.prompt("[[say begun]] [[ask on]] [[say done]]")
    feed = session.follow(turn.number)
    for call in (turn.ending, lambda: list(session.follow()), lambda: session.ask("queued")):
        try:
            print("waiting", flush=True)
            call()
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    for item in feed:
        if item.kind == "asked":
            session.answer(item.body["ask"], {"outcome": {"outcome": "cancelled"}})
        elif item.kind == "ended":
            print(item.body["reason"], flush=True)
            break
print(threading.active_count(), flush=True)
"""


def script(house: RealHouse, text: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", text, house.runtime_dir]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_after_a_fork_the_child_is_told_and_the_parent_goes_on(house: RealHouse) -> None:
    with script(house, FORKED) as program:
        output, errors = program.communicate(timeout=60)

    assert [
        "connection_lost True",
        "connection_lost True",
        "the child's own",
        "7",
        "the parent's",
    ] == output.splitlines()
    assert ("", 0) == (errors, program.returncode)


def test_ctrl_c_ends_the_call_and_not_the_turn(house: RealHouse) -> None:
    with script(house, INTERRUPTED) as program:
        assert program.stdout is not None
        for _ in range(3):
            assert "waiting\n" == program.stdout.readline()
            program.send_signal(signal.SIGINT)
            assert "interrupted\n" == program.stdout.readline()
        output, errors = program.communicate(timeout=60)

    assert (["end_turn", "1"], "", 0) == (output.splitlines(), errors, program.returncode)
