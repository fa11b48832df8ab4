"""What the verbs of the command line say and are answered, typed on both sides."""

import re
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from tests.desk import Desk
from understudy.protocol import doors, verbs
from understudy.protocol.doors import Wrong
from understudy.protocol.errors import BAD_FRAME, UNKNOWN_VERB
from understudy.protocol.frames import Result, Verb, pack, unpack
from understudy.supervisor.core.specs import AgentSpec

FULL: list[verbs.Asked] = [
    verbs.Status(),
    verbs.Sessions("s1"),
    verbs.House(),
    verbs.Start(["a", "b"]),
    verbs.Stop(["all"]),
    verbs.Restart([]),
    verbs.Signal(["a"], 15),
    verbs.Reload(),
    verbs.Shutdown(hurry=True),
]


def test_every_verb_is_among_the_samples_and_on_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
    table = page.partition("| verb, and")[2].partition("\n\n")[0]

    assert set(verbs.VERBS) == {verbs.name_of(each) for each in FULL}
    assert set(verbs.VERBS) <= set(re.findall(r"\w+", table))


@pytest.mark.parametrize("asked", FULL, ids=verbs.name_of)
def test_a_verb_is_read_as_it_was_asked_and_fields_that_are_not_known_are_harmless(asked: verbs.Asked) -> None:
    assert asked == doors.asked(verbs.name_of(asked), pack(asked))
    assert asked == doors.asked(verbs.name_of(asked), pack({**msgspec.to_builtins(asked), "of_a_later_version": [1]}))


@pytest.mark.parametrize("name", verbs.VERBS)
@pytest.mark.parametrize("body", [b"", pack(None), pack({})], ids=["none", "nil", "map"])
def test_a_verb_without_a_body_is_one_that_says_nothing_more(name: str, body: bytes) -> None:
    assert verbs.VERBS[name]() == doors.asked(name, body)


@pytest.mark.parametrize(
    ("verb", "body", "code", "place"),
    [
        ("dance", {}, UNKNOWN_VERB, "this house knows no verb 'dance'; it knows: "),
        ("stop", {"names": "a"}, BAD_FRAME, "$.names"),
        ("stop", {"names": ["x" * 65]}, BAD_FRAME, "$.names[0]"),
        ("signal", {"signal": -1}, BAD_FRAME, "$.signal"),
        ("sessions", {"session": 7}, BAD_FRAME, "$.session"),
        ("shutdown", {"hurry": "yes"}, BAD_FRAME, "$.hurry"),
    ],
)
def test_what_is_no_such_verb_is_refused_with_the_place(verb: str, body: object, code: str, place: str) -> None:
    refused = doors.asked(verb, pack(body))

    assert isinstance(refused, Wrong)
    assert code == refused.code
    assert place in refused.text


def sample(kind: Any) -> Any:
    """Return a value of this type."""
    parts = get_args(kind)
    if parts:
        return [sample(parts[0])] if len(parts) == 1 else sample(parts[0])
    return kind(*map(sample, get_type_hints(kind).values())) if issubclass(kind, msgspec.Struct) else kind()


@pytest.mark.parametrize("asked", [each for each in FULL if verbs.name_of(each) != "signal"], ids=verbs.name_of)
def test_an_answer_is_read_as_it_was_given_and_one_of_a_later_version_too(asked: verbs.Asked) -> None:
    answer = sample(verbs.answer_type(type(asked)))
    later = msgspec.to_builtins(answer)
    for row in later if isinstance(later, list) else [later]:
        row["of_a_later_version"] = {}

    assert answer == verbs.answer_to(asked, doors.packed_answer(answer))
    assert answer == verbs.answer_to(asked, pack(later))


def test_an_answer_with_a_path_that_is_no_text_is_mended() -> None:
    told = verbs.HouseStatus(1, 1, "", ["/home/\udcff/bin"], "")

    assert ["/home/\ufffd/bin"] == verbs.answer_to(verbs.House(), doors.packed_answer(told)).command


@pytest.mark.parametrize("asked", [verbs.Status(), verbs.Sessions(), verbs.House()], ids=verbs.name_of)
def test_the_core_gives_what_the_client_takes(asked: verbs.VerbBody[Any]) -> None:
    told = Desk(AgentSpec("a", "scripted")).ask(Verb("v", verbs.name_of(asked), pack(asked)))

    assert isinstance(told, Result)
    assert msgspec.to_builtins(verbs.answer_to(asked, told.body)) == unpack(told.body)
