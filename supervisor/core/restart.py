"""When a fallen actor may come back: a budget in a sliding window, and how long to wait. Pure.

The budget is the rule of OTP's `supervisor:add_restart/3`: more than `intensity` restarts
within `period_s` mean give up. The wait is exponential with full jitter up to a cap; the
first restart after a stable time is immediate.
"""

from dataclasses import dataclass, field
from random import Random
from typing import assert_never

from understudy.supervisor.core.specs import Comeback, RestartPolicy


@dataclass(slots=True)
class Restarts:
    """Counts restarts of one actor. The caller brings the clock (monotonic seconds) and the randomness."""

    policy: RestartPolicy
    random: Random
    total: int = 0
    in_a_row: int = 0
    _restarted_at: list[float] = field(default_factory=list[float])

    def returns(self, status: int | None) -> bool:
        """Return whether an actor that ended with `status` (None: it was never ready) is to come back."""
        match self.policy.policy:
            case Comeback.PERMANENT:
                return True
            case Comeback.TRANSIENT:
                return status not in self.policy.expected
            case Comeback.TEMPORARY:
                return False
            case _:
                assert_never(self.policy.policy)

    def fell(self, ran_s: float, now: float) -> float | None:
        """Record a fall after `ran_s` seconds of running; return how long to wait, or None: the budget is spent."""
        if ran_s >= self.policy.stable_s:
            self.in_a_row = 0
        threshold = now - self.policy.period_s
        self._restarted_at = [at for at in self._restarted_at if at > threshold]
        if len(self._restarted_at) >= self.policy.intensity:
            return None
        self._restarted_at.append(now)
        self.total += 1
        self.in_a_row += 1
        if self.in_a_row == 1:
            return 0.0
        ceiling = min(self.policy.backoff_max_s, self.policy.backoff_min_s * 2.0 ** min(self.in_a_row - 2, 30))
        return self.random.uniform(0.0, ceiling)

    def forgive(self) -> None:
        """Start with a fresh budget: somebody asked for the agent again."""
        self._restarted_at = []
        self.in_a_row = 0
