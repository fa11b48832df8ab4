"""One verb without an event loop: it ends in time with an answer or a typed error, whoever listens."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from tests.false_house import fill_backlog
from understudy.protocol.errors import BAD_FRAME, CONNECTION_LOST, NO_HELLO, LocalError, UnderstudyError
from understudy.protocol.frames import Fault, FromClient, Part, Ping, Result, Verb, pack
from understudy.protocol.messages import decode, decoder, encode
from understudy.protocol.one_verb import verb
from understudy.protocol.paths import gateway_address, gateway_path
from understudy.protocol.verbs import House, HouseStatus, Sessions, Signal

HOUSE = HouseStatus(7, 1, "", ["understudy", "up"], "")

Answers = Callable[[str], list[Any]]


@contextlib.contextmanager
def house(folder: Path, answers: Answers) -> Iterator[str]:
    """Answer each verb with what `answers` returns for its request: frames, or bytes as they are."""
    runtime_dir = folder / "run"
    runtime_dir.mkdir(mode=0o700)
    context: zmq.Context[Any] = zmq.Context()
    router, over = context.socket(zmq.ROUTER), threading.Event()
    router.bind(gateway_address(str(runtime_dir)))

    def serve() -> None:
        while not over.is_set():
            if router.poll(10):
                peer, message = router.recv_multipart()
                for frame in decode(message, decoder(FromClient)):
                    for each in answers(frame.request) if isinstance(frame, Verb) else []:
                        router.send_multipart([peer, each if isinstance(each, bytes) else encode([each])[0]])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield str(runtime_dir)
    finally:
        over.set()
        thread.join()
        context.destroy(0)


def error_of(runtime_dir: str, **options: Any) -> str:
    with pytest.raises(UnderstudyError) as raised:
        verb(runtime_dir, House(), **options)
    return raised.value.code


SAID: dict[str, tuple[Answers, str]] = {
    "no frame": (lambda _: [b"\xc1"], BAD_FRAME),
    "a part of no frame": (lambda _: [Part(last=True, piece=b"\xc1")], BAD_FRAME),
    "an answer that is no msgpack": (lambda request: [Result(request, b"\xc1")], BAD_FRAME),
    "an answer of another shape": (lambda request: [Result(request, pack({"pid": "seven"}))], BAD_FRAME),
    "a fault whose body is no msgpack": (lambda _: [Fault(NO_HELLO, "who?", body=b"\xc1")], BAD_FRAME),
    "a fault": (lambda _: [Fault(NO_HELLO, "who?")], NO_HELLO),
    "half an answer": (lambda _: [Part(last=False, piece=b"\x81")], CONNECTION_LOST),
    "another's answer": (lambda _: [Result("another", pack(1)), Ping()], CONNECTION_LOST),
    "nothing": (lambda _: [], CONNECTION_LOST),
}


@pytest.mark.parametrize("said", SAID)
def test_a_verb_ends_with_a_typed_error_whatever_the_house_says(tmp_path: Path, said: str) -> None:
    answers, code = SAID[said]
    with house(tmp_path, answers) as runtime_dir:
        assert code == error_of(runtime_dir, timeout_s=0.3 if code == CONNECTION_LOST else 20.0)


def test_a_verb_waits_for_an_answer_without_end_if_told_to(tmp_path: Path) -> None:
    with house(tmp_path, lambda request: [Result(request, pack(HOUSE))]) as runtime_dir:
        assert HOUSE == verb(runtime_dir, House(), timeout_s=float("inf"))


def test_a_verb_to_a_house_that_is_stopped_ends_also_when_its_backlog_is_full(tmp_path: Path) -> None:
    runtime_dir = tmp_path / "run"
    runtime_dir.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as held:
        listener.bind(gateway_path(str(runtime_dir)))
        listener.listen(0)
        assert CONNECTION_LOST == error_of(str(runtime_dir), timeout_s=0.2)
        fill_backlog(gateway_path(str(runtime_dir)), held)
        assert CONNECTION_LOST == error_of(str(runtime_dir), timeout_s=0.2)


@pytest.mark.parametrize(
    "asked",
    [Sessions("\ud800"), Signal([], 1 << 70), Sessions(object()), Sessions(b"x" * (33 << 20))],  # type: ignore[arg-type]
    ids=["text", "number", "kind", "size"],
)
def test_what_cannot_be_sent_is_refused_here(tmp_path: Path, asked: Sessions | Signal) -> None:
    with house(tmp_path, lambda _: []) as runtime_dir, pytest.raises(LocalError):
        verb(runtime_dir, asked)
