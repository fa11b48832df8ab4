"""The agent's questions at the terminal: beside what the turn says, one after the other, withdrawn when they are over."""

import asyncio
import os
import sys
import termios
from typing import Any

from understudy.protocol.acp import PERMISSION
from understudy.protocol.client import Session
from understudy.protocol.items import Item

LINE_BYTES_MAX = 4096  # The terminal itself gives no longer ones.
STDIN = 0


class Questions:
    """The open questions of one turn. `allow`: answer without asking anybody."""

    def __init__(self, session: Session, allow: bool) -> None:
        self._session, self._allow = session, allow
        self._terminal = asyncio.Lock()
        self._open: dict[str, asyncio.Task[None]] = {}

    async def asked(self, item: Item) -> None:
        """Answer a question as `--allow` says or by rejecting, or begin to ask a person."""
        ask, params = item.body["ask"], _map(item.body.get("params"))
        if item.body["method"] != PERMISSION:
            await self._session.answer(ask, error="the command line cannot answer this")
            return
        offered = params.get("options")
        options = [each for each in offered if "optionId" in _map(each)] if isinstance(offered, list) else []
        title = str(_map(params.get("toolCall")).get("title") or "the agent asks for leave")
        if self._allow:
            await self._choose(ask, _first(options, "allow"))
        elif sys.stdin.isatty():
            self._open[ask] = asyncio.ensure_future(self._ask_person(ask, title, options))
        else:
            print(f"understudy: rejected {title!r} (no terminal to ask at; --allow allows)", file=sys.stderr)
            await self._choose(ask, _first(options, "reject"))

    def answered(self, item: Item) -> None:
        """The question has its answer, maybe from somebody else: ask no more."""
        task = self._open.pop(item.body["ask"], None)
        if task is not None and not task.done():
            task.cancel()
            print("\nunderstudy: the question is over: it was answered elsewhere, or its turn ends", file=sys.stderr)

    def close(self) -> None:
        """Withdraw whatever is open."""
        for task in self._open.values():
            task.cancel()
        self._open.clear()

    async def _ask_person(self, ask: str, title: str, options: list[dict[str, Any]]) -> None:
        async with self._terminal:
            print(f"\n{plain(title)}", file=sys.stderr)
            for number, option in enumerate(options, 1):
                print(f"  {number}  {plain(str(option.get('name')))}", file=sys.stderr)
            termios.tcflush(STDIN, termios.TCIFLUSH)  # What was typed before the question is no answer to it.
            print("your choice: ", end="", file=sys.stderr, flush=True)
            line = await _line()
        self._open.pop(ask, None)
        chosen = line.strip()
        await self._choose(ask, options[int(chosen) - 1] if _is_number(chosen, len(options)) else None)

    async def _choose(self, ask: str, option: dict[str, Any] | None) -> None:
        outcome = {"outcome": "selected", "optionId": option["optionId"]} if option else {"outcome": "cancelled"}
        await self._session.answer(ask, {"outcome": outcome})


async def _line() -> str:
    """Return the next line that is typed, "" at its end. A reader's thread would keep the process from ending."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(STDIN, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(STDIN)
    return os.read(STDIN, LINE_BYTES_MAX).decode(errors="replace")


def plain(text: str) -> str:
    """Return a text with what moves the cursor, hides or turns around what is beside it made visible.

    Whoever decides by it sees all of it: an agent may have been told by others what to write there.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _map(value: Any) -> dict[str, Any]:
    """Return `value` if it is a map; an agent may say anything."""
    return value if isinstance(value, dict) else {}


def _first(options: list[dict[str, Any]], kind: str) -> dict[str, Any] | None:
    return next((option for option in options if str(option.get("kind")).startswith(kind)), None)


def _is_number(text: str, up_to: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 9 and 0 < int(text) <= up_to
