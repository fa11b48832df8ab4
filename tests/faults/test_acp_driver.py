"""The ACP driver with agents that are strict, odd, slow, wrapped, killed: real processes, a real house."""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.house import RealHouse, wait_until
from tests.processes.test_life import row, wait_state
from tests.stage import Stage
from understudy.actors.actor import Role
from understudy.actors.drivers import piped as pipes
from understudy.actors.drivers.piped import Piped
from understudy.protocol.client import Client, Session, connect
from understudy.protocol.errors import UnderstudyError
from understudy.protocol.frames import ActorCall, Remember, Result, Updates, pack, unpack
from understudy.protocol.processes import children, stat

pytestmark = pytest.mark.faults

STRICT = Path(__file__).parent.with_name("strict.py")
WAIT_S_MAX = 60


class Strict:
    """A house whose agent `a` is the strict one, in `folder`."""

    def __init__(self, folder: Path, *, odd: dict[str, Any] | None = None, wrap: str = "", more: str = "") -> None:
        self.folder = folder
        command = [sys.executable, "-S", str(STRICT)]
        if wrap:
            command = ["sh", "-c", wrap.replace("AGENT", " ".join(command))]
        env = {"STRICT": str(folder), "ODD": json.dumps(odd or {})}
        table = ", ".join(f"{name} = {json.dumps(value)}" for name, value in env.items())
        self.house = RealHouse(
            folder, f'[agent.a]\ndriver = "acp"\ncommand = {json.dumps(command)}\nenv = {{ {table} }}\n{more}'
        )

    def run(self, act: Callable[[Client], Awaitable[Any]]) -> Any:
        """Return what `act` does with a client."""

        async def inner() -> Any:
            async with connect(self.house.runtime_dir) as client:
                return await asyncio.wait_for(act(client), WAIT_S_MAX)

        return asyncio.run(inner())

    def program(self) -> int:
        """Return the program of the actor that plays now."""
        return next(iter(children(self.house.pid("a"))))

    def kill(self) -> None:
        """Kill the program, and wait until the next one is there."""
        epoch = row(self.house, "a")["epoch"]
        os.kill(self.program(), signal.SIGKILL)
        wait_until(lambda: row(self.house, "a")["epoch"] > epoch, "the next one")
        wait_state(self.house, "a", "RUNNING")

    def heard(self, pid: int) -> list[tuple[str, Any]]:
        """Return the requests that the process `pid` of the agent got."""
        lines = (self.folder / "requests").read_text().splitlines()
        return [(method, params) for each, method, params in map(json.loads, lines) if each == pid]


Make = Callable[..., Strict]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Strict] = []

    def one(**options: Any) -> Strict:
        made.append(Strict(tmp_path, **options))
        made[-1].house.start()
        return made[-1]

    yield one
    for each in made:
        each.house.stop()


async def play(session: Session, text: str) -> tuple[str, str]:
    """Play a prompt; return how it ended and what the session said in it."""
    turn = await session.prompt(text)
    said = ""
    async for item in session.follow(1):
        if item.turn == turn.number and item.kind == "update":
            said += str(item.body.get("content", {}).get("text", ""))
        if item.turn == turn.number and item.kind == "ended":
            return str(item.body["reason"]), said + str(item.body.get("text", ""))
    raise AssertionError("the follow ended")


# --- reading ----------------------------------------------------------------------

READING = [
    ("update big 17000000", "end_turn", "an update of the agent's ('odd') was left out: 17"),
    ("update deep 480", "end_turn", "something nested deeper than 64 was mended"),
    ("update deep 985", "end_turn", "nested"),
    ("update deep 100000", "end_turn", "what the agent said was left out: nested too deep"),
    ("update half 1", "end_turn", "half a character was mended in what the agent said"),
    ("update half 400", "end_turn", "something nested deeper than 64 was mended"),
    ("update 1e999", "end_turn", "a number that is not finite was mended"),
    ("update NaN", "end_turn", "a number that is not finite was mended"),
    ("update digits 5000", "end_turn", "a number that is not finite was mended"),
    ("update digits 30", "end_turn", "an integer beyond 64 bits was mended"),
    ("ask big 17000000", "end_turn", "a question of the agent's (session/request_permission) was left out: 17"),
    ("raw long", "end_turn", "what the agent said was left out: a line of 34603"),
    ("raw garbage", "end_turn", ""),
    ("raw []", "end_turn", ""),
    ('raw {"method":"$/cancel_request","params":{"requestId":[]}}', "end_turn", ""),
    ('raw {"method":"session/update","params":{"sessionId":[[]],"update":{}}}', "end_turn", ""),
    ('answer {"stopReason":"\\ud800"}', "\ufffd", ""),
    ('answer {"stopReason":""}', "failed", "its stopReason is a text of 0 characters"),
    ('answer {"stopReason":7}', "failed", "its stopReason is no text"),
    ("answer long", "failed", "its stopReason is a text of 2000000 characters"),
    ("answer " + "[" * 100_000 + "]" * 100_000, "failed", "the answer cannot be read: nested too deep"),
    ("answer 5", "end_turn", ""),
]


