"""A request is named by its kind and its session, and carried out once."""

from random import Random
from typing import Any

import pytest

from understudy.protocol.frames import (
    PROTOCOL_VERSION,
    Accepted,
    Fault,
    Frame,
    FromClient,
    Hello,
    Open,
    Opened,
    Prompt,
    ToClient,
    pack,
)
from understudy.supervisor.core import requests
from understudy.supervisor.core.core import Core
from understudy.supervisor.core.events import (
    ClientSaid,
    Committed,
    Effect,
    Record,
    RequestRead,
    RestoredSession,
    Row,
    SessionRow,
    TellClient,
    TurnRow,
)
from understudy.supervisor.core.restored import Restored
from understudy.supervisor.core.specs import AgentSpec, HouseSpec


class House:
    """A core with two agents, whose log commits at once."""

    def __init__(self, restored: Restored | None = None) -> None:
        spec = HouseSpec((AgentSpec("a"), AgentSpec("b")), "/r", "/s")
        self.core = Core(spec, restored or Restored(), {}, Random(1), [], 0.0, 0.0)
        self.told: list[ToClient] = []
        self.rows: list[Row] = []
        self._take(self.core.start(0.0, 0.0))

    def say(self, frame: FromClient, client: str = "c") -> ToClient:
        """Say `frame` as a client; return the answer."""
        peer = client.encode()
        if peer not in self.core.house.clients:
            self._take(self.core.handle([ClientSaid(peer, Hello(PROTOCOL_VERSION, client))], 0.0, 0.0))
        self.told = []
        self._take(self.core.handle([ClientSaid(peer, frame)], 0.0, 0.0))
        return self.told[-1]

    def open(self, request: str, agent: str = "a") -> str:
        opened = self.say(Open(request, agent, "/"))
        assert isinstance(opened, Opened), opened
        return opened.session

    def prompts(self) -> list[tuple[str, int]]:
        return [(row.session, row.turn) for row in self.rows if isinstance(row, TurnRow) and row.request]

    def _take(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Record):
                self.rows.extend(effect.rows)
                self._take(self.core.handle([Committed(effect.ticket)], 0.0, 0.0))
            elif isinstance(effect, TellClient):
                self.told.append(effect.frame)


def prompt(request: str, session: str, text: str = "hello", **settings: Any) -> Prompt:
    return Prompt(request, session, pack([{"type": "text", "text": text}]), **settings)


def code(frame: Frame) -> str:
    assert isinstance(frame, Fault), frame
    return frame.code


def test_a_prompt_said_again_is_accepted_as_the_same_turn_and_recorded_once() -> None:
    house = House()
    session = house.open("o")
    asked = prompt("job", session)

    assert house.say(asked) == house.say(asked, client="an editor that came back") == Accepted("job", session, 2)
    assert [(session, 2)] == house.prompts()


def test_the_same_id_in_another_session_is_another_prompt() -> None:
    house = House()
    one, other = house.open("o1"), house.open("o2", "b")

    assert Accepted("job", one, 2) == house.say(prompt("job", one), client="x")
    assert Accepted("job", other, 2) == house.say(prompt("job", other, "something else"), client="y")
    assert [(one, 2), (other, 2)] == house.prompts()


def test_a_prompt_may_have_the_id_of_an_open() -> None:
    house = House()
    session = house.open("same")

    assert Accepted("same", session, 2) == house.say(prompt("same", session))


@pytest.mark.parametrize(
    "other", [{"text": "bye"}, {"serves": ["fs/read_text_file"]}], ids=["another text", "other things are served"]
)
def test_the_id_of_another_content_is_told_never_accepted(other: dict[str, Any]) -> None:
    house = House()
    session = house.open("o")
    house.say(prompt("job", session))

    assert "request_reused" == code(house.say(prompt("job", session, **other)))
    assert [(session, 2)] == house.prompts()


def test_how_a_client_waits_is_no_content() -> None:
    house = House()
    session = house.open("o")
    house.say(prompt("job", session, serves=["x", "y"]))

    assert Accepted("job", session, 2) == house.say(prompt("job", session, serves=["y", "x"], waits=True))


@pytest.mark.parametrize("other", [Open("o", "b", "/"), Open("o", "a", "/tmp"), Open("o", "a", "/", b"\x80")])
def test_the_id_of_an_open_with_another_content_is_told(other: Open) -> None:
    house = House()
    house.open("o")

    assert "request_reused" == code(house.say(other))
    assert 1 == len(house.core.house.sessions)


def test_a_request_needs_an_id() -> None:
    house = House()
    session = house.open("o")

    assert ["bad_frame", "bad_frame"] == [code(house.say(Open("", "a", "/"))), code(house.say(prompt("", session)))]
    assert [] == house.prompts()


@pytest.mark.parametrize(
    "content",
    [[], [{"type": "text", "text": " \n\t"}], [{"type": "text"}, {"type": "text", "text": ""}]],
    ids=["no block", "white space", "no text"],
)
def test_an_empty_prompt_is_refused_in_words(content: list[dict[str, str]]) -> None:
    house = House()
    session = house.open("o")

    refused = house.say(Prompt("job", session, pack(content)))

    assert ("empty_prompt", "job") == (code(refused), getattr(refused, "request", ""))
    assert [] == house.prompts()


def test_a_prompt_with_nothing_but_a_picture_is_none_that_is_empty() -> None:
    house = House()
    session = house.open("o")
    content = [{"type": "text", "text": ""}, {"type": "image", "data": "", "mimeType": "image/png"}]

    assert isinstance(house.say(Prompt("job", session, pack(content))), Accepted)


def test_opens_and_prompts_are_remembered_by_budgets_of_their_own() -> None:
    house = House()
    house.core.house.requests_kept_max = 2
    first, *_, last = [house.open(f"o{number}") for number in range(4)]
    for number in range(3):
        house.say(prompt(f"p{number}", first))

    assert ["o2", "o3"] == list(house.core.house.opens)
    assert [(first, "p1"), (first, "p2")] == list(house.core.house.prompts)
    assert last == house.open("o3")


def test_what_an_older_version_recorded_without_a_digest_is_taken_for_the_same() -> None:
    known = RestoredSession("s", "a", "/", b"", b"", 2, 0.0)
    house = House(Restored([known]))
    house.core.handle([RequestRead("o", "s", 0, b""), RequestRead("job", "s", 2, b"")], 0.0, 0.0)

    assert "s" == house.open("o")
    assert Accepted("job", "s", 2) == house.say(prompt("job", "s", "whatever"))


def test_digests_are_recorded() -> None:
    house = House()
    session = house.open("o")
    house.say(prompt("job", session))

    found = [row.digest for row in house.rows if isinstance(row, SessionRow | TurnRow)]

    assert [requests.DIGEST_BYTES] * 2 == [len(each) for each in found]
    assert found == [house.core.house.opens["o"][1], house.core.house.prompts[session, "job"][1]]
