"""Sessions with an environment, or a folder, of their own: played by actors that were launched so, whoever falls."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.house import RealHouse, wait_until
from understudy.protocol.client import Client, Session, connect
from understudy.protocol.errors import LocalError, RemoteError

AGENT = """
import json, os, sys
for line in sys.stdin:
    said = json.loads(line)
    method, params, result = said.get("method"), said.get("params") or {}, {}
    if method == "initialize":
        result = {"protocolVersion": 1, "agentCapabilities": {"loadSession": True}}
    elif method == "session/new":
        result = {"sessionId": f"theirs {said['id']}"}
    elif method == "session/prompt":
        names = params["prompt"][-1]["text"].split()
        text = " ".join(os.environ.get(each, "none") for each in names) + f" in {os.getcwd()}, pid {os.getpid()}"
        update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}
        note = {"sessionId": params["sessionId"], "update": update}
        print(json.dumps({"jsonrpc": "2.0", "method": "session/update", "params": note}))
        result = {"stopReason": "end_turn"}
    if "id" in said:
        print(json.dumps({"jsonrpc": "2.0", "id": said["id"], "result": result}), flush=True)
"""
CLASS = """
import os
from understudy import Actor

class Teller(Actor):
    async def play(self, turn):
        names = turn.text.split()
        text = " ".join(os.environ.get(each, "none") for each in names) + f" in {os.getcwd()}, pid {os.getpid()}"
        await turn.say(text)
        return "end_turn"
"""
CAST = """
[agent.program]
driver = "acp"
command = [{python!r}, {agent!r}]
env = {{ SET = "by the agent", BOTH = "by the agent" }}
understudies = 1

[agent.class]
driver = "python"
play = "teller:Teller"
cwd = {cwd!r}
env = {{ SET = "by the agent", BOTH = "by the agent" }}
actors_max = 3

