"""The ledgers' verdict as a test wants it."""

import asyncio
from collections import Counter
from pathlib import Path

from understudy.supervisor.chaos.ledger import Accepted, history, judge

SETTLE_S = 60.0


def kept(runtime_dir: str, accepted: Accepted, ledger: Path) -> Counter[str]:
    """Check every promise; return how many turns ended in which way, and how many of them no agent had got."""
    verdict = judge(accepted, asyncio.run(history(runtime_dir, accepted, SETTLE_S)), ledger)
    assert [] == verdict.findings
    verdict.reasons["unseen"] = verdict.unseen
    return verdict.reasons
