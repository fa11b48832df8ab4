"""The drivers, one table for both sides: what each needs of the configuration, what it can do, and where its class is. Pure.

The check of the configuration, the house, the keeper and the actors' entry read it; nothing else knows a driver's name.
It imports none of them: an actor loads its own.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Driver:
    """One driver. `home`: its class, `module:Class`; "" when the configuration names that (`play`).

    `suits`: for whom it is, in a mistake's remedy. `needs`: the key of an agent's table that it cannot do without.
    `in_process`: the agent is the actor itself, which so has the folder, the environment and the limits of the agent.
    `holds_sessions`: it takes prompts. `ready_when_lived`: it says nothing at its start, so it is ready after `start_s`.
    """

    home: str
    suits: str
    needs: Literal["", "command", "play"] = ""
    in_process: bool = False
    holds_sessions: bool = True
    ready_when_lived: bool = False


DRIVERS = {
    "acp": Driver(
        "understudy.actors.drivers.acp:AcpProgram", "a program that speaks the Agent Client Protocol", needs="command"
    ),
    "program": Driver(
        "understudy.actors.drivers.program:Program",
        "any other program",
        needs="command",
        holds_sessions=False,
        ready_when_lived=True,
    ),
    "python": Driver("", "a Python class", needs="play", in_process=True),
    "scripted": Driver("understudy.actors.drivers.scripted:Scripted", "the built-in agent", in_process=True),
}
EXAMPLES = {"command": 'command = "PROGRAM ARGUMENTS"', "play": 'play = "module:Class"'}
