"""Questions of agents that a client's program serves: each gets one answer, whatever the program's code does."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from understudy.protocol.bodies import clipped
from understudy.protocol.errors import LocalError, UnderstudyError
from understudy.protocol.frames import Answer, Ask, pack

AT_ONCE_MAX = 1_000
END_S_MAX = 1.0
ERROR_CHARACTERS_MAX = 1_000

OnAsk = Callable[[Ask], Awaitable[Any]]


class Answering:
    """Runs `on_ask` for each question; `answer` sends, and raises `LocalError` for what cannot be sent."""

    def __init__(self, on_ask: OnAsk | None, answer: Callable[[Answer], None]) -> None:
        self._on_ask, self._answer = on_ask, answer
        self._open: dict[str, tuple[Ask, asyncio.Task[None]]] = {}

    def asked(self, ask: Ask) -> None:
        """Serve a question; one that is said again while it is served, once."""
        if ask.ask in self._open:
            return
        if self._on_ask is None:
            self._send(ask, f"this client does not serve {ask.method}")
        elif len(self._open) >= AT_ONCE_MAX:
            self._send(ask, f"this client serves {AT_ONCE_MAX} questions already")
        else:
            self._open[ask.ask] = (ask, asyncio.ensure_future(self._serve(ask, self._on_ask)))

    def forget(self) -> None:
        """Whoever asked is gone: answer nobody."""
        for _, task in self._open.values():
            task.cancel()
        self._open.clear()

    async def close(self) -> None:
        """Answer what is still open with an error, and end what was at it."""
        tasks = {task for _, task in self._open.values()} - {asyncio.current_task()}
        for ask, _ in list(self._open.values()):
            self._refuse(ask, "the client that was asked has left")
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=END_S_MAX)

    async def _serve(self, ask: Ask, on_ask: OnAsk) -> None:
        try:
            answer = Answer(ask.session, ask.ask, pack(await on_ask(ask)))
            if self._is_open(ask):
                self._answer(answer)
                del self._open[ask.ask]
        except UnderstudyError as error:
            self._refuse(ask, error.text, error.detail)
        except asyncio.CancelledError:
            self._refuse(ask, f"{ask.method} was cancelled")
        except Exception as error:  # noqa: BLE001 (whatever it is: the agent waits for an answer)
            self._refuse(ask, f"the client failed at {ask.method}: {type(error).__name__}: {error}")
            context = {"message": f"on_ask failed at {ask.method}", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)

    def _refuse(self, ask: Ask, text: str, detail: object = None) -> None:
        if self._is_open(ask):
            del self._open[ask.ask]
            self._send(ask, text, detail)

    def _is_open(self, ask: Ask) -> bool:
        """Return whether this very question waits: after `forget` another may have its name."""
        return ask.ask in self._open and self._open[ask.ask][0] is ask

    def _send(self, ask: Ask, text: str, detail: object = None) -> None:
        """Answer with an error: with its detail, unless that cannot be sent."""
        clean = clipped(text, ERROR_CHARACTERS_MAX)
        with contextlib.suppress(Exception):
            self._answer(Answer(ask.session, ask.ask, pack(detail), clean))
            return
        with contextlib.suppress(LocalError):  # The client is closed.
            self._answer(Answer(ask.session, ask.ask, error=clean))
