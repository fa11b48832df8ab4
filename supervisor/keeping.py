"""Keeps a house: the one place that knows its keeper, its supervisor and its configuration, and joins them.

Nothing but the house's own processes comes here, and `up`, which becomes one. Clients start a house by `starting.py`.
"""

import os
from dataclasses import replace

from understudy.protocol.bodies import quick_decode
from understudy.protocol.presence import held
from understudy.protocol.stderr import say, write_line
from understudy.supervisor.config.config import ConfigError, read
from understudy.supervisor.core.specs import HouseSpec
from understudy.supervisor.keeper import actors, keeper, reload
from understudy.supervisor.keeper.folders import HouseError


def keep(
    command: tuple[str, ...],
    config: str | None,
    runtime_dir: str | None,
    state_dir: str | None,
    idle_exit_s: float | None = None,
) -> int:
    """Be a house's keeper until it is shut down; return the exit status. `command`: starts it again, for `reload`."""
    inherited = reload.receive()
    same = inherited.house.source if inherited is not None else ""  # Which `understudy reload` has checked.
    try:
        house, remarks = read(config or same or None, runtime_dir, state_dir, os.environ)
        if idle_exit_s is not None:
            house = replace(house, idle_exit_s=idle_exit_s)
    except Exception as error:
        mistakes = error.mistakes if isinstance(error, ConfigError) else [f"the configuration: {error}"]
        if inherited is None and not isinstance(error, ConfigError):
            raise
        for mistake in mistakes:
            write_line(mistake)
        if inherited is None:
            return 2
        write_line("understudy: the configuration stays as it was")
        house, remarks = inherited.house, []
    try:
        house = replace(house, command=command)
        if inherited is not None or not held(f"{house.runtime_dir}/lock"):
            names = ", ".join(agent.name for agent in house.agents)
            say(f"the cast is {names}; sockets in {house.runtime_dir}, log in {house.state_dir}")
            for remark in remarks:
                say(remark)
        return keeper.Keeper(house, *_load_code(house)).run(inherited)
    except HouseError as error:
        write_line(f"understudy: {error}")
        return 1


def check(config: str | None, runtime_dir: str | None, state_dir: str | None) -> tuple[list[str], list[str], str]:
    """Return the configuration's mistakes, remarks on it, and its file, "" for the built-in cast, as `keep` would read it.

    Loads the code that a house needs, and raises whatever a broken module raises.
    """
    try:
        house, remarks = read(config, runtime_dir, state_dir, os.environ)
    except ConfigError as error:
        return error.mistakes, [], ""
    _load_code(house)
    return [], remarks, house.source


def _load_code(house: HouseSpec) -> tuple[keeper.Supervise, keeper.SuperviseSafely, actors.Act]:
    """Load what children run before the first fork, so that they need not."""
    from understudy.supervisor.shell import safe, shell

    quick_decode()
    return shell.main, safe.main, actors.load_actors({agent.driver for agent in house.agents})
