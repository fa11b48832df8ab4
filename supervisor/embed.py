"""A house inside a program: `async with understudy.house("understudy.toml") as client`.

The same house as `understudy up`, in processes of its own. It ends with the block, and when the program dies, however
that is: its keeper asks the kernel for a signal at the death of the thread that started it.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from understudy.protocol.client import Client, OnAsk
from understudy.protocol.errors import CONNECTION_LOST, NOT_OURS, LocalError
from understudy.protocol.owners import OwnerError, make_folder, open_ours
from understudy.protocol.presence import held
from understudy.protocol.presence import keeper as keeper_at
from understudy.supervisor.starting import READY_S_MAX, last_words

END_S_MAX = 30.0  # Then the house is told to hurry, and after `HURRY_S_MAX` its keeper is killed.
HURRY_S_MAX = 5.0
LOOK_AGAIN_S = 0.01

Folder = str | os.PathLike[str]
Keeper = subprocess.Popen[bytes]


@asynccontextmanager
async def house(
    config: Folder | None = None,
    *,
    runtime_dir: Folder | None = None,
    state_dir: Folder | None = None,
    name: str = "embedded",
    on_ask: OnAsk | None = None,
) -> AsyncIterator[Client]:
    """Start a house, give a client of it, and end the house with the block. Raises `LocalError` when it does not start.

    `config`: the file with the cast (default: as `understudy up` finds it). A folder that is not given is a temporary
    one and goes with the house; with a `state_dir` the log is kept. `name` and `on_ask`: as for `connect`.
    """
    temporary = "" if runtime_dir and state_dir else tempfile.mkdtemp(prefix="understudy-")
    runtime, state = (
        str(Path(runtime_dir or f"{temporary}/run").absolute()),
        str(Path(state_dir or f"{temporary}/state").absolute()),
    )
    plan = {"config": None if config is None else os.fspath(config), "runtime_dir": runtime, "state_dir": state}
    try:
        keeper = _start(plan, state, temporary)
        client = Client(runtime, name, on_ask)
        try:
            await _connect(client, keeper, Path(state, "house.log"))
            yield client
        finally:
            try:
                await client.close()
            finally:
                await _end(keeper, runtime)
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)


def _start(plan: dict[str, str | None], state: str, temporary: str) -> Keeper:
    """Start the keeper, from the thread that runs the loop: its death is the end of the house."""
    command = [sys.executable, "-P", "-m", "understudy.supervisor.embedded", json.dumps([os.getpid(), temporary, plan])]
    try:
        make_folder(state, "state_dir")
        with open(Path(state, "house.log"), "wb", opener=open_ours) as log:
            return Keeper(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    except OwnerError as error:
        raise LocalError(NOT_OURS, f"the house did not start: {error.strerror}") from error
    except OSError as error:
        text = f"the house did not start: {state}: {error.strerror}; choose another state_dir"
        raise LocalError(CONNECTION_LOST, text) from error


async def _connect(client: Client, keeper: Keeper, log: Path) -> None:
    """Return once this keeper's house answers."""
    starting = asyncio.ensure_future(client.start(READY_S_MAX))
    try:
        while keeper.poll() is None:
            if starting.done() and (starting.exception() is not None or _keeps(keeper, client.runtime_dir)):
                starting.result()
                return
            await asyncio.sleep(LOOK_AGAIN_S)
    finally:
        starting.cancel()
    text = f"the house did not start (status {keeper.returncode}):\n{last_words(log)}"
    raise LocalError(CONNECTION_LOST, text)


def _keeps(keeper: Keeper, runtime_dir: str) -> bool:
    """Return whether the house there is this keeper's: another one may hold the folder."""
    return keeper_at(f"{runtime_dir}/lock") == keeper.pid


async def _end(keeper: Keeper, runtime_dir: str) -> None:
    """Ask the house to end, and wait for it; cancelled, it ends all the same."""
    loop, lock = asyncio.get_running_loop(), f"{runtime_dir}/lock"
    for number, wait_s in ((signal.SIGTERM, END_S_MAX), (signal.SIGTERM, HURRY_S_MAX), (signal.SIGKILL, HURRY_S_MAX)):
        keeper.send_signal(number)  # To one that has ended it does nothing.
        until = loop.time() + wait_s
        # A supervisor that outlives its keeper ends the rest.
        while keeper.poll() is None or (held(lock) and _keeps(keeper, runtime_dir)):
            if loop.time() > until:
                break
            await asyncio.sleep(LOOK_AGAIN_S)
        else:
            return
