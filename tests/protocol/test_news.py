"""Each kind of news: its text, and what of it reaches programs."""

from typing import Any, get_args

import msgspec
import pytest

from understudy.protocol.news import ActorEnded, LogStalled, News, TurnQuiet, TurnWaits

KINDS: tuple[Any, ...] = get_args(News)
SAMPLES: dict[Any, Any] = {str: "x", int: 1, float: 1.5, bool: True, int | None: 1}


def sample(kind: Any) -> Any:
    """Return news of a kind, with every field given."""
    types = {each.name: each.type for each in msgspec.structs.fields(kind)}
    return kind(**{name: SAMPLES[type_] if type_ in SAMPLES else get_args(type_)[-1] for name, type_ in types.items()})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_kind_has_a_text_of_its_own_and_comes_back_as_what_it_is(kind: Any) -> None:
    news = sample(kind)

    assert "__str__" in vars(kind)
    assert str(news)
    assert repr(news) != str(news)
    assert news == msgspec.msgpack.decode(msgspec.msgpack.encode(news), type=News)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_note_says_its_kind_and_its_fields_beside_the_text(kind: Any) -> None:
    news = sample(kind)

    body = news.body()

    assert str(news) == body.pop("text")
    assert kind.__struct_config__.tag == body["what"]
    assert news == msgspec.convert(body, News)


def test_the_end_of_an_actor_tells_who_takes_over_and_how_it_stands() -> None:
    ended = ActorEnded("a", "a/2", 3, 70, True, 1.25, "ended", "killed by SIGKILL", "", -9, 2, "a#4", "BACKOFF")

    text = "agent a (a/2#3, pid 70) fell after 1.2 s: killed by SIGKILL; 2 more process(es) of it were ended"
    assert f"{text}; its understudy a#4 takes over; now BACKOFF" == str(ended)
    spare = ActorEnded("", "a", 3, 0, False, 0.0, "stopped", "exited", "its place is needed", state="STOPPED")
    assert "understudy: agent a (a#3, pid 0) ended after 0.0 s (its place is needed): exited" == str(spare)


@pytest.mark.parametrize(
    ("news", "text"),
    [
        (TurnWaits("s", 2, "a", "person"), "a was stopped by a person: the turn waits for understudy start a"),
        (TurnWaits("s", 2, "a", "start", why="exited"), "the turn waits for agent a to start: exited"),
        (
            TurnWaits("s", 2, "a", "answer", "a#1", 3.0),
            "the turn waits for a#1, silent for 3 s; cancel it, or: understudy restart a",
        ),
        (
            TurnWaits("s", 2, "a", "configuration"),
            "the turn waits: agent a is no longer in the configuration; put it back, then: understudy reload; or cancel the turn",
        ),
        (
            TurnQuiet("s", 2, 3.21, 3.0, "cancel"),
            "turn 2 is quiet for 3.2 s; quiet_timeout_s is 3; the turn is cancelled",
        ),
        (LogStalled("full", tables=True), "the log's tables cannot be written, trying again: full"),
    ],
)
def test_the_text_is_of_the_fields(news: News, text: str) -> None:
    assert text == str(news)
