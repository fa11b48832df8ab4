"""The memory of an agent's whole tree is bounded, with the reason in words."""

from pathlib import Path

from tests.faults.house import wait_until
from tests.test_hangs import playing, until


def test_a_tree_over_its_limit_is_killed_with_the_figures(tmp_path: Path) -> None:
    prompt = "[[say in]] [[child 120]] [[child 120]] [[sleep 60000]]"
    with playing(tmp_path, 'memory = "200 MB"', prompt) as (house, said):
        text = until(said, "ended")["text"]

        assert "memory: limit 200 MB, had " in text
        wait_until(lambda: "memory: limit 200 MB" in house.log(), "the log to tell")
        wait_until(lambda: "memory: limit 200 MB" in house.rows()[0]["why"], "the status to tell")


def test_a_tree_over_its_soft_limit_is_told_and_its_turn_cancelled(tmp_path: Path) -> None:
    with playing(tmp_path, 'memory_soft = "100 MB"', "[[say in]] [[child 150]] [[sleep 60000]]") as (house, said):
        pid = house.pid()

        assert "memory: soft limit 100 MB, had " in until(said, "note")["text"]
        assert "cancelled" == until(said, "ended")["reason"]
        assert pid == house.pid()
