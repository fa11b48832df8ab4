"""Understudy: a supervisor for coding agents.

    async with understudy.house("understudy.toml") as client: ...   # A house for as long as the block lasts.
    async with understudy.connect() as client: ...                  # One that runs.
    with understudy.connect_blocking() as client: ...               # The same for scripts and notebooks.

    class Notes(understudy.Actor):                                  # A Python agent.
        async def play(self, turn: understudy.Turn) -> str: ...

What fails is a `LocalError` (ours: the call, or no house to be reached), a `RemoteError` (the house's or the agent's), or,
raised by an actor, an `ActorError`.
"""

TYPE_CHECKING = False  # As type checkers see it, it is true; and typing costs the command line 5 ms.
if TYPE_CHECKING:
    from understudy.actors.actor import Actor as Actor
    from understudy.actors.actor import ActorError as ActorError
    from understudy.actors.actor import Turn as Turn
    from understudy.protocol.blocking import connect_blocking as connect_blocking
    from understudy.protocol.client import connect as connect
    from understudy.protocol.errors import LocalError as LocalError
    from understudy.protocol.errors import RemoteError as RemoteError
    from understudy.supervisor.embed import house as house

__version__ = "0.1.0"

_HOMES = {
    "Actor": "actors.actor",
    "ActorError": "actors.actor",
    "LocalError": "protocol.errors",
    "RemoteError": "protocol.errors",
    "Turn": "actors.actor",
    "connect": "protocol.client",
    "connect_blocking": "protocol.blocking",
    "house": "supervisor.embed",
}


def __getattr__(name: str) -> object:
    """Load a name when it is wanted: every start of the command line imports this file."""
    if name not in _HOMES:
        raise AttributeError(f"module 'understudy' has no attribute {name!r}")
    from importlib import import_module

    globals()[name] = found = getattr(import_module(f"understudy.{_HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
