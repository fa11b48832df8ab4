"""Real agents that end, and what their policies make of it."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.faults.house import Houses, RealHouse, wait_until
from understudy.protocol.errors import RemoteError
from understudy.protocol.one_verb import verb
from understudy.protocol.verbs import Signal


def row(house: RealHouse, name: str) -> dict[str, Any]:
    return next(each for each in house.rows() if each["name"] == name)


def wait_state(house: RealHouse, name: str, state: str) -> None:
    wait_until(lambda: bool(row(house, name)["state"] == state), f"{name} to be {state}: {house.log()}")


def test_an_agent_that_gave_up_shows_its_last_lines(houses: Houses) -> None:
    command = "['sh', '-c', 'echo no key >&2; exit 3']"
    house = houses(f'[agent.a]\ndriver = "acp"\ncommand = {command}\nrestart = {{ intensity = 0 }}\n')
    wait_state(house, "a", "FATAL")

    shown = house.run("status")
    (told,) = json.loads(house.run("status", "--json").stdout)

    assert 3 == shown.returncode
    assert "  no key\n" in shown.stdout
    assert ["no key"] == told["last_lines"]
    assert "status 3" in told["why"]


def test_one_starts_after_another_is_ready(houses: Houses) -> None:
    house = houses('[agent.a]\ndriver = "scripted"\nafter = ["b"]\n[agent.b]\ndriver = "scripted"\n')

    house.pid("a")

    assert "RUNNING" == row(house, "b")["state"]
    assert row(house, "b")["since"] <= row(house, "a")["since"]


def test_one_whose_other_cannot_run_says_what_it_waits_for(houses: Houses) -> None:
    broken = "driver = 'acp'\ncommand = 'false'\nrestart = { intensity = 0 }\n"
    house = houses(f'[agent.a]\ndriver = "scripted"\nafter = ["b"]\n[agent.b]\n{broken}')
    wait_state(house, "b", "FATAL")

    assert "STOPPED" == row(house, "a")["state"]
    assert "starts when RUNNING: b" in row(house, "a")["why"]


def program(name: str, script: str, more: str = "") -> str:
    return f"[agent.{name}]\ndriver = 'program'\nstart_s = 0.05\ncommand = ['sh', '-c', '''{script}''']\n{more}\n"


def test_a_program_is_kept_and_holds_no_sessions(houses: Houses) -> None:
    house = houses(program("p", "echo hello; echo oops >&2; exec sleep 1000"))
    wait_state(house, "p", "RUNNING")
    wait_until(lambda: "oops\n" in Path(row(house, "p")["log"]).read_text(), "its output")

    refused = house.run("prompt", "p", "hello")

    assert 1 == refused.returncode
    assert "p is a program: it holds no sessions" in refused.stderr


@pytest.mark.parametrize(("status", "state"), [(4, "EXITED"), (5, "FATAL")])
def test_the_exit_status_of_a_program_decides(houses: Houses, status: int, state: str) -> None:
    policy = "restart = { policy = 'transient', expected = [4], intensity = 0 }"
    house = houses(program("p", f"sleep 0.3; exit {status}", policy))

    wait_state(house, "p", state)

    assert f"status {status}" in row(house, "p")["why"]


@pytest.mark.parametrize(("status", "state"), [(0, "EXITED"), (1, "FATAL")])
def test_an_expected_end_is_an_end_however_soon_it_comes(houses: Houses, status: int, state: str) -> None:
    text = program("p", f"exit {status}", "restart = { policy = 'transient', intensity = 0 }")
    house = houses(text.replace("0.05", "50"))

    wait_state(house, "p", state)

    assert "before it had lived 50 s (start_s)" in row(house, "p")["why"]


def kill_supervisor(house: RealHouse) -> None:
    before = house.supervisor()
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: house.supervisor() not in (0, before), "the next supervisor")
    house.wait_answering()


def test_what_has_ended_stays_ended_whoever_supervises(houses: Houses, tmp_path: Path) -> None:
    runs = "echo >> runs-$0; exit "
    command = "driver = 'program'\nstart_s = 0\n"
    house = houses(
        "".join(
            f"[agent.{name}]\n{command}cwd = '{tmp_path}'\ncommand = ['sh', '-c', '{runs}{status}', '{name}']\n"
            f"restart = {{ policy = '{policy}', intensity = 1, backoff_max_s = 0.01 }}\n"
            for name, policy, status in (("over", "transient", 0), ("once", "temporary", 1), ("bad", "permanent", 1))
        )
        + '[agent.played]\ndriver = "scripted"\n'
    )
    house.pid("played")
    for name, state in (("over", "EXITED"), ("once", "EXITED"), ("bad", "FATAL")):
        wait_state(house, name, state)

    def standing() -> list[tuple[object, ...]]:
        rows = house.rows()
        return [(r["name"], r["state"], r["restarts"], r["why"] if r["pid"] is None else "") for r in rows]

    def began() -> list[float]:
        return [house.rows()[0]["state_s"], house.rows()[-1]["state_s"]]

    before, since = standing(), began()
    for change in (lambda: kill_supervisor(house), lambda: house.run("reload"), lambda: kill_supervisor(house)):
        change()
        house.pid("played")
        assert before == standing(), house.log()
        assert [now >= then for now, then in zip(began(), since, strict=True)] == [True, True]
        since = began()

    assert {"runs-over": 1, "runs-once": 1, "runs-bad": 2} == {
        path.name: len(path.read_text().splitlines()) for path in tmp_path.glob("runs-*")
    }


def test_what_gave_up_is_tried_again_when_its_configuration_was_mended(houses: Houses) -> None:
    house = houses(program("p", "exit 1", "restart = { intensity = 0 }"))
    wait_state(house, "p", "FATAL")
    house.config.write_text(program("p", "exec sleep 1000", "restart = { intensity = 0 }"))

    assert 0 == house.run("reload").returncode

    wait_state(house, "p", "RUNNING")


def test_a_prompt_starts_an_agent_that_had_ended_before_the_supervisor_fell(houses: Houses) -> None:
    house = houses("[agent.a]\ndriver = 'scripted'\nrestart = { policy = 'transient', expected = [3] }\n")
    house.run("prompt", "a", "[[crash 3]]")
    wait_state(house, "a", "EXITED")
    kill_supervisor(house)
    assert "EXITED" == row(house, "a")["state"]

    assert "here\n" == house.run("prompt", "a", "here").stdout


def test_a_stopped_agent_stays_stopped_until_it_is_started(houses: Houses) -> None:
    house = houses("[agent.a]\ndriver = 'scripted'\n[agent.b]\ndriver = 'scripted'\n")
    house.pid("a")

    stopped = house.run("stop", "a")
    status = house.run("status")
    pid = house.run("pid", "a")
    started = house.run("start", "all")

    assert (0, "a: STOPPED\n") == (stopped.returncode, stopped.stdout)
    assert (3, 7, "0\n") == (status.returncode, pid.returncode, pid.stdout)
    assert (0, "a: RUNNING\nb: RUNNING\n") == (started.returncode, started.stdout)


def test_restart_signal_and_tail(houses: Houses) -> None:
    house = houses(program("p", "trap 'echo heard' HUP; echo up; while :; do sleep 0.02; done"))
    before = house.pid("p")

    restarted = house.run("restart", "p")
    signalled = house.run("signal", "HUP", "p")
    wait_until(lambda: "heard\n" in Path(row(house, "p")["log"]).read_text(), "the signal to be heard")

    assert (0, "p: RUNNING\n") == (restarted.returncode, restarted.stdout)
    assert before != house.pid("p")
    assert 0 == signalled.returncode
    assert "heard\n" == house.run("tail", "-n", "1", "p").stdout


def test_a_signal_to_an_agent_that_is_not_running_says_so_and_reaches_the_others(houses: Houses) -> None:
    house = houses(
        program("p", "trap 'echo heard' HUP; echo up; while :; do sleep 0.02; done")
        + "[agent.a]\ndriver = 'scripted'\n"
    )
    wait_state(house, "p", "RUNNING")
    house.run("stop", "a")

    signalled = house.run("signal", "HUP", "a", "p")

    wait_until(lambda: "heard\n" in Path(row(house, "p")["log"]).read_text(), "the signal to be heard")
    assert (7, "p: signalled\n") == (signalled.returncode, signalled.stdout)
    assert "a is STOPPED; start it with: understudy start a" in signalled.stderr


def test_a_signal_to_an_actor_that_hangs_says_so_and_reaches_the_others(houses: Houses) -> None:
    house = houses(
        "[agent.a]\ndriver = 'scripted'\n"
        + program("p", "trap 'echo heard' HUP; echo up; while :; do sleep 0.02; done")
    )
    wait_state(house, "p", "RUNNING")
    os.kill(house.pid("a"), signal.SIGSTOP)

    signalled = house.run("signal", "HUP", "all")

    assert (1, "p: signalled\n") == (signalled.returncode, signalled.stdout)
    assert "a does not answer, so nobody knows whether it got the signal" in signalled.stderr


def test_a_signal_that_ends_a_python_agent_was_sent_all_the_same(houses: Houses) -> None:
    house = houses("[agent.a]\ndriver = 'scripted'\n")
    house.pid("a")

    signalled = house.run("signal", "KILL", "a")

    assert (0, "a: signalled; it fell\n", "") == (signalled.returncode, signalled.stdout, signalled.stderr)


def test_the_log_that_a_python_agent_has_not_is_said_to_be_the_houses(houses: Houses) -> None:
    house = houses("[agent.a]\ndriver = 'scripted'\n")

    told = house.run("tail", "a")

    assert f"{house.state_dir}/house.log" in told.stderr


def test_a_prompt_says_what_it_waits_for(houses: Houses) -> None:
    house = houses("[agent.a]\ndriver = 'acp'\ncommand = 'sleep 1000'\n")

    with subprocess.Popen(house.command("prompt", "a", "hello"), stderr=subprocess.PIPE, text=True) as prompting:
        assert prompting.stderr is not None
        told = next(line for line in prompting.stderr if line.strip())
        prompting.kill()

    assert "understudy: waiting for the actor to be ready, for " in told


def test_bad_names_and_signals_say_what_to_do(houses: Houses) -> None:
    house = houses("[agent.a]\ndriver = 'scripted'\n")

    missing, wrong = house.run("start", "x"), house.run("signal", "NONE", "a")

    assert (1, 2) == (missing.returncode, wrong.returncode)
    assert "there is no agent 'x'; the cast is: a" in missing.stderr


def test_a_verb_fails_at_the_first_failed_start_of_what_cannot_be_started(houses: Houses) -> None:
    house = houses(
        '[agent.ghost]\ndriver = "acp"\ncommand = "/no/such/program"\nrestart = { backoff_min_s = 1000, backoff_max_s = 1000 }\n'
        '[agent.a]\ndriver = "scripted"\nafter = ["ghost"]\n[agent.b]\ndriver = "scripted"\nafter = ["a"]\n'
    )

    ghost, last = house.run("restart", "ghost"), house.run("start", "b")

    assert (1, 1) == (ghost.returncode, last.returncode)
    assert "'/no/such/program' cannot be started: No such file or directory" in ghost.stderr
    assert "b: STOPPED: it starts after a, which is STOPPED: it starts after ghost, which is BACKOFF" in last.stderr


@pytest.mark.parametrize("other", ["stopped", "EXITED"])
def test_a_verb_names_what_never_comes(houses: Houses, other: str) -> None:
    script = "exit 0" if other == "EXITED" else "exec sleep 1000"
    house = houses(
        program("b", script, "restart = { policy = 'transient' }") + '[agent.a]\ndriver = "scripted"\nafter = ["b"]\n'
    )
    wait_state(house, "b", "EXITED" if other == "EXITED" else "RUNNING")
    if other == "stopped":
        house.run("stop", "all")

    started = house.run("start", "a")

    assert 1 == started.returncode
    assert "it starts after b, which is " + ("EXITED" if other == "EXITED" else "STOPPED") in started.stderr


def test_each_name_is_shown_as_it_comes_and_a_wait_shows_what_it_waits_for(houses: Houses) -> None:
    house = houses(program("slow", "exec sleep 1000").replace("0.05", "50") + "[agent.a]\ndriver = 'scripted'\n")
    house.pid("a")

    waited = house.run("restart", "a", "slow", "--timeout", "3")
    asked = house.run("stop", "a", "slow", "--no-wait")

    assert (1, "a: RUNNING\n") == (waited.returncode, waited.stdout)
    assert "waiting: slow is STARTING" in waited.stderr
    assert "not done within 3 s, it goes on: slow is STARTING" in waited.stderr
    assert (0, "") == (asked.returncode, asked.stderr)
    wait_state(house, "a", "STOPPED")


def test_a_signal_to_all_reaches_all(houses: Houses) -> None:
    script = "trap 'echo heard' HUP; echo up; while :; do sleep 0.02; done"
    house = houses(program("p", script) + program("q", script))
    for name in ("p", "q"):
        wait_state(house, name, "RUNNING")

    signalled = house.run("signal", "HUP", "all")

    assert "p: signalled\nq: signalled\n" == signalled.stdout
    for name in ("p", "q"):
        wait_until(lambda name=name: "heard\n" in Path(row(house, name)["log"]).read_text(), name)  # type: ignore[misc]


def test_a_signal_to_several_in_one_request_is_refused_in_words(houses: Houses) -> None:
    house = houses("[agent.a]\ndriver = 'scripted'\n[agent.b]\ndriver = 'scripted'\n")

    with pytest.raises(RemoteError, match="one agent at a time, not to 2"):
        verb(house.runtime_dir, Signal(["all"], 1))
