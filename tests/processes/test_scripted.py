import os
import signal
from pathlib import Path

import pytest

from tests.faults.house import wait_until
from tests.stage import Stage
from understudy.actors.contained import words
from understudy.protocol import processes
from understudy.protocol.frames import Answer, Ask, CancelTurn, Ended, Updates, pack, unpack
from understudy.protocol.processes import children, stat

pytestmark = pytest.mark.faults


def played(stage: Stage, text: str, turn: int = 1) -> tuple[str, str]:
    """Play a turn; return what was said and the reason of its ending, with the text of a failure."""
    stage.play(text, turn=turn)
    said, ended = stage.text(Ended)
    return said, ended.reason if ended.reason != "failed" else unpack(ended.body)["text"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hello there", "hello there"),
        ("please [[say a]] and then [[say b c]]", "ab c"),
        ("[[stream 3 1]]", "1 2 3 "),
        ("[[stream 2]]", "1 2 "),
        ("[[stream]]", "1 "),
        ("[[sleep 1]] [[say awake]]", "awake"),
        ("[[stderr 300]] [[say loud]]", "loud"),
        ("[[memory 1]] [[files 3]] [[say fed]]", "fed"),
    ],
)
def test_directives_are_followed_in_order(scripted: Stage, text: str, said: str) -> None:
    assert (said, "end_turn") == played(scripted, text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[say a]] [[dance]] [[say b]]", "the scripted agent knows no directive [[dance]]"),
        ("[[say a]] [[sleep long]]", "[[sleep long]]: 'long' is no whole number"),
        ("[[say a]] [[crash SIGNOTHING]]", "[[crash SIGNOTHING]]: no signal of that name and no exit code"),
    ],
)
def test_a_directive_that_is_none_fails_the_turn_and_is_named(scripted: Stage, text: str, why: str) -> None:
    assert ("a", why) == played(scripted, text)


def test_a_tool_is_called_and_completed(scripted: Stage) -> None:
    scripted.play("[[tool look]]")

    updates = unpack(scripted.receive(Updates).body)

    assert [("tool_call", "pending"), ("tool_call_update", "completed")] == [
        (update["sessionUpdate"], update["status"]) for update in updates
    ]
    assert "look" == updates[0]["title"]


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ({"outcome": "selected", "optionId": "allow"}, "answered: allow "),
        ({"outcome": "cancelled"}, "answered: cancelled "),
    ],
)
def test_the_answer_to_a_question_is_said(scripted: Stage, outcome: dict[str, str], said: str) -> None:
    scripted.play("[[ask May I?]]")
    ask = scripted.receive(Ask)
    scripted.send(Answer("s", ask.ask, pack({"outcome": outcome})))

    body = unpack(ask.body)
    assert "May I?" == body["toolCall"]["title"]
    assert ["allow_once", "reject_once"] == [option["kind"] for option in body["options"]]
    assert said == scripted.text(Ended)[0]


def test_history_counts_the_prompts_of_the_session(scripted: Stage) -> None:
    for session, turn in (("s", 1), ("t", 1), ("s", 2)):
        scripted.play("hello", session, turn)
        scripted.until(Ended)

    scripted.play("[[history]]", "s", 3)

    assert "3 prompt(s) of this session seen by this actor" == scripted.text(Ended)[0]


def test_the_ledger_has_a_line_for_each_prompt_before_anything_is_done(scripted: Stage) -> None:
    scripted.play("[[crash 7]]", "s", 5)

    assert 7 == scripted.status()
    assert [{"session": "s", "turn": 5, "epoch": 1, "text": "[[crash 7]]"}] == scripted.prompts()


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGTERM", "SIGINT"])
def test_it_crashes_by_any_signal(scripted: Stage, name: str) -> None:
    scripted.play(f"[[crash {name}]]")

    assert -signal.Signals[name] == scripted.status()


@pytest.mark.parametrize(("text", "state"), [("[[hang]]", b"S"), ("[[spin]]", b"R")])
def test_what_hangs_or_spins_hears_nothing_more(scripted: Stage, text: str, state: bytes) -> None:
    assert scripted.actor is not None
    pid = scripted.actor.pid
    scripted.play(text)
    wait_until(lambda: len(scripted.prompts()) == 1, "the prompt to be seen")
    wait_until(lambda: (stat(pid) or [b""])[0] == state, f"state {state!r}")

    scripted.send(CancelTurn("s", 1))
    scripted.actor.terminate()

    assert scripted.actor.poll() is None


def test_memory_ends_at_the_limit_of_the_role_and_the_actor_goes_on(stage: Stage) -> None:
    stage.start(memory_mb=300)
    stage.greet()

    assert ("", words(MemoryError())) == played(stage, "[[memory 400]]")
    assert ("still here", "end_turn") == played(stage, "still here", turn=2)


def test_files_end_at_the_limit_of_the_role_and_the_actor_goes_on(stage: Stage) -> None:
    stage.start(files=50)
    stage.greet()

    said, why = played(stage, "[[files 200]]")

    assert ("", True) == (said, why.startswith("OSError: [Errno 24]"))


def test_a_stray_leaves_the_group_and_bears_the_mark(scripted: Stage) -> None:
    assert scripted.actor is not None
    pid = scripted.actor.pid
    assert ("", "end_turn") == played(scripted, "[[stray]]")

    wait_until(lambda: strays(scripted.mark, pid) != [], "the stray")
    (stray,) = strays(scripted.mark, pid)

    assert stray not in children(pid)
    os.kill(stray, signal.SIGKILL)


def strays(mark: str, leader: int) -> list[int]:
    """Return the `sleep`s that bear the mark and left the group of `leader`."""
    found = []
    for pid in processes.marked(mark):
        try:
            if os.getpgid(pid) != leader and Path(f"/proc/{pid}/comm").read_text() == "sleep\n":
                found.append(pid)
        except OSError:
            continue
    return found
