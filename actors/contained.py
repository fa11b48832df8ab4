"""What a user's class does, contained: whatever it raises is an error of its own, never the end of its process."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from understudy.actors.actor import Actor, ActorError
from understudy.protocol.errors import AGENT_ERROR, UnderstudyError
from understudy.protocol.sizes import CODE_CHARACTERS_MAX, REASON_CHARACTERS_MAX, TEXT_CHARACTERS_MAX


async def contained(act: Callable[..., Awaitable[Any]], *arguments: object) -> Any:
    """Call a method of a user's class and await it. What asyncio would let end the loop, and a cancel that
    nobody asked for, is raised as `ActorError`; other exceptions pass.
    """
    try:
        return await act(*arguments)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ActorError("it was cancelled from inside (CancelledError), not by anybody's wish") from error
    except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
        raise ActorError(words(error)) from error


def stop_reason(actor: Actor, returned: object) -> str:
    """Return the stop reason that `play` returned, nothing meaning `end_turn`; raise `ActorError` when it is none."""
    if returned is None:
        return "end_turn"
    if not isinstance(returned, str):
        what = f"a value of type {type(returned).__name__}"
    elif not 0 < len(returned) <= REASON_CHARACTERS_MAX:
        what = f"a text of {len(returned)} characters"
    elif not returned.isprintable():  # Lone surrogates, which cannot be sent, are not printable.
        what = "a text that cannot be printed"
    else:
        return str.__str__(returned)
    raise ActorError(
        f"{type(actor).__name__}.play returned {what}; return a stop reason of at most "
        f'{REASON_CHARACTERS_MAX} characters, like "end_turn", or nothing'
    )


def fault(error: Exception) -> dict[str, Any]:
    """Return what is told of an exception: its `code`, `text` and `detail`, whatever somebody put into them."""
    if not isinstance(error, UnderstudyError):
        return {"code": AGENT_ERROR, "text": words(error), "detail": None}
    code, text = cast(object, error.code), cast(object, error.text)
    if not isinstance(text, str):
        text = words(error)
    if not (isinstance(code, str) and code.isprintable()):
        code = AGENT_ERROR
    return {"code": code[:CODE_CHARACTERS_MAX], "text": text[:TEXT_CHARACTERS_MAX], "detail": error.detail}


def words(error: BaseException) -> str:
    """Return an exception's type and text."""
    if isinstance(error, MemoryError) and not error.args:
        return "MemoryError: it wanted more than there is, or than `memory` and `data_limit` in the configuration allow"
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 (a class of the user's, too)
        text = "its text cannot be made"
    return f"{type(error).__name__}: {text}"[:TEXT_CHARACTERS_MAX]
