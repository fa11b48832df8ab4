"""The ledgers' judge: each broken promise is counted as what it is, and a kept one as none."""

import json
from pathlib import Path

import pytest

from understudy.protocol.items import Item
from understudy.supervisor.chaos.ledger import Accepted, Verdict, judge


def items(*entries: tuple[int, str, str]) -> list[Item]:
    """Items from (turn, kind, reason of the ending)."""
    return [
        Item("s", number, turn, kind, {"reason": reason}, 0.0) for number, (turn, kind, reason) in enumerate(entries, 1)
    ]


def verdict(found: list[Item], got: list[str], folder: Path) -> Verdict:
    ledger = folder / "ledger"
    ledger.write_text("".join(json.dumps({"text": text}) + "\n" for text in got))
    return judge(Accepted({("s", 1): "one"}), {"s": found}, ledger)


GOOD = [(1, "prompt", ""), (1, "started", ""), (1, "ended", "end_turn")]


def test_a_kept_promise_is_no_finding(tmp_path: Path) -> None:
    found = verdict(items(*GOOD), ["one"], tmp_path)

    assert (1, 0, 0, 0, 0, []) == (
        found.accepted, found.lost, found.endings_doubled, found.begun_twice, found.interrupted_queued, found.findings,
    )  # fmt: skip
    assert {"end_turn": 1} == found.reasons


@pytest.mark.parametrize(
    ("entries", "got", "broken"),
    [
        ([], [], "lost"),
        (GOOD[:2], ["one"], "lost"),
        (GOOD, [], "lost"),
        ([*GOOD, (1, "ended", "interrupted")], ["one"], "endings_doubled"),
        (GOOD, ["one", "one"], "begun_twice"),
        ([(1, "prompt", ""), (1, "ended", "interrupted")], [], "interrupted_queued"),
    ],
    ids=["missing", "no ending", "never got", "two endings", "got twice", "interrupted in the queue"],
)
def test_a_broken_promise_is_counted_and_told(
    entries: list[tuple[int, str, str]], got: list[str], broken: str, tmp_path: Path
) -> None:
    found = verdict(items(*entries), got, tmp_path)

    kinds = ("lost", "endings_doubled", "begun_twice", "interrupted_queued")
    assert {kind: int(kind == broken) for kind in kinds} == {kind: getattr(found, kind) for kind in kinds}
    assert 1 == len(found.findings)


def test_a_gap_in_the_numbers_is_a_loss(tmp_path: Path) -> None:
    first, *rest = items(*GOOD, (2, "prompt", ""))

    assert 1 == verdict([first, *rest[1:]], ["one"], tmp_path).lost


def test_without_a_ledger_of_the_agents_the_log_alone_is_judged() -> None:
    found = judge(Accepted({("s", 1): "one"}), {"s": items(*GOOD)}, None)

    assert not found.ledger
    assert [] == found.findings
