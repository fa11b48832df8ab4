"""The last answer of a supervisor that ends: it is sent before the end, and who lost it all the same is told the truth."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from tests.faults.house import RealHouse, wait_until
from tests.faults.test_safe_mode import spoil_the_log
from understudy.protocol.frames import PROTOCOL_VERSION, Hello, Result, ToClient, Verb
from understudy.protocol.messages import decode, decoder, encode
from understudy.protocol.paths import gateway_address

pytestmark = pytest.mark.faults

QUESTIONS = 1_000  # Their answers are more than a Unix socket holds.
WAIT_S_MAX = 30

# Its supervisor answers no verb of clients while the file `$SIGN` is there.
MUTE = """
import os, sys
from understudy.protocol.frames import Result
from understudy.supervisor.cli.main import main
from understudy.supervisor.shell.sockets import Router

def send(router, peer, frame, lazily=False):
    if not isinstance(frame, Result) or not os.path.exists(os.environ["SIGN"]):
        sends(router, peer, frame, lazily)

sends, Router.send = Router.send, send
sys.exit(main())
"""

# Its safe mode has all the time it needs to send what is due, and makes the file `$SIGN` when it ends.
PATIENT = f"""
import os, sys
from understudy.supervisor.shell import safe
from understudy.supervisor.cli.main import main

def end(mode, status):
    open(os.environ["SIGN"], "w").close()
    ends(mode, status)

ends, safe.SafeMode._end = safe.SafeMode._end, end
safe.FLUSH_MS = {1000 * WAIT_S_MAX}
sys.exit(main())
"""


class OddHouse(RealHouse):
    """Its program is `code`; verbs are carried out by the usual one."""

    def __init__(self, folder: Path, code: str) -> None:
        super().__init__(folder)
        self.sign = folder / "sign"
        self._code = code

    def command(self, *arguments: str) -> list[str]:
        usual = super().command(*arguments)
        return [sys.executable, "-c", self._code, *usual[3:]] if arguments[0] == "up" else usual


Odd = Callable[[str], OddHouse]


@pytest.fixture
def odd(tmp_path: Path) -> Iterator[Odd]:
    made: list[OddHouse] = []

    def start(code: str) -> OddHouse:
        made.append(OddHouse(tmp_path, code))
        made[-1].start(environ={"SIGN": str(made[-1].sign)})
        return made[-1]

    yield start
    for each in made:
        each.stop()


def test_a_shutdown_whose_answer_was_lost_is_done_when_the_house_has_ended(odd: Odd) -> None:
    house = odd(MUTE)
    house.sign.touch()

    done = house.run("shutdown")

    assert (0, "") == (done.returncode, done.stderr)
    assert house.keeper is not None
    assert 0 == house.keeper.wait(WAIT_S_MAX)


def test_a_shutdown_that_nobody_answered_has_failed_while_the_house_is_there(house: RealHouse) -> None:
    supervisor = house.supervisor()
    os.kill(supervisor, signal.SIGSTOP)

    done = house.run("shutdown")
    os.kill(supervisor, signal.SIGCONT)

    assert 7 == done.returncode
    assert "runs and does not answer" in done.stderr


def test_safe_mode_sends_all_its_answers_before_it_ends(odd: Odd) -> None:
    house = odd(PATIENT)
    spoil_the_log(house)
    asked = [Verb(str(number), "house") for number in range(QUESTIONS)]
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        # With a queue that is full when the house ends, libzmq would lose what the kernel has for it.
        socket.linger, socket.rcvhwm, socket.rcvtimeo = 0, QUESTIONS, 1000 * WAIT_S_MAX
        socket.connect(gateway_address(house.runtime_dir))
        for message in encode([Hello(PROTOCOL_VERSION, "c"), *asked, Verb("last", "shutdown")]):
            socket.send(message)
        wait_until(house.sign.exists, "the end to begin")

        answered: list[str] = []
        while answered[-1:] != ["last"]:
            said = decode(socket.recv(), decoder(ToClient))
            answered += [each.request for each in said if isinstance(each, Result)]

    assert [*map(str, range(QUESTIONS)), "last"] == answered
    assert house.keeper is not None
    assert 0 == house.keeper.wait(WAIT_S_MAX)
