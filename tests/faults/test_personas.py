"""Parts of a cast: each given its persona once for each session, whoever plays it and whatever falls."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.house import RealHouse, wait_until
from understudy.actors.actor import ActorError, Role, SessionPlan, Turn
from understudy.actors.drivers.acp import AcpProgram
from understudy.protocol.client import connect
from understudy.protocol.errors import RemoteError

AGENT = """
import json, sys
log = open({log!r}, "a", buffering=1)
for line in sys.stdin:
    said = json.loads(line)
    method, params = said.get("method"), said.get("params") or {{}}
    result = {{}}
    if method == "initialize":
        result = {{"protocolVersion": 1, "agentInfo": {{"name": {name!r}}}, "agentCapabilities": {{"loadSession": {loads}}}}}
    elif method == "session/new":
        result = {{"sessionId": params["cwd"] + str(id(line))}}
    if method in ("session/new", "session/load", "session/prompt"):
        log.write(json.dumps([method, params.get("_meta"), [each["text"] for each in params.get("prompt", [])]]) + "\\n")
    if method == "session/prompt":
        result = {{"stopReason": "end_turn"}}
    if "id" in said:
        print(json.dumps({{"jsonrpc": "2.0", "id": said["id"], "result": result}}), flush=True)
"""
CAST = """
[agent.base]
driver = "acp"
command = [{python!r}, {agent!r}]
understudies = 1

[agent.poet]
as = "base"
persona = "poet.md"