def test_the_driver_reads_on_whatever_the_agent_says(make: Make) -> None:
    strict = make()

    async def act(client: Client) -> list[tuple[str, str, str]]:
        session, other = await client.open("a"), await client.open("a")
        await other.ask("hello")
        found = []
        for text, _, _ in READING:
            reason, said = await play(session, text)
            assert "still here" == await other.ask("still here")
            found.append((text, reason, said))
        return found

    before = strict.house.pid("a")
    for (text, reason, words), found in zip(READING, strict.run(act), strict=True):
        assert (text[:80], reason) == (found[0][:80], found[1])
        assert words in found[2], text[:80]
    assert before == strict.house.pid("a")


def test_a_driver_that_fails_where_it_reads_ends_its_actor_with_the_reason(tmp_path: Path) -> None:
    async def hear(piece: bytes) -> None:
        raise ValueError(f"no {piece.decode().strip()}")

    async def act() -> Piped:
        ended = asyncio.Event()
        piped = Piped(role(tmp_path, "cat"), hear, ended.set)
        await piped.start()
        piped.send(b"more\n")
        await asyncio.wait_for(ended.wait(), WAIT_S_MAX)
        await piped.stop(5.0)
        return piped

    assert "the driver failed at what the program cat said: ValueError: no more" == asyncio.run(act()).reason


# --- sessions that are left -------------------------------------------------------


@pytest.mark.parametrize("how", ["load", "new"])
def test_a_session_whose_opening_is_cancelled_is_opened_again(make: Make, how: str) -> None:
    strict = make()

    async def act(client: Client) -> tuple[str, list[str], list[Any]]:
        session = await client.open("a")
        if how == "load":
            await session.ask("one")
            await asyncio.to_thread(strict.kill)
            (strict.folder / "opening").unlink()
        with (strict.folder / "slow").open("w") as slow:
            fcntl.flock(slow, fcntl.LOCK_EX)
            turn = await session.prompt("two")
            await asyncio.to_thread(wait_until, (strict.folder / "opening").exists, "the opening to begin")
            await turn.cancel()
            ending = await turn.ending()
        answers = [await session.ask(f"three {at}") for at in range(3)]
        texts = [
            item.body["content"]["text"]
            async for item in upto(session, 3 + (how == "load") + 1)
            if item.kind == "update" and "content" in item.body
        ]
        return ending.reason, answers, texts

    reason, answers, texts = strict.run(act)

    assert "cancelled" == reason
    assert ["three 0", "three 1", "three 2"] == answers
    assert "REPLAYED" not in texts


async def upto(session: Session, turns: int) -> Any:
    async for item in session.follow(1):
        yield item
        turns -= item.kind == "ended"
        if not turns:
            return


# --- what was set -----------------------------------------------------------------

SET = [
    ("session/set_mode", {"modeId": "plan"}),
    ("session/set_model", {"modelId": "m2"}),
    ("session/set_config_option", {"configId": "effort", "value": "high"}),
    ("session/set_mode", {"modeId": "ask"}),
]


@pytest.mark.parametrize("understudies", [0, 1])
def test_what_was_set_in_a_session_is_set_again_before_the_agent_plays(make: Make, understudies: int) -> None:
    strict = make(more=f"understudies = {understudies}\n")

    async def act(client: Client) -> list[str]:
        session = await client.open("a")
        said = [await session.ask("write")]
        for method, params in SET:
            await session.call(method, params)
        said.append(await session.ask("write"))
        if understudies:
            await asyncio.to_thread(wait_state, strict.house, "a~1", "RUNNING")
        await asyncio.to_thread(strict.kill)
        said += [await session.ask("write"), await session.ask("state")]
        await asyncio.to_thread(strict.kill)
        said.append(await session.ask("write"))
        return said

    assert ["WRITTEN", "refused", "refused", "ask m2 high", "refused"] == strict.run(act)
    heard = strict.heard(strict.program())
    assert ["session/load", "session/set_model", "session/set_config_option", "session/set_mode", "session/prompt"] == [
        method for method, _ in heard[1:]
    ]


