"""Questions that a client's program serves: each once, so many at once, and nobody of another generation."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from understudy.protocol import answering
from understudy.protocol.answering import Answering
from understudy.protocol.errors import LIMIT_REACHED, LocalError, RemoteError
from understudy.protocol.frames import Answer, Ask, unpack

Scene = Callable[[Answering, list[Answer], "list[asyncio.Future[object]]"], Coroutine[Any, Any, None]]


def question(name: str) -> Ask:
    return Ask(1, "s", 2, name, "fs/read_text_file", b"", public=False)


def play(scene: Scene) -> None:
    """Play `scene` with what serves, what it has answered, and what the program's code waits for."""

    async def main() -> None:
        answers: list[Answer] = []
        serving: list[asyncio.Future[object]] = []

        async def on_ask(_: Ask) -> object:
            serving.append(asyncio.get_running_loop().create_future())
            return await serving[-1]

        def answer(frame: Answer) -> None:
            if len(frame.body) > 1000:
                raise LocalError(LIMIT_REACHED, "too large")
            answers.append(frame)

        made = Answering(on_ask, answer)
        async with asyncio.timeout(20):
            await scene(made, answers, serving)
            await made.close()

    asyncio.run(main())


async def turns_of_the_loop() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_question_that_is_said_again_while_it_is_served_is_served_once() -> None:
    async def scene(made: Answering, answers: list[Answer], serving: "list[asyncio.Future[object]]") -> None:
        made.asked(question("q"))
        made.asked(question("q"))
        await turns_of_the_loop()
        serving[0].set_result("yes")
        await turns_of_the_loop()
        assert (1, [("q", "yes")]) == (len(serving), [(each.ask, unpack(each.body)) for each in answers])

    play(scene)


def test_beyond_so_many_at_once_a_question_is_answered_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "AT_ONCE_MAX", 2)

    async def scene(made: Answering, answers: list[Answer], serving: "list[asyncio.Future[object]]") -> None:
        for name in ("a", "b", "c"):
            made.asked(question(name))
        await turns_of_the_loop()
        assert (2, ["c"]) == (len(serving), [each.ask for each in answers if each.error])

    play(scene)


def test_after_a_new_generation_no_question_of_that_name_gets_the_answer_to_the_one_before() -> None:
    async def scene(made: Answering, answers: list[Answer], serving: "list[asyncio.Future[object]]") -> None:
        made.asked(question("q"))
        await turns_of_the_loop()
        made.forget()
        made.asked(question("q"))
        await turns_of_the_loop()
        assert serving[0].cancelled()
        serving[1].set_result("new")
        await turns_of_the_loop()
        assert ["new"] == [unpack(each.body) for each in answers]

    play(scene)


def test_an_error_whose_detail_cannot_be_sent_goes_without_it() -> None:
    async def scene(made: Answering, answers: list[Answer], serving: "list[asyncio.Future[object]]") -> None:
        for name, detail in (("small", {"code": 1}), ("large", "x" * 2000), ("odd", object())):
            made.asked(question(name))
            await turns_of_the_loop()
            serving[-1].set_exception(RemoteError("refused", "no\ud800", detail))
            await turns_of_the_loop()
        assert [{"code": 1}, None, None] == [unpack(each.body) for each in answers]
        assert {"no\ufffd"} == {each.error for each in answers}

    play(scene)


def test_at_the_close_a_question_whose_service_has_not_begun_is_answered_too() -> None:
    async def scene(made: Answering, answers: list[Answer], serving: "list[asyncio.Future[object]]") -> None:
        made.asked(question("q"))
        await made.close()
        assert ([], ["q"]) == (serving, [each.ask for each in answers if each.error])

    play(scene)