[agent.placed]
driver = "acp"
command = [{python!r}, {agent!r}]
cwd = {cwd!r}
per_folder = true
"""
SECRET = "key-4f1d-of-nobody"


@pytest.fixture
def house(tmp_path: Path) -> Any:
    (tmp_path / "agent.py").write_text(AGENT)
    (tmp_path / "teller.py").write_text(CLASS)
    with RealHouse(
        tmp_path, CAST.format(python=sys.executable, agent=str(tmp_path / "agent.py"), cwd=str(tmp_path))
    ) as it:
        yield it


async def told(session: Session, names: str) -> str:
    """Return what the agent says that these variables are, with its folder and pid."""
    turn = await session.prompt(names)
    ending = await turn.ending()
    assert "end_turn" == ending.reason, ending
    async for item in session.follow(turn.number):
        if item.kind == "update":
            return str(item.body["content"]["text"])
    raise AssertionError("the follow ended")


def rows(house: RealHouse, agent: str) -> list[dict[str, Any]]:
    return [each for each in house.rows() if each["name"].partition("/")[0] == agent]


@pytest.mark.parametrize("agent", ["program", "class"])
def test_what_a_session_brings_reaches_its_agent_and_no_other_session(house: RealHouse, agent: str) -> None:
    async def play() -> None:
        async with connect(house.runtime_dir) as client, asyncio.timeout(60):
            plain = await client.open(agent)
            blue = await client.open(agent, env={"COLOUR": "blue", "BOTH": "by the session"})
            red = await client.open(agent, env={"COLOUR": "red"})
            again = await client.open(agent, env={"BOTH": "by the session", "COLOUR": "blue"})
            said = [await told(each, "COLOUR SET BOTH") for each in (plain, blue, red, again)]
            assert [each.partition(" in ")[0] for each in said] == [
                "none by the agent by the agent",
                "blue by the agent by the session",
                "red by the agent by the agent",
                "blue by the agent by the session",
            ]
            pids = [each.rpartition(" ")[2] for each in said]
            assert pids[1] == pids[3]
            assert 3 == len(set(pids))
            places = {row["name"]: row["environment"] for row in rows(house, agent)}
            assert places[agent] == ""
            assert 2 == len({places[f"{agent}/2"], places[f"{agent}/3"]} - {""})

    asyncio.run(play())


def test_it_is_there_again_after_everything_died(house: RealHouse) -> None:
    async def before() -> str:
        async with connect(house.runtime_dir) as client, asyncio.timeout(60):
            session = await client.open("program", env={"COLOUR": "blue"})
            assert (await told(session, "COLOUR")).startswith("blue ")
            os.kill(house.pid("program/2"), signal.SIGKILL)
            assert (await told(session, "COLOUR")).startswith("blue ")
            os.kill(house.supervisor(), signal.SIGKILL)
            house.wait_answering()
            assert (await told(session, "COLOUR")).startswith("blue ")
            return session.id

    async def after(name: str) -> str:
        async with connect(house.runtime_dir) as client, asyncio.timeout(60):
            return await told(client.session(name), "COLOUR")

    name = asyncio.run(before())
    assert house.keeper is not None
    for pid in (house.keeper.pid, house.supervisor(), house.pid("program"), house.pid("program/2")):
        os.kill(pid, signal.SIGKILL)
    house.keeper.wait()
    house.start()
    assert asyncio.run(after(name)).startswith("blue ")


def test_what_is_in_it_stands_in_its_own_file_only_which_is_ours_alone(house: RealHouse) -> None:
    async def play() -> None:
        async with connect(house.runtime_dir) as client, asyncio.timeout(60):
            session = await client.open("program", env={"API_KEY": SECRET})
            assert (await told(session, "COLOUR")).startswith("none ")
            with pytest.raises(RemoteError) as refused:
                await client.open("nobody", env={"API_KEY": SECRET})
            assert SECRET not in str(refused.value)

    asyncio.run(play())
    os.kill(house.supervisor(), signal.SIGKILL)
    house.wait_answering()
    shown = house.run("status", "--json").stdout + house.run("sessions", "--json").stdout + house.log()
    assert SECRET not in shown
    kept = [path for path in house.folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert [Path(house.state_dir, "env")] == [path.parent for path in kept]
    assert [0o600, 0o700] == [path.stat().st_mode & 0o777 for path in (kept[0], kept[0].parent)]
    assert kept[0].name in house.run("sessions", "--json").stdout


def test_one_that_is_gone_ends_the_turn_with_the_file_and_the_remedy(house: RealHouse) -> None:
    async def play() -> None:
        async with connect(house.runtime_dir) as client, asyncio.timeout(60):
            session = await client.open("class", env={"COLOUR": "blue"})
            (file,) = (path for path in Path(house.state_dir, "env").iterdir() if path.name != "key")
            file.write_bytes(b"torn")
            call = asyncio.ensure_future(session.call("ready"))
            with pytest.raises(RemoteError, match=f"{file.name}.*open another session"):
                await call
            file.unlink()
            again = await client.open("class", env={"COLOUR": "blue"})  # Which writes it anew.
            assert (await told(again, "COLOUR")).startswith("blue ")

    asyncio.run(play())


def test_one_that_a_power_loss_tore_is_written_anew_for_the_next_session_that_brings_it(house: RealHouse) -> None:
    async def play() -> None:
        async with connect(house.runtime_dir) as client, asyncio.timeout(60):
            await client.open("program", env={"COLOUR": "blue"})
            (file,) = (path for path in Path(house.state_dir, "env").iterdir() if path.name != "key")
            file.write_bytes(b"")
            again = await client.open("program", env={"COLOUR": "blue"})
            assert (await told(again, "COLOUR")).startswith("blue ")

    asyncio.run(play())


WRONG: list[tuple[dict[str, str], str]] = [
    ({"": "x"}, "no name of a variable"),
    ({"A=B": "x"}, "no name of a variable"),
    ({"A": "x\0y"}, "has a NUL"),
    ({"UNDERSTUDY_MARK": "x"}, "leave out what begins with UNDERSTUDY_"),
    ({"A": "x" * (1 << 17)}, "the limit is 131072"),
    ({f"V{at}": "x" for at in range(2001)}, "<= 2000"),
    ({"A": "half \udc80"}, "is no text"),
]


def test_what_no_process_can_be_given_is_refused_before_anything_is_kept(house: RealHouse) -> None:
    async def play() -> None:
        async with connect(house.runtime_dir) as client, asyncio.timeout(60):
            for env, why in WRONG:
                with pytest.raises(LocalError, match=why):
                    await client.open("program", env=env)

    asyncio.run(play())
    assert not Path(house.state_dir, "env").exists()


def test_an_agent_that_works_where_it_is_started_has_an_actor_for_each_folder(house: RealHouse) -> None:
    async def play(client: Client, folders: list[Path]) -> list[str]:
        return [await told(await client.open("placed", str(folder)), "WHERE") for folder in folders]

    async def all_of_it() -> None:
        one, two = house.folder / "one", house.folder / "two"
        one.mkdir()
        two.mkdir()
        async with connect(house.runtime_dir) as client, asyncio.timeout(60):
            said = await play(client, [house.folder, one, two, one])
            wanted = [str(each) for each in (house.folder, one, two, one)]
            assert wanted == [each.partition(" in ")[2].partition(",")[0] for each in said]
            assert 3 == len({each.rpartition(" ")[2] for each in said})
            assert said[1] == said[3]

    asyncio.run(all_of_it())


def test_the_command_line_gives_a_session_variables_of_its_own(house: RealHouse) -> None:
    first = house.run("prompt", "program", "COLOUR HOME", "--env", "COLOUR=green", "--env", "HOME")
    assert 0 == first.returncode, first.stderr
    assert f"green {os.environ['HOME']}" in first.stdout
    unset = house.run("prompt", "program", "x", "--env", "NOBODY_SET_IT")
    assert 2 == unset.returncode
    assert "NOBODY_SET_IT is not set here" in unset.stderr


def test_what_was_kept_for_a_session_that_was_never_recorded_is_removed_by_the_next(house: RealHouse) -> None:
    async def play() -> None:
        async with connect(house.runtime_dir) as client, asyncio.timeout(60):
            await client.open("program", env={"COLOUR": "blue"})

    asyncio.run(play())
    folder = Path(house.state_dir, "env")
    left = folder / ("0" * 16)
    left.write_bytes(b"left over")
    (folder / "of somebody").mkdir()  # Which is none of ours, and in nobody's way.
    needed = {path.name for path in folder.iterdir()} - {left.name}
    os.kill(house.supervisor(), signal.SIGKILL)
    house.wait_answering()
    asyncio.run(play())
    wait_until(lambda: not left.exists(), "what nobody needs to be removed")
    assert needed == {path.name for path in folder.iterdir()}
