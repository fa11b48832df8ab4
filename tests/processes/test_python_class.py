"""A Python class as an agent: what its host makes of whatever the class does, returns and raises."""

import pytest

from tests.faults.house import wait_until
from tests.stage import Stage, handover
from understudy.protocol.errors import AGENT_ERROR, BAD_FRAME, LIMIT_REACHED
from understudy.protocol.frames import (
    PROTOCOL_VERSION,
    ActorCall,
    ActorHello,
    CancelTurn,
    Ended,
    Fault,
    Goodbye,
    Recorded,
    Remember,
    Result,
    Stop,
    Updates,
    Welcome,
    pack,
    unpack,
)

pytestmark = pytest.mark.faults

CAST = '''
"""Actors of these tests."""
import asyncio
import os
from understudy.actors.actor import Actor, ActorError


class Broken(Actor):
    async def start(self):
        raise RuntimeError("no strength today")


class Refusing(Actor):
    async def start(self):
        raise ActorError("the program is not installed")


class Slow(Actor):
    async def start(self):
        open("starting", "w").close()
        await asyncio.Event().wait()


class Odd(Actor):
    """Does what the prompt says."""

    async def play(self, turn):
        match turn.text:
            case "raise":
                raise ValueError("this is odd")
            case "unsayable":
                await turn.update({"thing": object()})
            case "huge":
                await turn.say("x" * (33 << 20))
            case "surrogate":
                await turn.update({"text": "a\\ud800b"})
            case "begin":
                await turn.begin()
                turn.show()
            case "remember":
                self.voice.remember(turn.session, {"a": 1})
            case "much":
                for _ in range(6):
                    await turn.say("x" * (1 << 20))
            case "gone":
                await turn.say("my last words")
                self.end_reason = "the program fell"
                self.ended.set()
                raise ActorError("gone")
            case "detail":
                raise ActorError("refused", code="quota", detail={"retry_s": 3})
            case "wait":
                await turn.say("waiting")
                await asyncio.Event().wait()
        return "end_turn"

    async def cancel(self, turn):
        raise RuntimeError("cannot cancel")

    async def stop(self, grace_s):
        raise RuntimeError("cannot stop")

    async def call(self, plan, method, body):
        match method:
            case "odd":
                raise ValueError("an odd call")
            case "unsayable":
                return object()
            case "echo":
                return {"cwd": plan.cwd, "opening": plan.opening, "memory": plan.memory, "body": body}
        return await super().call(plan, method, body)


class Giving(Actor):
    """Returns or raises what the prompt, or a call's method, says."""

    async def play(self, turn):
        if turn.text == "wait":
            await turn.say("waiting")
            await asyncio.Event().wait()
        return self.give(turn.text)

    async def call(self, plan, method, body):
        return self.give(method)

    async def cancel(self, turn):
        raise SystemExit("cannot cancel")

    async def stop(self, grace_s):
        raise KeyboardInterrupt

    def give(self, text):
        word, _, value = text.partition(" ")
        if word == "raise":
            raise eval(value)
        return eval(value)


class Mute(Exception):
    def __str__(self):
        raise ValueError("no words")


class Exiting(Actor):
    async def start(self):
        raise SystemExit(3)


class Unmade(Actor):
    def __init__(self, role, voice):
        raise SystemExit("not today")


class Endless(Actor):
    async def play(self, turn):
        await turn.say("on it")
        await asyncio.Event().wait()

    async def cancel(self, turn):
        await asyncio.Event().wait()


nothing = 7
'''


@pytest.fixture
def odd(stage: Stage) -> Stage:
    """An actor of class `Odd` that is ready."""
    cast(stage, "Odd")
    stage.greet()
    return stage


def cast(stage: Stage, name: str) -> None:
    """Start an actor of a class of `CAST`."""
    (stage.folder / "cast.py").write_text(CAST)
    stage.start({"driver": "python", "play": f"cast:{name}"})


# --- start ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"driver": "mime"}, "agent rehearsal: there is no driver 'mime'; it is one of acp, "),
        (
            {"play": "nowhere:X"},
            "play = 'nowhere:X': No module named 'nowhere'; it is the import path `module:Class`, of a module in ",
        ),
        ({"play": "cast:nothing"}, "play = 'cast:nothing' is no class derived from understudy.actors.actor.Actor"),
        ({"play": "cast:Broken"}, "could not start: RuntimeError: no strength today"),
        ({"play": "cast:Refusing"}, "the program is not installed"),
        ({"play": "cast:Exiting"}, "SystemExit: 3"),
        ({"play": "cast:Unmade"}, "could not start: SystemExit: not today"),
    ],
    ids=["driver", "module", "class", "any error", "actor error", "exit in start", "exit when made"],
)
def test_a_failing_start_is_told_and_ends_with_status_1(stage: Stage, options: dict[str, str], reason: str) -> None:
    (stage.folder / "cast.py").write_text(CAST)
    stage.start({"driver": "python", **options})

    stage.greet()

    assert stage.receive(Goodbye).reason.startswith(reason)
    assert 1 == stage.status()


