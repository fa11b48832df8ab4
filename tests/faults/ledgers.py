"""What was promised and what happened, by ledgers that the project's log does not keep."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from understudy.protocol.client import connect
from understudy.protocol.items import Item

# On a busy machine an agent may lose the processor between reading its prompt and writing its own ledger.
NOISE = 6


@dataclass
class Accepted:
    """The client's own list: (session, turn) -> the text of the prompt."""

    turns: dict[tuple[str, int], str] = field(default_factory=dict)


async def history(runtime_dir: str, accepted: Accepted) -> dict[str, list[Item]]:
    """Follow each session from its first number until every accepted turn has ended."""
    found: dict[str, list[Item]] = {}
    async with connect(runtime_dir, wait_s=20) as client:
        for name in {session for session, _ in accepted.turns}:
            waiting = {turn for session, turn in accepted.turns if session == name}
            items = found[name] = []
            async for item in client.session(name).follow(1):
                items.append(item)
                if item.kind == "ended":
                    waiting.discard(item.turn)
                if not waiting:
                    break
    return found


def judge(accepted: Accepted, found: dict[str, list[Item]], ledger: Path) -> Counter[str]:
    """Check every promise; return how many turns ended in which way."""
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    got = Counter(json.loads(line)["text"] for line in lines)
    twice = {text: count for text, count in got.items() if count > 1}
    assert {} == twice, "prompts that reached an agent twice"
    reasons: Counter[str] = Counter()
    unseen = 0
    for name, items in found.items():
        assert list(range(1, len(items) + 1)) == [item.number for item in items], f"numbers of {name}"
    for (name, turn), text in accepted.turns.items():
        own = [item for item in found[name] if item.turn == turn]
        kinds = [item.kind for item in own]
        assert "prompt" in kinds, f"accepted turn {turn} of {name} is missing"
        endings = [item.body for item in own if item.kind == "ended"]
        assert 1 == len(endings), f"endings of turn {turn} of {name}: {endings}"
        reason = endings[0]["reason"]
        reasons[reason] += 1
        if reason == "interrupted":
            assert "started" in kinds, f"turn {turn} of {name} was interrupted while it was queued"
            unseen += got[text] == 0
        elif reason == "end_turn":
            assert 1 == got[text], f"turn {turn} of {name} ended well, but its agent got it {got[text]} times"
    handed_over = sum(reasons.values())
    allowed = handed_over // 100 + NOISE
    assert unseen <= allowed, f"{unseen} of {handed_over} interrupted that no agent had got"
    reasons["unseen"] = unseen
    return reasons
