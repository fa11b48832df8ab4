"""What was promised and what happened, by ledgers that the project's log does not keep.

The client's own list says what was accepted, the file that agents append to says what they really got.
`judge` never raises: it counts each broken promise and tells it in `findings`.
"""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from understudy.protocol.client import Client, connect
from understudy.protocol.items import Item
from understudy.protocol.verbs import Sessions

# On a busy machine an agent may lose the processor between reading its prompt and writing its own ledger.
NOISE = 6
CONNECT_S_MAX = 20.0
FINDINGS_MAX = 100


@dataclass
class Accepted:
    """The client's own list: (session, turn) -> the text of the prompt."""

    turns: dict[tuple[str, int], str] = field(default_factory=dict[tuple[str, int], str])


@dataclass
class Verdict:
    """How many promises were broken, in which way; `reasons`: how many turns ended how.

    `unseen`: interrupted though no agent had got the prompt; a few are an agent's that fell between reading and writing.
    `ledger`: whether the agents kept one; without, `begun_twice` and `unseen` say nothing.
    """

    accepted: int = 0
    lost: int = 0
    endings_doubled: int = 0
    begun_twice: int = 0
    interrupted_queued: int = 0
    unseen: int = 0
    ledger: bool = True
    reasons: Counter[str] = field(default_factory=Counter[str])
    findings: list[str] = field(default_factory=list[str])

    def find(self, text: str) -> None:
        """Note a broken promise."""
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(text)


async def history(runtime_dir: str, accepted: Accepted, settle_s: float) -> dict[str, list[Item]]:
    """Follow each session from its first number until every accepted turn has ended, and then to its last number.

    A turn that has not ended within `settle_s` is left as it is, for `judge` to find.
    """
    found: dict[str, list[Item]] = {session: [] for session, _ in accepted.turns}
    async with connect(runtime_dir, wait_s=CONNECT_S_MAX) as client:
        try:
            async with asyncio.timeout(settle_s):
                await asyncio.gather(*(_follow(client, accepted, name, items) for name, items in found.items()))
        except TimeoutError:
            pass
    return found


async def _follow(client: Client, accepted: Accepted, name: str, items: list[Item]) -> None:
    waiting = {turn for session, turn in accepted.turns if session == name}
    last: int | None = None
    async for item in client.session(name).follow(1):
        items.append(item)
        if item.kind == "ended":
            waiting.discard(item.turn)
        if not waiting and last is None:
            last = next(row.last for row in await client.verb(Sessions(name)))
        if last is not None and item.number >= last:
            return


def judge(accepted: Accepted, found: dict[str, list[Item]], ledger: Path | None) -> Verdict:
    """Check every promise. `ledger`: what the agents appended to; None: they keep none."""
    verdict = Verdict(accepted=len(accepted.turns), ledger=ledger is not None)
    got = _got(ledger)
    for text, count in Counter(accepted.turns.values()).items():
        if got[text] > count:
            verdict.begun_twice += 1
            verdict.find(f"prompt {text!r} reached an agent {got[text]} times")
    own: dict[tuple[str, int], list[Item]] = {key: [] for key in accepted.turns}
    for name, items in found.items():
        numbers = [item.number for item in items]
        if numbers != list(range(1, len(items) + 1)):
            verdict.lost += 1
            verdict.find(f"the numbers of {name} have gaps or repeats: {numbers[:20]} …")
        for item in items:
            if (name, item.turn) in own:
                own[name, item.turn].append(item)
    for (name, turn), items in own.items():
        _judge_turn(verdict, f"turn {turn} of {name}", items, got[accepted.turns[name, turn]])
    allowed = verdict.accepted // 100 + NOISE
    if verdict.unseen > allowed:
        verdict.interrupted_queued += verdict.unseen
        verdict.find(f"{verdict.unseen} of {verdict.accepted} interrupted that no agent had got")
    return verdict


def _judge_turn(verdict: Verdict, name: str, items: list[Item], got: int) -> None:
    kinds = [item.kind for item in items]
    endings = [item.body for item in items if item.kind == "ended"]
    if "prompt" not in kinds or not endings:
        verdict.lost += 1
        verdict.find(f"{name}, accepted, {'has no ending' if 'prompt' in kinds else 'is missing'}: {kinds[-5:]}")
        return
    if len(endings) > 1:
        verdict.endings_doubled += 1
        verdict.find(f"{name} has {len(endings)} endings: {endings}")
    reason = str(endings[0]["reason"])
    verdict.reasons[reason] += 1
    if reason == "interrupted" and "started" not in kinds:
        verdict.interrupted_queued += 1
        verdict.find(f"{name} was interrupted while it was queued: {kinds}")
    elif reason == "interrupted" and verdict.ledger:
        verdict.unseen += got == 0
    elif reason == "end_turn" and verdict.ledger and not got:
        verdict.lost += 1
        verdict.find(f"{name} ended well, but no agent got it")


def _got(ledger: Path | None) -> Counter[str]:
    """Return how often each prompt reached an agent. A last line that a killed agent left unfinished does not count."""
    got: Counter[str] = Counter()
    if ledger is not None and ledger.exists():
        for line in ledger.read_text().splitlines():
            try:
                got[json.loads(line)["text"]] += 1
            except ValueError:
                continue
    return got