[agent.critic]
as = "base"
persona = "critic.md"
"""
POET, CRITIC = "You write verse.", "You find fault."


def a_house(folder: Path, name: str = "an agent", loads: bool = True) -> RealHouse:
    (folder / "agent.py").write_text(AGENT.format(log=str(folder / "log"), name=name, loads=loads))
    (folder / "poet.md").write_text(f"---\nname: poet\ndescription: Use it: for verse\n---\n\n{POET}\n")
    (folder / "critic.md").write_text(CRITIC)
    return RealHouse(folder, CAST.format(python=sys.executable, agent=str(folder / "agent.py")))


def heard(folder: Path, method: str = "session/prompt") -> list[Any]:
    lines = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    return [prompt if method == "session/prompt" else meta for said, meta, prompt in lines if said == method]


async def play(house: RealHouse, agent: str, prompts: list[str], kill: bool) -> None:
    async with connect(house.runtime_dir) as client, asyncio.timeout(60):
        session = await client.open(agent)
        for prompt in prompts:
            assert "end_turn" == (await (await session.prompt(prompt)).ending()).reason
            if kill:
                pid = house.pid(agent)
                os.kill(pid, signal.SIGKILL)
                wait_until(lambda pid=pid: house.pid(agent) != pid, "another actor")  # type: ignore[misc]


class Memory:
    """A voice that keeps what is remembered of a session, and gives leave to begin, or not."""

    def __init__(self, leave: bool) -> None:
        self.leave, self.kept = leave, dict[str, Any]()

    async def say(self, session: str, turn: int, update: dict[str, Any]) -> None: ...

    async def ask(self, session: str, turn: int, method: str, body: Any, public: bool) -> Any: ...

    async def begin(self, session: str, turn: int) -> None:  # noqa: ARG002 (a voice has them)
        if not self.leave:
            raise ActorError("nothing more is heard of the supervisor")

    def show(self, session: str, turn: int) -> None: ...

    def withdraw(self, session: str, turn: int) -> None: ...

    def remember(self, session: str, body: Any) -> None:  # noqa: ARG002 (a voice has it)
        self.kept = body


async def play_in_one_process(folder: Path, number: int, memory: Any, leave: bool) -> Any:
    """Play a turn as an actor does that is gone afterwards; return what is remembered of the session."""
    log = str(folder / "stderr")
    voice = Memory(leave)
    role = Role("poet", 1, (sys.executable, str(folder / "agent.py")), str(folder), {}, 0, 0, {}, log)
    actor = AcpProgram(role, voice)
    await actor.start()
    plan = SessionPlan("s1", str(folder), {}, memory, POET)
    turn = Turn(plan, number, [{"type": "text", "text": f"turn {number}"}], frozenset(), voice)
    with contextlib.nullcontext() if leave else pytest.raises(ActorError):
        await actor.play(turn)
    await actor.stop(5.0)
    return {**(memory or {}), **voice.kept}


def test_a_persona_that_no_agent_saw_goes_before_the_next_prompt(tmp_path: Path) -> None:
    text = AGENT.format(log=str(tmp_path / "log"), name="an agent", loads=True)
    (tmp_path / "agent.py").write_text(text)

    async def play_four() -> None:
        memory = None
        for number, leave in ((1, False), (2, True), (3, False), (4, True)):
            memory = await play_in_one_process(tmp_path, number, memory, leave)

    asyncio.run(asyncio.wait_for(play_four(), 60))

    assert [[POET, "turn 2"], ["turn 4"]] == heard(tmp_path)


@pytest.mark.parametrize("kill", [False, True])
def test_a_persona_goes_before_the_first_prompt_of_a_session_and_no_other(tmp_path: Path, kill: bool) -> None:
    with a_house(tmp_path) as house:
        asyncio.run(play(house, "poet", ["one", "two", "three"], kill))
        asyncio.run(play(house, "critic", ["four"], kill=False))
        asyncio.run(play(house, "base", ["five"], kill=False))

    assert [[POET, "one"], ["two"], ["three"], [CRITIC, "four"], ["five"]] == heard(tmp_path)


def test_an_agent_that_has_forgotten_the_session_is_told_again_who_it_is(tmp_path: Path) -> None:
    with a_house(tmp_path, loads=False) as house:
        asyncio.run(play(house, "poet", ["one", "two"], kill=True))

    assert [[POET, "one"], [POET, "two"]] == heard(tmp_path)


def test_an_agent_that_takes_a_system_prompt_is_told_there(tmp_path: Path) -> None:
    with a_house(tmp_path, name="claude-agent-acp") as house:
        asyncio.run(play(house, "poet", ["one", "two"], kill=True))

    assert [["one"], ["two"]] == heard(tmp_path)
    told = {"systemPrompt": {"append": POET}}
    assert [told] == heard(tmp_path, "session/new")
    assert told in heard(tmp_path, "session/load")


def test_a_session_whose_agent_has_another_persona_by_now_is_told_so_once(tmp_path: Path) -> None:
    async def talk(house: RealHouse) -> list[str]:
        async with connect(house.runtime_dir) as client, asyncio.timeout(60):
            session = await client.open("poet")
            assert "end_turn" == (await (await session.prompt("one")).ending()).reason
            (tmp_path / "poet.md").write_text("You write prose.")
            ended = await asyncio.to_thread(house.run, "reload")
            assert 0 == ended.returncode, ended.stderr
            assert "end_turn" == (await (await session.prompt("two")).ending()).reason
            last = await session.prompt("three")
            items = []
            async for item in session.follow(1):
                items.append(item)
                if item.kind == "ended" and item.turn == last.number:
                    return [str(each.body) for each in items if each.kind == "update"]
        raise AssertionError("the follow ended")

    with a_house(tmp_path) as house:
        told = asyncio.run(talk(house))

    assert 1 == sum("the persona of this agent has changed since this session began" in each for each in told)
    assert [[POET, "one"], ["two"], ["three"]] == heard(tmp_path)


def test_a_session_of_what_is_a_program_by_now_is_told_so(tmp_path: Path) -> None:
    house = RealHouse(tmp_path, '[agent.a]\ndriver = "scripted"\n')

    async def talk() -> tuple[str, str]:
        async with connect(house.runtime_dir) as client, asyncio.timeout(60):
            session = await client.open("a")
            await (await session.prompt("one")).ending()
            await asyncio.to_thread(house.run, "stop", "a")
            waiting = await session.prompt("two")
            house.config.write_text('[agent.a]\ndriver = "program"\ncommand = "sleep 1000"\n')
            await asyncio.to_thread(house.run, "reload")
            with pytest.raises(RemoteError) as refused:
                await session.prompt("three")
            await asyncio.to_thread(house.run, "start", "a")
            return refused.value.text, str((await waiting.ending()).text)

    with house:
        refused, ended = asyncio.run(talk())

    assert refused.startswith("a is a program now, which holds no sessions")
    assert "a is a program now, which holds no sessions; nothing was run" in ended
