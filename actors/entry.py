"""The entry of every actor process: what it waits for, who plays, and within which limits.

The keeper has forked it, given it a session, a title and its mark.
"""

import asyncio
import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import zmq

from understudy.actors.actor import Actor, ActorError, CannotStartError, Role, cannot_start
from understudy.actors.connections import Connections
from understudy.actors.host import FLUSH_MS, Host, HousePlace
from understudy.actors.limits import limit_core, limit_own
from understudy.actors.rehearsal import rehearse
from understudy.protocol.drivers import DRIVERS
from understudy.protocol.environments import Environment, path_of
from understudy.protocol.mark import MARK_VARIABLE
from understudy.protocol.owners import is_ours_to_change, open_ours
from understudy.protocol.paths import backstage_address
from understudy.protocol.shown import ShownFile


def make(role: Role, voice: Any) -> Actor:
    """Return the actor that plays `role`; raise `ActorError` naming what is wrong with its class."""
    name = str(role.options.get("driver"))
    driver = DRIVERS.get(name)
    if driver is None:
        raise ActorError(f"agent {role.name}: there is no driver {name!r}; it is one of {', '.join(DRIVERS)}")
    if driver.in_process:
        _settle(role)
    if not driver.home:
        return _load(str(role.options.get("play", "")))(role, voice)
    module, _, kind = driver.home.partition(":")
    made: Actor = getattr(importlib.import_module(module), kind)(role, voice)
    return made


def _make_in(house: HousePlace, role: Role, voice: Any) -> Actor:
    """As `make`, with what the sessions of this actor brought."""
    if role.environment:
        path = path_of(house.state_dir, role.environment)
        try:
            with open(path, "rb", opener=open_ours) as file:
                brought = msgspec.msgpack.decode(file.read(), type=Environment)
        except (OSError, msgspec.MsgspecError) as error:
            why = (error.strerror if isinstance(error, OSError) else "") or str(error)
            text = f"the environment of its sessions cannot be read: {path}: {why}; open another session"
            raise CannotStartError(f"agent {role.name}: {text}") from error
        role = replace(role, env={**role.env, **brought.variables}, cwd=brought.cwd or role.cwd)
    return make(role, voice)


def _settle(role: Role) -> None:
    """Take the folder and the environment that the configuration gives the agent, as a program of its own would."""
    mark = os.environ.get(MARK_VARIABLE)
    for name, value in role.env.items():
        os.environ[name] = value
    if mark is not None:
        os.environ[MARK_VARIABLE] = mark  # Strays are known by it.
    try:
        os.chdir(role.cwd or ".")
    except OSError as error:
        raise cannot_start(role, error) from error


def _load(path: str) -> type[Actor]:
    module, _, name = path.partition(":")
    place, left_out = os.getcwd(), ""  # noqa: PTH109
    if is_ours_to_change(place):
        sys.path.insert(0, place)
    else:  # In /tmp, say, a stranger's file would be imported in place of ours.
        left_out = f" ({place} was left out: others can write there)"
    remedy = f"it is the import path `module:Class`, of a module in {place} (the agent's `cwd`) or of an installed one"
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ActorError(f"play = {path!r}: {error}{left_out}; {remedy}") from error
    if not (isinstance(found, type) and issubclass(found, Actor)):
        raise ActorError(f"play = {path!r} is no class derived from understudy.actors.actor.Actor")
    checked: type[Actor] = found
    return checked


def main(receive: Callable[[], tuple[Role, str]], house: HousePlace, waits_at: int | None = None) -> int:
    """Receive a role and its mark, and be that actor; return the exit status. Called in the keeper's fork.

    `waits_at`: a descriptor that is readable once there is a role; until then this process warms up. None: there is.
    """
    limit_core()

    async def run() -> int:
        context: zmq.Context[Any] = zmq.Context()
        connections = Connections(context, backstage_address(house.runtime_dir))
        if waits_at is not None:
            await rehearse(house)
            await connections.wait(waits_at)
        try:
            role, mark = receive()
        except EOFError:
            context.destroy(0)
            raise
        driver = DRIVERS.get(str(role.options.get("driver")))
        if driver is not None and driver.in_process:
            limit_own(role.data_limit_mb or role.memory_mb, role.files)
        shown = ShownFile.of_actor(house.state_dir, role.name, role.epoch)
        status = await Host(role, house, mark, shown, partial(_make_in, house), connections.connect).run()
        context.destroy(FLUSH_MS)
        return status

    return asyncio.run(run())
