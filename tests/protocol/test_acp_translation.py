"""ACP <-> entries, without a house."""

from typing import Any

import pytest

from understudy.protocol import acp
from understudy.protocol.errors import UNKNOWN_SESSION, RemoteError
from understudy.protocol.jsonrpc import JsonRpcError

TEXT = {"type": "text", "text": "hello"}


def failure(body: dict[str, Any]) -> tuple[int, str, object]:
    with pytest.raises(JsonRpcError) as caught:
        acp.prompt_result(body)
    return caught.value.code, caught.value.message, caught.value.data


def test_an_editor_serves_what_its_capabilities_say() -> None:
    assert () == acp.serves({})
    assert () == acp.serves(None)
    assert () == acp.serves({"fs": None, "terminal": False, "elicitation": None})
    assert ("fs/read_text_file",) == acp.serves({"fs": {"readTextFile": True, "writeTextFile": False}})
    assert ("fs/write_text_file",) == acp.serves({"fs": {"writeTextFile": True}})
    assert ("elicitation/create",) == acp.serves({"elicitation": {}})
    assert 5 == len(acp.serves({"terminal": True}))


def test_an_update_passes_unharmed() -> None:
    update = {"sessionUpdate": "nobody_knows_it_yet", "_meta": {"a": [1]}}

    assert [update] == acp.updates("update", update, foreign=False)


def test_a_prompt_is_shown_only_where_the_editor_did_not_write_it() -> None:
    body = {"content": [TEXT, {**TEXT, "text": "there"}]}

    assert [] == acp.updates("prompt", body, foreign=False)
    shown = acp.updates("prompt", body, foreign=True)
    assert ["hello", "there"] == [each["content"]["text"] for each in shown]
    assert {"user_message_chunk"} == {each["sessionUpdate"] for each in shown}


@pytest.mark.parametrize("kind", ["lost", "note", "requeued"])
def test_what_happens_in_the_house_is_told_to_people(kind: str) -> None:
    assert [acp.told("it fell")] == acp.updates(kind, {"text": "it fell"}, foreign=False)
    assert [acp.told("it fell", notice=True)] == acp.updates(kind, {"text": "it fell"}, foreign=False, notices=True)


@pytest.mark.parametrize(
    ("capabilities", "takes"),
    [
        (None, False),
        ({}, False),
        ({"session": None}, False),
        ({"session": {"notices": None}}, False),
        ({"session": {"notices": {}}}, True),
    ],
)
def test_only_an_editor_that_says_so_takes_notices(capabilities: object, takes: bool) -> None:
    assert takes == acp.takes_notices(capabilities)


def test_an_abnormal_ending_is_shown_where_no_answer_tells() -> None:
    body = {"reason": "failed", "text": "no such model"}

    assert [] == acp.updates("ended", body, foreign=False)
    assert [acp.told("the turn ended (failed): no such model")] == acp.updates("ended", body, foreign=True)
    assert [] == acp.updates("ended", {"reason": "end_turn"}, foreign=True)


@pytest.mark.parametrize("kind", ["opened", "started", "asked", "answered", "nobody_knows_it_yet"])
def test_other_entries_are_no_updates(kind: str) -> None:
    assert [] == acp.updates(kind, {}, foreign=True)


@pytest.mark.parametrize("reason", sorted(acp.STOP_REASONS))
def test_a_stop_reason_is_the_agents_own(reason: str) -> None:
    assert {"stopReason": reason} == acp.prompt_result({"reason": reason})


def test_a_lost_agent_is_an_error_and_never_an_end_turn() -> None:
    data = {"reason": "interrupted", "text": "it fell"}

    assert (-32603, "it fell", data) == failure({"reason": "interrupted", "text": "it fell"})
    assert (-32603, "the turn ended: odd", {"reason": "odd", "text": "the turn ended: odd"}) == failure(
        {"reason": "odd"}
    )


def test_the_agents_own_error_keeps_its_code_and_what_it_carries() -> None:
    def body(**detail: object) -> dict[str, Any]:
        return {"reason": "failed", "text": "Log in", "detail": {"code": -32000, **detail}}

    assert (-32000, "Log in first", {"url": "x", "reason": "failed"}) == failure(
        body(message="Log in first", data={"url": "x"})
    )
    assert (-32000, "Log in", {"reason": "failed", "text": "Log in"}) == failure(body())
    assert (-32000, "Log in", {"reason": "failed", "text": "Log in", "data": [1]}) == failure(body(data=[1]))


def test_errors_of_the_house_and_of_the_agent_are_told_apart() -> None:
    def told(error: RemoteError) -> tuple[int, str, object]:
        found = acp.rpc_error(error)
        return found.code, found.message, found.data

    ours = RemoteError("limit_reached", "too many")
    agents = RemoteError("agent_error", "Log in", {"code": -32000, "message": "Log in first", "data": None})
    assert (-32603, "too many", {"reason": "limit_reached", "text": "too many"}) == told(ours)
    assert (-32000, "Log in first", None) == told(agents)
    assert -32002 == told(RemoteError(UNKNOWN_SESSION, "there is no session 's1'"))[0]


def test_what_is_about_the_agents_session_goes_to_the_agent() -> None:
    params = {"sessionId": "s1"}

    assert acp.for_the_agent("session/set_mode", params)
    assert acp.for_the_agent("_anything/at_all", params)
    assert not acp.for_the_agent("session/fork", params)
    assert not acp.for_the_agent("_anything/at_all", {})
    assert not acp.for_the_agent("providers/list", params)


def test_an_opening_keeps_everything_but_the_agents_id() -> None:
    assert {"modes": None, "unheardOf": 1} == acp.opened({"sessionId": "theirs", "modes": None, "unheardOf": 1})
    assert {} == acp.opened(None)
