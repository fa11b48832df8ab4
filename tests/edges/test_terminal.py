"""The command line at a terminal, a real one: questions, Ctrl-C, and what is shown while something is waited for."""

import asyncio
import contextlib
import fcntl
import os
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.house import WAIT_S_MAX, RealHouse, wait_until
from understudy.protocol.client import connect


class Terminal:
    """One verb of the command line with a terminal of its own."""

    def __init__(self, command: list[str]) -> None:
        self.ours, theirs = os.openpty()

        def own() -> None:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=own)
        os.close(theirs)
        self.text = ""

    def until(self, text: str) -> None:
        """Read until it has shown `text`; what came before is forgotten."""
        until = time.monotonic() + WAIT_S_MAX
        while text not in self.text:
            assert time.monotonic() < until, f"waited for {text!r}, but: {self.text}"
            if select.select([self.ours], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):  # It has ended.
                    self.text += os.read(self.ours, 65536).decode()
        self.text = self.text.partition(text)[2]

    def type(self, text: str) -> None:
        """Type it; \\x03 is Ctrl-C."""
        os.write(self.ours, text.encode())

    def close(self) -> None:
        """End it, if it lives."""
        self.process.kill()
        self.process.wait()
        os.close(self.ours)


@pytest.fixture
def asked(house: RealHouse) -> Iterator[Terminal]:
    terminal = Terminal(house.command("prompt", "rehearsal", "[[ask May I?]]"))
    terminal.until("your choice: ")
    yield terminal
    terminal.close()


def test_a_question_is_answered_by_its_number(asked: Terminal) -> None:
    asked.type("1\n")

    asked.until("answered: allow")
    assert 0 == asked.process.wait(WAIT_S_MAX)


def test_a_question_shows_all_that_it_says(house: RealHouse) -> None:
    terminal = Terminal(house.command("prompt", "rehearsal", "[[ask remove all\x1b[2K\r\u202elist]]"))
    try:
        terminal.until("remove all\\x1b[2K\\r\\u202elist")
        terminal.until("your choice: ")
    finally:
        terminal.close()


def test_ctrl_c_at_a_question_cancels_the_turn_at_once(asked: Terminal) -> None:
    asked.type("\x03")

    asked.until("the turn ended: cancelled")
    assert 1 == asked.process.wait(WAIT_S_MAX)


def test_a_second_ctrl_c_at_a_question_leaves(house: RealHouse, asked: Terminal) -> None:
    supervisor = house.supervisor()
    os.kill(supervisor, signal.SIGSTOP)  # So that the cancel has no answer.
    try:
        asked.type("\x03")
        asked.until("Ctrl-C again to leave")
        asked.type("\x03")

        assert 130 == asked.process.wait(WAIT_S_MAX)
    finally:
        os.kill(supervisor, signal.SIGCONT)


def test_a_question_that_was_answered_elsewhere_is_withdrawn(house: RealHouse, asked: Terminal) -> None:
    async def answer() -> None:
        async with connect(house.runtime_dir) as client:
            (row,) = await client.verb("sessions")
            session = client.session(row["session"])
            async for item in session.follow(1):
                if item.kind == "asked":
                    outcome = {"outcome": "selected", "optionId": "reject"}
                    await session.answer(item.body["ask"], {"outcome": outcome})
                elif item.kind == "answered":
                    return

    asyncio.run(answer())

    asked.until("the question is over")
    asked.until("answered: reject")
    assert 0 == asked.process.wait(WAIT_S_MAX)


def test_a_log_that_is_followed_may_go_and_come_again(house: RealHouse) -> None:
    log = Path(house.rows()[0]["log"])
    log.write_text("first\n")
    terminal = Terminal(house.command("tail", "-f", "rehearsal"))
    try:
        terminal.until("first")
        log.unlink()
        terminal.until("now; waiting for one")
        log.write_text("a longer second one\n")
        terminal.until("a longer second one")
        log.replace(log.with_suffix(".1"))
        log.write_text("third\n")
        terminal.until("third")
    finally:
        terminal.close()
    wait_until(lambda: terminal.process.poll() is not None, "its end")
