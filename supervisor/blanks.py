"""Blank actors: forked and warmed up before anybody needs them, so that a start costs neither.

A blank waits for its role on a pipe. When the keeper is gone the pipe ends, and the blank with it.
"""

import multiprocessing
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, NoReturn

ROLE_BYTES_MAX = 32 << 10  # What the pipe takes at once: a blank that is stopped must not hold up the keeper.


@dataclass(frozen=True, slots=True)
class Blank:
    """A process that waits for a role, and the keeper's end of its pipe."""

    process: BaseProcess
    pipe: "Connection[Any, Any]"

    def give(self, role: object) -> bool:
        """Let it be `role`; return False when it is dead, or the role too large for the pipe."""
        given = pickle.dumps(role)
        if len(given) > ROLE_BYTES_MAX:
            return False
        try:
            self.pipe.send_bytes(given)
        except OSError:
            return False
        self.pipe.close()
        return True

    def dismiss(self) -> None:
        """Let it end."""
        self.pipe.close()


def fork(target: Callable[..., NoReturn], *arguments: object) -> BaseProcess | str:
    """Fork a child that runs `target`; return the reason when that fails."""
    process = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    try:
        process.start()
    except OSError as error:
        return str(error)
    return process


def fork_blank(target: Callable[[Callable[[], Any]], NoReturn]) -> Blank | None:
    """Fork a child that runs `target(receive)`: `receive` returns its role, or raises `EOFError`."""
    ours, theirs = multiprocessing.Pipe()

    def be(ours: "Connection[Any, Any]", theirs: "Connection[Any, Any]") -> NoReturn:
        ours.close()
        target(lambda: pickle.loads(theirs.recv_bytes()))

    process = fork(be, ours, theirs)
    theirs.close()
    if isinstance(process, str):
        ours.close()
        return None
    return Blank(process, ours)
