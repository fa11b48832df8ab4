"""A request is named by its kind and its session, and carried out once."""

from typing import Any

import pytest

from tests.desk import Desk, agent
from understudy.protocol.frames import (
    Accepted,
    Fault,
    Frame,
    FromClient,
    Open,
    Opened,
    Prompt,
    ToClient,
    pack,
)
from understudy.supervisor.core import requests
from understudy.supervisor.core.events import RequestRead, RestoredSession, SessionRow, TurnRow
from understudy.supervisor.core.restored import Restored


def house(restored: Restored | None = None) -> Desk:
    return Desk(agent("a"), agent("b"), restored=restored)


def say(desk: Desk, frame: FromClient, client: str = "me") -> ToClient:
    """Say `frame` as a client; return the answer."""
    peer = client.encode()
    if peer not in desk.core.house.clients:
        desk.hello(peer, client)
    return desk.ask(frame, peer)


def opened(desk: Desk, request: str, name: str = "a") -> str:
    answer = say(desk, Open(request, name, "/"))
    assert isinstance(answer, Opened), answer
    return answer.session


def prompts(desk: Desk) -> list[tuple[str, int]]:
    return [(row.session, row.turn) for row in desk.rows if isinstance(row, TurnRow) and row.request]


def prompt(request: str, session: str, text: str = "hello", **settings: Any) -> Prompt:
    return Prompt(request, session, pack([{"type": "text", "text": text}]), **settings)


def code(frame: Frame) -> str:
    assert isinstance(frame, Fault), frame
    return frame.code


def test_a_prompt_said_again_is_accepted_as_the_same_turn_and_recorded_once() -> None:
    desk = house()
    session = opened(desk, "o")
    asked = prompt("job", session)

    assert say(desk, asked) == say(desk, asked, client="an editor that came back") == Accepted("job", session, 2)
    assert [(session, 2)] == prompts(desk)


def test_the_same_id_in_another_session_is_another_prompt() -> None:
    desk = house()
    one, other = opened(desk, "o1"), opened(desk, "o2", "b")

    assert Accepted("job", one, 2) == say(desk, prompt("job", one), client="x")
    assert Accepted("job", other, 2) == say(desk, prompt("job", other, "something else"), client="y")
    assert [(one, 2), (other, 2)] == prompts(desk)


def test_a_prompt_may_have_the_id_of_an_open() -> None:
    desk = house()
    session = opened(desk, "same")

    assert Accepted("same", session, 2) == say(desk, prompt("same", session))


@pytest.mark.parametrize(
    "other", [{"text": "bye"}, {"serves": ["fs/read_text_file"]}], ids=["another text", "other things are served"]
)
def test_the_id_of_another_content_is_told_never_accepted(other: dict[str, Any]) -> None:
    desk = house()
    session = opened(desk, "o")
    say(desk, prompt("job", session))

    assert "request_reused" == code(say(desk, prompt("job", session, **other)))
    assert [(session, 2)] == prompts(desk)


def test_how_a_client_waits_is_no_content() -> None:
    desk = house()
    session = opened(desk, "o")
    say(desk, prompt("job", session, serves=["x", "y"]))

    assert Accepted("job", session, 2) == say(desk, prompt("job", session, serves=["y", "x"], waits=True))


@pytest.mark.parametrize("other", [Open("o", "b", "/"), Open("o", "a", "/tmp"), Open("o", "a", "/", b"\x80")])
def test_the_id_of_an_open_with_another_content_is_told(other: Open) -> None:
    desk = house()
    opened(desk, "o")

    assert "request_reused" == code(say(desk, other))
    assert 1 == len(desk.core.house.sessions)


def test_a_request_needs_an_id() -> None:
    desk = house()
    session = opened(desk, "o")

    assert ["bad_frame", "bad_frame"] == [code(say(desk, Open("", "a", "/"))), code(say(desk, prompt("", session)))]
    assert [] == prompts(desk)


@pytest.mark.parametrize(
    "content",
    [[], [{"type": "text", "text": " \n\t"}], [{"type": "text"}, {"type": "text", "text": ""}]],
    ids=["no block", "white space", "no text"],
)
def test_an_empty_prompt_is_refused_in_words(content: list[dict[str, str]]) -> None:
    desk = house()
    session = opened(desk, "o")

    refused = say(desk, Prompt("job", session, pack(content)))

    assert ("empty_prompt", "job") == (code(refused), getattr(refused, "request", ""))
    assert [] == prompts(desk)


def test_a_prompt_with_nothing_but_a_picture_is_none_that_is_empty() -> None:
    desk = house()
    session = opened(desk, "o")
    content = [{"type": "text", "text": ""}, {"type": "image", "data": "", "mimeType": "image/png"}]

    assert isinstance(say(desk, Prompt("job", session, pack(content))), Accepted)


def test_opens_and_prompts_are_remembered_by_budgets_of_their_own() -> None:
    desk = house()
    desk.core.house.requests_kept_max = 2
    first, *_, last = [opened(desk, f"o{number}") for number in range(4)]
    for number in range(3):
        say(desk, prompt(f"p{number}", first))

    assert ["o2", "o3"] == list(desk.core.house.opens)
    assert [(first, "p1"), (first, "p2")] == list(desk.core.house.prompts)
    assert last == opened(desk, "o3")


def test_what_an_older_version_recorded_without_a_digest_is_taken_for_the_same() -> None:
    known = RestoredSession("s", "a", "/", b"", b"", 2, 0.0)
    desk = house(Restored([known]))
    desk.tell(RequestRead("o", "s", 0, b""), RequestRead("job", "s", 2, b""))

    assert "s" == opened(desk, "o")
    assert Accepted("job", "s", 2) == say(desk, prompt("job", "s", "whatever"))


def test_digests_are_recorded() -> None:
    desk = house()
    session = opened(desk, "o")
    say(desk, prompt("job", session))

    found = [row.digest for row in desk.rows if isinstance(row, SessionRow | TurnRow)]

    assert [requests.DIGEST_BYTES] * 2 == [len(each) for each in found]
    assert found == [desk.core.house.opens["o"][1], desk.core.house.prompts[session, "job"][1]]