def test_a_turn_handed_to_an_actor_that_failed_to_start_is_not_played(stage: Stage) -> None:
    cast(stage, "Broken")
    stage.receive(ActorHello)

    stage.send(Welcome(PROTOCOL_VERSION, epoch=1), handover("hello"), handover("hello", "t", go=True))

    stage.receive(Goodbye)


def test_an_actor_that_is_told_to_stop_while_it_starts_stops(stage: Stage) -> None:
    cast(stage, "Slow")
    wait_until((stage.folder / "starting").exists, "the start to begin")
    assert stage.actor is not None

    stage.actor.terminate()

    assert 0 == stage.status()


# --- turns ------------------------------------------------------------------------


def test_a_class_that_cannot_cancel_is_cancelled(odd: Stage) -> None:
    odd.play("wait")
    odd.receive(Updates)
    odd.send(CancelTurn("s", 1))

    assert "cancelled" == odd.receive(Ended).reason


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("raise", AGENT_ERROR, "ValueError: this is odd"),
        ("unsayable", BAD_FRAME, "this cannot be sent"),
        ("huge", LIMIT_REACHED, "the limit is"),
    ],
)
def test_a_turn_that_raises_ends_as_failed_and_the_actor_goes_on(odd: Stage, text: str, code: str, words: str) -> None:
    odd.play(text)
    ended = odd.receive(Ended)
    odd.play("remember", turn=2)

    body = unpack(ended.body)
    assert ("failed", code) == (ended.reason, body["code"])
    assert words in body["text"]
    assert Remember(2, "s", pack({"a": 1})) == odd.receive(Remember)


@pytest.mark.parametrize(
    ("text", "reason", "words"),
    [
        ("return None", "end_turn", ""),
        ("return 'refusal'", "refusal", ""),
        ("return 7", "failed", "Giving.play returned a value of type int; return a stop reason of at most 200"),
        ("return ''", "failed", "Giving.play returned a text of 0 characters"),
        ("return 'x' * 2_000_000", "failed", "Giving.play returned a text of 2000000 characters"),
        ("return chr(0xD800)", "failed", "Giving.play returned a text that cannot be printed"),
        ("raise SystemExit(3)", "failed", "SystemExit: 3"),
        ("raise KeyboardInterrupt", "failed", "KeyboardInterrupt"),
        ("raise GeneratorExit", "failed", "GeneratorExit"),
        ("raise asyncio.CancelledError", "failed", "it was cancelled from inside"),
        ("raise OSError('caf' + chr(0xDCE9))", "failed", "OSError: caf\ufffd"),
        ("raise Mute", "failed", "Mute: its text cannot be made"),
        ("raise ActorError(5, code=[])", "failed", "ActorError"),
        ("raise ActorError('x' * 20_000)", "failed", "x" * 10_000),
    ],
)
def test_what_play_returns_and_raises_is_told_in_the_turn_and_the_actor_goes_on(
    stage: Stage, text: str, reason: str, words: str
) -> None:
    cast(stage, "Giving")
    stage.greet()
    stage.play(text)
    ended = stage.receive(Ended)
    stage.play("return 'max_tokens'", turn=2)

    assert reason == ended.reason
    assert words in unpack(ended.body).get("text", "")
    assert "max_tokens" == stage.receive(Ended).reason


def test_a_cancel_that_never_returns_does_not_hold_up_the_end(stage: Stage) -> None:
    cast(stage, "Endless")
    stage.greet()
    for turn in (1, 2):
        stage.play("go", f"s{turn}", turn)
        stage.send(Recorded(stage.receive(Updates).n))
    assert stage.actor is not None

    stage.send(Stop(0.2))

    assert "stopped" == stage.receive(Goodbye).reason
    assert 0 == stage.status()


def test_an_actor_error_keeps_its_code_and_detail(odd: Stage) -> None:
    odd.play("detail")

    body = unpack(odd.receive(Ended).body)

    assert {"code": "quota", "text": "refused", "detail": {"retry_s": 3}} == body


