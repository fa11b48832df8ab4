"""What becomes of the house when its supervisor ends. Pure; the keeper asks it.

A start fails when the supervisor ends before it serves, or crashes soon after. Three failed starts in a row
mean safe mode: no agents, only a gateway that says what is wrong; now and then it tries to start in earnest.
"""

import signal
from dataclasses import dataclass
from enum import Enum

FAILED_STARTS_MAX = 3  # In a row: then safe mode.
FAILED_SAFE_STARTS_MAX = 8  # In a row: then the house ends.
STABLE_S = 5.0
BACKOFF_S = 0.25  # Before the third start; then it doubles.
BACKOFF_S_MAX = 10.0
LATER_S = 0.5
ALIVE_EVERY_S = 2.0  # So often a supervisor says that its loop turns.
SILENT_S_MAX = 10.0  # A silence so long ends it; actors and clients go on with the next.
LATE_S_MAX = 1.0  # A look so late means that the machine stood still, and everybody with it.

STATUS_RELOAD = 75  # It stepped aside for the code that is installed now (EX_TEMPFAIL).
STATUS_LATER = 74  # It cannot start now (EX_IOERR): the disk is full, say. Nothing is wrong with it.
STATUS_TRY_AGAIN = 76  # Safe mode is over for now: start in earnest.
STATUS_HOPELESS = 78  # It cannot start, and says why (EX_CONFIG).

KILLED_FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM)


class Next(Enum):
    """What the keeper does."""

    START = "start"
    START_SAFE = "start in safe mode"
    RELOAD = "reload"
    END = "end the house"


@dataclass(slots=True)
class Succession:
    """The supervisors of one keeper. `served`: one of them did; `safe`: the last one was in safe mode."""

    failed: int = 0
    failed_safe: int = 0
    served: bool = False
    safe: bool = False
    ready_at: float | None = None
    heard_at: float | None = None

    def ready(self, now: float) -> None:
        """The supervisor serves."""
        self.ready_at, self.served = now, True

    def alive(self, now: float) -> None:
        """The supervisor's loop turns."""
        self.heard_at = now

    @property
    def watch_due(self) -> float | None:
        """When to ask whether it `hangs`; None while it never said that it is alive."""
        return None if self.heard_at is None else self.heard_at + SILENT_S_MAX

    def hangs(self, now: float) -> bool:
        """Return, once, whether the supervisor was silent for too long."""
        if self.watch_due is None or now < self.watch_due:
            return False
        hangs = now <= self.watch_due + LATE_S_MAX
        self.heard_at = None if hangs else now
        return hangs

    def ended(self, status: int, now: float) -> tuple[Next, float]:
        """Return what to do about exit `status` (minus the signal), and how many seconds to wait before it."""
        crashed = self.ready_at is None or (now - self.ready_at < STABLE_S and status not in KILLED_FROM_OUTSIDE)
        self.ready_at = self.heard_at = None
        if status == 0 or (status == STATUS_HOPELESS and not self.served):
            return Next.END, 0.0
        if status == STATUS_LATER:
            return (Next.START, LATER_S) if self.served else (Next.END, 0.0)
        if status == STATUS_RELOAD:
            return Next.RELOAD, 0.0
        if self.safe:
            if status == STATUS_TRY_AGAIN:
                self.safe = False
                return Next.START, 0.0
            self.failed_safe = self.failed_safe + 1 if crashed else 0
            over = self.failed_safe >= FAILED_SAFE_STARTS_MAX
            return (Next.END, 0.0) if over else (Next.START_SAFE, self._wait_s())
        self.failed = self.failed + 1 if crashed else 0
        self.safe = self.failed >= FAILED_STARTS_MAX
        return (Next.START_SAFE if self.safe else Next.START), self._wait_s()

    def _wait_s(self) -> float:
        again = self.failed + self.failed_safe - 2
        return min(BACKOFF_S * 2.0**again, BACKOFF_S_MAX) if again >= 0 else 0.0