def test_what_was_set_is_set_again_in_the_new_session_of_an_agent_that_forgets(make: Make) -> None:
    strict = make(odd={"initialize": {"protocolVersion": 1, "agentCapabilities": []}})

    async def act(client: Client) -> list[str]:
        session = await client.open("a")
        await session.call("session/set_mode", {"modeId": "ask"})
        said = []
        for _ in range(2):
            await asyncio.to_thread(strict.kill)
            said.append(await session.ask("write"))
        return said

    assert ["refused", "refused"] == strict.run(act)


def test_what_was_set_is_remembered_before_the_answer_is_told(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.bind()
    try:
        stage.start(
            {"driver": "acp"}, command=[sys.executable, "-S", str(STRICT)], env={"STRICT": str(tmp_path), "ODD": "{}"}
        )
        stage.greet()
        stage.send(ActorCall("c1", "s", "session/set_mode", "/", pack({"modeId": "ask"})))

        opened, updates = stage.receive(Remember), stage.receive(Updates)
        kept, answer = stage.receive(Remember), stage.receive(Result)

        assert [{"method": "session/set_mode", "params": {"modeId": "ask"}}] == unpack(kept.body)["settings"]
        assert (1, 1, "c1") == (opened.n, updates.count, answer.request)
    finally:
        stage.close()


def test_nothing_runs_where_what_was_set_is_refused_and_setting_it_again_mends_it(make: Make) -> None:
    strict = make()

    async def act(client: Client) -> list[Any]:
        session = await client.open("a")
        await session.call("session/set_mode", {"modeId": "ask"})
        (strict.folder / "refuse").touch()
        await asyncio.to_thread(strict.kill)
        told = [await play(session, "write"), await play(session, "write")]
        ready = await session.call("ready")
        with pytest.raises(UnderstudyError, match="nothing was run"):
            await session.call("_do/something", {})
        prompts = [method for method, _ in strict.heard(strict.program()) if method == "session/prompt"]
        (strict.folder / "refuse").unlink()
        await session.call("session/set_mode", {"modeId": "ask"})
        return [*told, ready["opened"]["modes"]["currentModeId"], prompts, await session.ask("write")]

    first, second, mode, prompts, after = strict.run(act)

    assert first == second
    assert ("failed", "nothing was run: the mode 'ask' was set in this session") == (first[0], first[1][:55])
    assert "(not now); set it again" in first[1]
    assert ("yolo", [], "refused") == (mode, prompts, after)


def test_what_the_agent_refuses_to_set_is_not_set_again(make: Make) -> None:
    strict = make()

    async def act(client: Client) -> str:
        session = await client.open("a")
        await session.ask("hello")
        (strict.folder / "refuse").touch()
        with contextlib.suppress(UnderstudyError):
            await session.call("session/set_mode", {"modeId": "ask"})
        await asyncio.to_thread(strict.kill)
        return await session.ask("write")

    assert "WRITTEN" == strict.run(act)


def test_a_setting_too_large_to_be_remembered_is_not_set(make: Make) -> None:
    strict = make()

    async def act(client: Client) -> str:
        session = await client.open("a")
        with pytest.raises(UnderstudyError, match="cannot be remembered, and was not set: 2"):
            await session.call("session/set_mode", {"modeId": "x" * 20_000})
        return await session.ask("state")

    assert "yolo m1 low" == strict.run(act)


# --- strange agents ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"protocolVersion": 7}, "it speaks version 7 of ACP, understudy speaks 1"),
        ({}, "it speaks version None of ACP, understudy speaks 1"),
        ([], "its answer to initialize is no object"),
    ],
)
def test_an_agent_that_speaks_otherwise_is_refused(make: Make, answer: Any, words: str) -> None:
    strict = make(odd={"initialize": answer})

    wait_until(lambda: words in row(strict.house, "a")["why"], "the refusal")


@pytest.mark.parametrize("answer", [{}, {"sessionId": 5}, {"sessionId": ""}, [], {"sessionId": "x" * 2000}])
def test_a_session_without_an_id_is_refused(make: Make, answer: Any) -> None:
    strict = make(odd={"session/new": answer})

    async def act(client: Client) -> tuple[str, str]:
        return await play(await client.open("a"), "hello")

    assert ("failed", "the agent's answer to session/new has no sessionId of 1 to 1000 characters") == strict.run(act)