def test_a_class_may_begin_and_show_what_its_host_has_begun_and_shown(odd: Stage) -> None:
    odd.play("begin")

    assert "end_turn" == odd.receive(Ended).reason


def test_half_a_character_pair_passes_as_a_replacement_mark(odd: Stage) -> None:
    odd.play("surrogate")

    assert [{"text": "a\ufffdb"}] == unpack(odd.receive(Updates).body)


def test_speaking_waits_while_too_much_is_unrecorded(odd: Stage) -> None:
    odd.play("much")
    numbers = [odd.receive(Updates).n for _ in range(4)]
    quiet = odd.is_silent()
    odd.send(Recorded(4))
    numbers += [odd.receive(Updates).n for _ in range(2)]

    assert [1, 2, 3, 4, 5, 6] == numbers
    assert quiet
    assert 7 == odd.receive(Ended).n


# --- calls ------------------------------------------------------------------------


def test_a_call_gets_its_result(odd: Stage) -> None:
    odd.send(ActorCall("c1", "s", "echo", "/tmp", pack(1), pack({"o": 2}), pack({"m": 3})))

    result = odd.receive(Result)

    assert {"cwd": "/tmp", "opening": {"o": 2}, "memory": {"m": 3}, "body": 1} == unpack(result.body)


@pytest.mark.parametrize(
    ("method", "code"), [("dance", "unknown_method"), ("odd", AGENT_ERROR), ("unsayable", BAD_FRAME)]
)
def test_a_call_that_fails_gets_a_fault(odd: Stage, method: str, code: str) -> None:
    odd.send(ActorCall("c1", "s", method, "/"))

    fault = odd.receive(Fault)

    assert ("c1", code) == (fault.request, fault.code)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise asyncio.CancelledError", "it was cancelled from inside"),
        ("return object()", "this cannot be sent"),
        ("return 'x' * (17 << 20)", "the limit is"),
    ],
)
def test_what_call_returns_and_raises_refuses_the_call_and_the_actor_goes_on(
    stage: Stage, method: str, words: str
) -> None:
    cast(stage, "Giving")
    stage.greet()
    stage.send(ActorCall("c1", "s", method, "/"), ActorCall("c2", "s", "return 3", "/"))

    fault = stage.receive(Fault)

    assert ("c1", True) == (fault.request, words in fault.text)
    assert Result("c2", pack(3)) == stage.receive(Result)


# --- the end ----------------------------------------------------------------------


def test_exits_raised_by_cancel_and_stop_keep_neither_the_turn_nor_the_end(stage: Stage) -> None:
    cast(stage, "Giving")
    stage.greet()
    stage.play("wait")
    stage.receive(Updates)
    stage.send(CancelTurn("s", 1))
    ended = stage.receive(Ended)
    stage.send(Recorded(ended.n), Stop(1.0))

    assert "cancelled" == ended.reason
    assert "stopped" == stage.receive(Goodbye).reason
    assert 0 == stage.status()


def test_a_class_that_cannot_stop_is_ended_all_the_same(odd: Stage) -> None:
    odd.send(Stop(1.0))

    assert "stopped" == odd.receive(Goodbye).reason
    assert 0 == odd.status()


def test_when_the_program_is_gone_its_last_words_come_before_the_goodbye(odd: Stage) -> None:
    odd.play("gone")

    assert 1 == odd.receive(Updates).n
    assert odd.is_silent()
    odd.send(Recorded(1))
    assert "the program fell" == odd.receive(Goodbye).reason
    assert 1 == odd.status()


PLACED = """
import os
from understudy.actors.actor import Actor


class Placed(Actor):
    async def play(self, turn):
        await turn.say(f"{os.getcwd()} {os.environ['SECRET']}")
"""


def test_it_runs_in_the_folder_and_the_environment_of_its_configuration(stage: Stage) -> None:
    folder = stage.folder / "agent"
    folder.mkdir()
    (folder / "placed.py").write_text(PLACED)
    stage.start({"driver": "python", "play": "placed:Placed"}, cwd=str(folder), env={"SECRET": "s"})
    stage.greet()

    stage.play("where")

    assert f"{folder} s" == stage.text(Ended)[0]


def test_a_folder_that_is_not_there_is_named(stage: Stage) -> None:
    stage.start({"driver": "python", "play": "placed:Placed"}, cwd="/nowhere/at/all")
    stage.greet()

    assert "the folder '/nowhere/at/all': No such file or directory; make it" in stage.receive(Goodbye).reason
    assert 127 == stage.status()
