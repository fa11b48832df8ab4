"""Understudy: a supervisor for coding agents.

    async with understudy.house("understudy.toml") as client: ...

starts a house for as long as the block lasts; `understudy.protocol.client.connect` reaches one that runs.
"""

TYPE_CHECKING = False  # As type checkers see it, it is true; and typing costs the command line 5 ms.
if TYPE_CHECKING:
    from understudy.supervisor.embed import house as house

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Load `house` when it is wanted: every start of the command line imports this file."""
    if name != "house":
        raise AttributeError(f"module 'understudy' has no attribute {name!r}")
    from understudy.supervisor.embed import house

    return house