def test_an_id_that_another_session_has_is_refused(make: Make) -> None:
    strict = make(odd={"session/new": {"sessionId": "same"}, "session/prompt": {"stopReason": "end_turn"}})

    async def act(client: Client) -> list[tuple[str, str]]:
        first, second = await client.open("a"), await client.open("a")
        return [await play(first, "x"), await play(second, "x"), await play(first, "x")]

    first, second, again = strict.run(act)

    assert ("end_turn", "failed", "end_turn") == (first[0], second[0], again[0])
    assert "the agent gave one id ('same') to two sessions" in second[1]


# --- the program's own end --------------------------------------------------------


def test_a_killed_wrapper_whose_child_holds_the_pipes_is_noticed(make: Make) -> None:
    strict = make(wrap="exec 3<&0; AGENT <&3 & wait")

    async def act(client: Client) -> tuple[str, list[int]]:
        session = await client.open("a")
        await session.ask("one")
        wrapper = strict.program()
        inner = list(children(wrapper))
        await asyncio.to_thread(strict.kill)
        return await session.ask("two"), [wrapper, *inner]

    answer, pids = strict.run(act)

    assert "two" == answer
    assert [None] * 2 == [stat(pid) for pid in pids]


def role(folder: Path, *command: str) -> Role:
    return Role("a", 1, command, "", {}, 0, 0, {}, str(folder / "log"))


def test_what_a_program_never_read_is_taken_back_from_what_it_left_behind(tmp_path: Path) -> None:
    script = f"exec 3<&0; sleep 1000 <&3 & echo $! > {tmp_path}/pid; echo up; exec sleep 1000"

    async def act() -> tuple[Piped, bytes]:
        ended, up = asyncio.Event(), asyncio.Event()

        async def hear(piece: bytes) -> None:
            assert piece
            up.set()

        piped = Piped(role(tmp_path, "sh", "-c", script), hear, ended.set)
        await piped.start()
        await up.wait()
        piped.send(b"x" * 1_000_000)
        await asyncio.sleep(0)
        os.kill(piped.pid, signal.SIGKILL)
        await asyncio.wait_for(ended.wait(), WAIT_S_MAX)
        for _ in range(3):
            await asyncio.sleep(0)  # So that its pipes are closed before the loop is.
        left = int((tmp_path / "pid").read_text())
        descriptor = os.open(f"/proc/{left}/fd/0", os.O_RDONLY | os.O_NONBLOCK)
        rest = os.read(descriptor, 1)
        os.close(descriptor)
        os.kill(left, signal.SIGKILL)
        return piped, rest

    piped, rest = asyncio.run(act())

    assert (1_000_000, 1_000_000, b"") == (piped.written, piped.unread, rest)
    assert "the program sh was killed by SIGKILL" == piped.reason


def test_a_program_that_reads_nothing_is_not_listened_to_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipes, "UNREAD_BYTES_MAX", 1 << 20)

    async def act() -> int:
        async def hear(piece: bytes) -> None:
            piped.send(piece)
            if piped.written > 1 << 20:
                unread.set()

        ended, unread = asyncio.Event(), asyncio.Event()
        piped = Piped(role(tmp_path, "yes"), hear, ended.set)
        await piped.start()
        async with asyncio.timeout(WAIT_S_MAX):
            await unread.wait()
        for _ in range(1_000):
            await asyncio.sleep(0)
        written = piped.written  # On its way out nothing is kept for it, so it is heard to its end.
        await piped.stop(0.1)
        return written

    assert (3 << 20) > asyncio.run(act())


# --- memory -----------------------------------------------------------------------

RESERVE = (
    "import mmap, signal; kept = mmap.mmap(-1, 1 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS); signal.pause()"
)


def test_memory_lets_a_program_reserve_what_it_does_not_use_and_data_limit_does_not(tmp_path: Path) -> None:
    (tmp_path / "reserve.py").write_text(RESERVE)
    program = f'driver = "program"\ncommand = "{sys.executable} -S {tmp_path}/reserve.py"\n'
    agents = (f'[agent.a]\n{program}memory = "200 MB"\n', f'[agent.b]\n{program}start_s = 5\ndata_limit = "200 MB"\n')
    with RealHouse(tmp_path, "".join(agents)) as house:
        wait_state(house, "a", "RUNNING")
        wait_until(lambda: "data_limit: limit 200 MB for the data" in row(house, "b")["why"], "the limit to be told")
