"""Which turns an actor plays, who ends each, and how long it goes on alone. Pure: host and simulator run the same.

The actor says a turn's one ending, but for two cases that it leaves to the supervisor, which knows by the marks what
the agent had seen once nothing of the actor lives: the turn ends for the actor's own end's sake, or its program is gone.
"""

Key = tuple[str, int]  # session, turn

FLUSH_S_MAX = 2.0  # So long does an actor that ends wait until everything that it said is recorded.


class Playing:
    """The turns of one actor. The caller brings the clock (monotonic seconds)."""

    def __init__(self, orphan_grace_s: float) -> None:
        self.takes_turns = False  # True from when it is ready until it is told to end.
        self.stopping = False
        self._orphan_grace_s = orphan_grace_s
        self._lost_at: float | None = None
        self._waiting: set[Key] = set()  # Turns that wait for `go`.
        self._cancelled: set[Key] = set()  # Turns that a client, or a limit, asked to cancel.

    # --- turns ---

    def waits(self, turn: Key) -> None:
        """Leave to start the turn was asked for."""
        self._waiting.add(turn)

    def may_go(self, turn: Key) -> bool:
        """Leave was given; return whether the turn still waits for it."""
        waits = turn in self._waiting
        self._waiting.discard(turn)
        return waits

    def cancel(self, turn: Key) -> None:
        """The turn is to be cancelled for its own sake: if that is how it ends, the actor says so, also when it stops."""
        self._cancelled.add(turn)

    def breaks_off(self, turn: Key, understood: bool) -> bool:
        """Return whether a cancelled turn's play is broken off, or (`understood` by the agent) comes to its own end."""
        return not understood or turn in self._waiting

    def ended(self, turn: Key, reason: str, program_gone: bool) -> bool:
        """The turn's play is over; return whether the actor says the ending, or leaves it to the supervisor."""
        self._waiting.discard(turn)
        cancelled = turn in self._cancelled
        self._cancelled.discard(turn)
        if reason == "cancelled" and self.stopping and not cancelled:
            return False
        return not (reason == "failed" and program_gone)

    def stop(self) -> None:
        """It was told to end, or has nobody to play for: what is handed over from now on goes to the next incarnation."""
        self.takes_turns, self.stopping = False, True

    # --- the supervisor ---

    def lost(self, now: float) -> None:
        """The connection is gone, or could not be made; from the first time on it is alone."""
        if self._lost_at is None:
            self._lost_at = now

    def found(self) -> None:
        """The supervisor has answered the hello."""
        self._lost_at = None

    @property
    def orphan_due(self) -> float | None:
        """When it is an orphan, which ends itself; None while it has a supervisor."""
        return None if self._lost_at is None else self._lost_at + self._orphan_grace_s
