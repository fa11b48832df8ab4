"""When a fallen actor may come back: a budget in a sliding window, and how long to wait. Pure.

The budget is OTP's `supervisor:add_restart/3`: more than `intensity` restarts within `period_s` mean give up. The
window slides with the time in which the actors ran: what they waited to start again is left out, so that a random
wait does not decide who gives up. The wait is exponential with full jitter up to a cap; the first restart after a
stable time is immediate.
"""

from dataclasses import dataclass, field
from random import Random
from typing import assert_never

from understudy.supervisor.core.specs import Comeback, RestartPolicy


@dataclass(slots=True)
class Restarts:
    """Counts the restarts of one line of actors. `granted`: how long they had run in all (`ran_s`) at each restart
    within the period.
    """

    policy: RestartPolicy
    random: Random
    total: int = 0
    in_a_row: int = 0
    ran_s: float = 0.0
    granted: list[float] = field(default_factory=list[float])

    def returns(self, status: int | None) -> bool:
        """Return whether an actor that ended with `status` (None: there was no process) is to come back."""
        match self.policy.policy:
            case Comeback.PERMANENT:
                return True
            case Comeback.TRANSIENT:
                return status not in self.policy.expected
            case Comeback.TEMPORARY:
                return False
            case _:
                assert_never(self.policy.policy)

    def fell(self, ran_s: float) -> float | None:
        """Record a fall after `ran_s` seconds of running; return how long to wait, or None: the budget is spent."""
        self.ran_s += ran_s
        if ran_s >= self.policy.stable_s:
            self.in_a_row = 0
        threshold = self.ran_s - self.policy.period_s
        self.granted = [at for at in self.granted if at > threshold]
        if len(self.granted) >= self.policy.intensity:
            return None
        self.granted.append(self.ran_s)
        self.total += 1
        self.in_a_row += 1
        if self.in_a_row == 1:
            return 0.0
        ceiling = min(self.policy.backoff_max_s, self.policy.backoff_min_s * 2.0 ** min(self.in_a_row - 2, 30))
        return self.random.uniform(0.0, ceiling)

    def forgive(self) -> None:
        """Start with a fresh budget: somebody asked for the agent again."""
        self.granted = []
        self.in_a_row = 0
