"""What the configuration says of each agent, frozen. Pure."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class OnCrash(Enum):
    """What becomes of a turn whose agent fell after `go`."""

    INTERRUPT = "interrupt"
    CONTINUE = "continue"
    RETRY = "retry"


class Comeback(Enum):
    """Which ended actors come back: all, those that did not exit with an expected code, none."""

    PERMANENT = "permanent"
    TRANSIENT = "transient"
    TEMPORARY = "temporary"


class OnHang(Enum):
    """What is done about an actor that is silent, or a turn past its timeouts; all of them tell."""

    TELL = "tell"
    CANCEL = "cancel"
    RESTART = "restart"


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How a fallen actor comes back: more than `intensity` restarts within `period_s` means FATAL.

    `expected`: exit codes that do not count as a fall when transient. `fatal_retry_s`: try again out
    of FATAL after so long; 0: only when somebody asks.
    """

    policy: Comeback = Comeback.PERMANENT
    expected: tuple[int, ...] = (0,)
    fatal_retry_s: float = 0.0
    intensity: int = 10
    period_s: float = 60.0
    backoff_min_s: float = 0.25
    backoff_max_s: float = 30.0
    stable_s: float = 30.0


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """One agent of the cast.

    `driver`: scripted, acp, program (no sessions; ready when it lived `start_s`), or python.
    `play`: import path `module:Class` for python. `after`: it starts only while these are RUNNING.
    `launch`: the agent as which this one is launched, "" as itself; with a `persona` of its own (text, "" for none).
    `understudies`: how many spare actors are kept ready, for all that are launched as it is.
    `per_folder`: its program works in the folder that it was started in, so each folder has an actor of its own.
    `sessions_per_actor`: how many sessions one actor's program holds (0: any number); `actors_max`: how many actors may
    play it at once. `lazy`: it has none until a prompt needs one; `idle_stop_s`: none after so long without work (0: it
    stays).
    `memory_mb` (of all its processes), `memory_soft_mb`, `data_limit_mb` (of each, RLIMIT_DATA; an agent that runs
    in its actor is bounded by `memory_mb` so, without one) and `files`: 0 means no limit. `env` is never shown (it may
    hold keys).
    `entries_max`: the numbers of one session's log, an update each.
    `turn_timeout_s`: from hand-over; `quiet_timeout_s`: without an entry while nobody is asked; 0 means none.
    """

    name: str
    driver: str = "scripted"
    play: str = ""
    command: tuple[str, ...] = ()
    cwd: str = ""
    env: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    memory_mb: int = 0
    memory_soft_mb: int = 0
    data_limit_mb: int = 0
    files: int = 0
    on_crash: OnCrash = OnCrash.INTERRUPT
    understudies: int = 0
    launch: str = ""
    persona: str = ""
    per_folder: bool = False
    sessions_per_actor: int = 0
    actors_max: int = 8
    lazy: bool = False
    idle_stop_s: float = 0.0
    restart: RestartPolicy = RestartPolicy()
    after: tuple[str, ...] = ()
    turns_max: int = 1000
    queued_turns_max: int = 10_000
    sessions_max: int = 100_000
    entries_max: int = 10_000_000
    start_s: float = 1.0
    start_timeout_s: float = 60.0
    stop_grace_s: float = 5.0
    cancel_grace_s: float = 10.0
    turn_timeout_s: float = 0.0
    quiet_timeout_s: float = 0.0
    on_hang: OnHang = OnHang.TELL
    options: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class HouseSpec:
    """The whole configuration. `idle_exit_s` 0: the house stays until it is shut down.

    `actors_max`: living actors in all, understudies included; `memory_mb`: what all of them use; 0 means no limit.
    `source`: the file it was read from, "" for none; `command`: how the keeper was started, for `reload`.
    """

    agents: tuple[AgentSpec, ...]
    runtime_dir: str
    state_dir: str
    idle_exit_s: float = 0.0
    orphan_grace_s: float = 10.0
    actors_max: int = 0
    memory_mb: int = 0
    source: str = ""
    command: tuple[str, ...] = ()
