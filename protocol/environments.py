"""A session's own environment: what may be in it, under which name the house keeps it, and where that is. Pure.

The name is a keyed hash of all that is in it, the session's folder included where that matters to the program: it tells
nobody what that is, and stands in logs, in `status` and in the names of launches (`AGENT@NAME`).
"""

import msgspec

from understudy.protocol.sizes import ENVIRONMENT_BYTES_MAX

FOLDER = "env"  # In the state folder of the house.
OURS = "UNDERSTUDY_"  # What we mark processes by begins so.


class Environment(msgspec.Struct, frozen=True, array_like=True):
    """What a session brings: variables, and the folder in which its program is to start ("": that does not matter)."""

    variables: dict[str, str]
    cwd: str = ""

    def __repr__(self) -> str:
        """Name nothing that may be a key."""
        return f"Environment(<{len(self.variables)} variables>)"


def wrong_with(variables: dict[str, str]) -> str:
    """Say which of the variables no process can be given, "" when there is none."""
    size = 0
    for name, value in variables.items():
        try:
            size += len(name.encode()) + len(value.encode()) + 2
        except UnicodeEncodeError:
            return f"the variable {name!a} of `env` is no text that a process can be given"
        if not name or "=" in name or "\0" in name:
            return f"{name!r} in `env` is no name of a variable: it is empty, or has a `=` or a NUL"
        if "\0" in value:
            return f"the variable {name} of `env` has a NUL"
        if name.startswith(OURS):
            return f"the variable {name} of `env` is ours: leave out what begins with {OURS}"
    if size > ENVIRONMENT_BYTES_MAX:
        return f"`env` has {size} bytes; the limit is {ENVIRONMENT_BYTES_MAX}: leave out what the agent does not need"
    return ""


def launch_name(agent: str, environment: str) -> str:
    """Return the name of the launch of those that are launched as `agent`, in an environment ("": in its own)."""
    return f"{agent}@{environment}" if environment else agent


def parts_of(launch: str) -> tuple[str, str]:
    """Return whose launch it is, and the name of the environment, "" for the agent's own."""
    agent, _, environment = launch.partition("@")
    return agent, environment


def path_of(state_dir: str, environment: str) -> str:
    """Return the path of the file that keeps an environment, as msgpack."""
    return f"{state_dir}/{FOLDER}/{environment}"
