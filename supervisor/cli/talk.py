"""`prompt` and `follow`: a session on the terminal."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

from understudy.protocol.client import Client, Turn, connect
from understudy.protocol.errors import BAD_FRAME, LocalError
from understudy.protocol.items import Item
from understudy.supervisor.cli.asking import Questions, plain
from understudy.supervisor.cli.waiting import Waits
from understudy.supervisor.directories import directories
from understudy.supervisor.starting import IDLE_EXIT_S, ready, share

AWAY_S_MAX = 1.0  # A supervisor's successor answers sooner.
NORMAL_ENDINGS = ("end_turn",)


def run(options: Any) -> int:
    """Carry out the verb; return the exit status."""
    runtime_dir, _ = directories(options.runtime_dir, options.state_dir, os.environ)
    if options.verb == "follow":
        return asyncio.run(_follow(runtime_dir, options))
    if not ready(runtime_dir):
        print("understudy: no house runs; starting one", file=sys.stderr)
        share(options.config, options.runtime_dir, options.state_dir, IDLE_EXIT_S)
    return asyncio.run(_prompt(runtime_dir, options))


async def _follow(runtime_dir: str, options: Any) -> int:
    async with connect(runtime_dir, name="follow") as client, _beside(_tell_when_away(client)):
        async for item in client.session(options.session).follow(options.number):
            print(_json(item) if options.json else _line(item), flush=True)
    return 0


async def _prompt(runtime_dir: str, options: Any) -> int:
    text = _from_stdin() if options.text == "-" else options.text
    waits = Waits(options.agent)
    async with (
        connect(runtime_dir, name="prompt") as client,
        _beside(_tell_when_away(client)),
        _beside(waits.tell(client)),
    ):
        if options.session:
            session = client.session(options.session)
        else:
            session = await client.open(
                options.agent, str(Path(options.cwd or Path.cwd()).absolute()), env=dict(options.env or ())
            )
        turn = await session.prompt(text)
        _cancel_on_interrupt(turn)
        questions = Questions(session, options.allow)
        async for item in session.follow(turn.number):
            if item.turn != turn.number:
                continue
            if item.kind != "prompt":  # Which is what waits.
                waits.heard()
            if options.json:
                print(_json(item), flush=True)
            else:
                _show(item)
            if item.kind == "asked":
                await questions.asked(item)
            elif item.kind == "answered":
                questions.answered(item)
            elif item.kind == "ended":
                questions.close()
                if not options.json and item.body["reason"] not in NORMAL_ENDINGS:
                    reason, why = item.body["reason"], item.body.get("text", "")
                    print(f"understudy: the turn ended: {reason}{': ' if why else ''}{why}", file=sys.stderr)
                if not options.json and not options.session:
                    print(f"(session {session.id})", file=sys.stderr)
                return 0 if item.body["reason"] in NORMAL_ENDINGS else 1
    raise AssertionError("a follow does not end by itself")


@contextlib.asynccontextmanager
async def _beside(telling: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do this meanwhile."""
    task = asyncio.ensure_future(telling)
    try:
        yield
    finally:
        task.cancel()


async def _tell_when_away(client: Client) -> None:
    """Say on stderr that the house is away, and that it is back: else nothing would be seen but silence."""
    while True:
        await client.down.wait()
        try:
            await asyncio.wait_for(client.up.wait(), AWAY_S_MAX)
        except TimeoutError:
            text = "the house does not answer; what it had accepted is kept. Waiting until it runs again (understudy up -d)"
            print(f"\nunderstudy: {text}", file=sys.stderr, flush=True)
            await client.up.wait()
            print("understudy: the house answers again", file=sys.stderr, flush=True)


def _cancel_on_interrupt(turn: Turn) -> None:
    """The first Ctrl-C cancels the turn, the second leaves."""
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[None]] = []

    def interrupted() -> None:
        if tasks:
            raise KeyboardInterrupt
        tasks.append(loop.create_task(turn.cancel()))
        print("\nunderstudy: cancelling; Ctrl-C again to leave the turn alone", file=sys.stderr)

    loop.add_signal_handler(signal.SIGINT, interrupted)


def _from_stdin() -> str:
    """Return what stands on standard input. Raises `LocalError`."""
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise LocalError(BAD_FRAME, f"the prompt is not UTF-8: {error.reason}, at byte {error.start}") from error


def _json(item: Item) -> str:
    line: dict[str, Any] = {
        "session": item.session,
        "number": item.number,
        "turn": item.turn,
        "kind": item.kind,
        "time": item.time,
        "body": item.body,
    }
    if item.kind == "ended":
        line["reason"] = item.body.get("reason")
    return json.dumps(line)


def _show(item: Item) -> None:
    """Write what a person wants to see while a turn runs."""
    if item.kind == "update":
        text = _text(item.body)
        if item.body.get("sessionUpdate") == "agent_message_chunk":
            print(text, end="", flush=True)
        elif item.body.get("sessionUpdate") == "tool_call":
            print(f"[{plain(str(item.body.get('title', 'tool')))}]", file=sys.stderr)
    elif item.kind in ("lost", "requeued", "note"):
        print(f"\nunderstudy: {item.body.get('text', '')}", file=sys.stderr)
    elif item.kind == "ended":
        print(flush=True)


def _text(update: dict[str, Any]) -> str:
    content = update.get("content")
    return str(content.get("text", "")) if isinstance(content, dict) else ""


def _line(item: Item) -> str:
    body = item.body if isinstance(item.body, dict) else {}
    match item.kind:
        case "update":
            text = f"{body.get('sessionUpdate')}: {_text(body) or body.get('title', '')}"
        case "prompt":
            text = " ".join(str(block.get("text", block.get("type"))) for block in body.get("content", []))
        case "ended":
            text = f"{body.get('reason')} {body.get('text', '')}"
        case _:
            text = str(body.get("text") or body or "")
    return f"{item.number:>6}  turn {item.turn:<5} {item.kind:<9} {text}".rstrip()
