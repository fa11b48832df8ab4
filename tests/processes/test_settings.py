"""What was set in a session of an ACP agent, and what comes before its session is known: the pure parts of the driver."""

from typing import Any

import pytest

from understudy.actors.drivers import early
from understudy.actors.drivers.early import Early
from understudy.actors.drivers.settings import (
    SETTING_CHARACTERS_MAX,
    SETTINGS_MAX,
    Setting,
    Settings,
    is_current,
    setting_of,
    shown,
)

MODE = Setting("session/set_mode", {"modeId": "ask"})
MODEL = Setting("session/set_model", {"modelId": "m2"})
EFFORT = Setting("session/set_config_option", {"configId": "effort", "value": "high"})
OPENED = {
    "modes": {"currentModeId": "ask", "availableModes": []},
    "models": {"currentModelId": "m2"},
    "configOptions": [{"id": "other", "currentValue": "high"}, {"id": "effort", "currentValue": "high"}, "odd"],
}
DEFAULTS: dict[str, Any] = {
    "modes": {"currentModeId": "yolo"},
    "models": {"currentModelId": "m1"},
    "configOptions": [{"id": "effort", "currentValue": "low"}],
}


def made(*settings: Setting) -> Settings:
    found = Settings()
    for each in settings:
        found.make(each)
    return found


def test_settings_are_remembered_in_the_order_in_which_they_were_last_made() -> None:
    other = Setting("session/set_mode", {"modeId": "plan"})

    again = Settings(made(other, MODEL, EFFORT, MODE).to_remember())

    assert [MODEL, EFFORT, MODE] == again.pending


def test_what_is_set_anew_is_not_set_again() -> None:
    again = Settings(made(MODE, MODEL).to_remember())

    again.make(Setting("session/set_mode", {"modeId": "plan"}))

    assert [MODEL] == again.pending


@pytest.mark.parametrize(
    ("opened", "pending"),
    [
        (OPENED, []),
        (DEFAULTS, [MODE, MODEL, EFFORT]),
        ({**DEFAULTS, "modes": OPENED["modes"]}, [MODEL, EFFORT]),
        ({**OPENED, "models": {}}, [MODEL, EFFORT]),  # The model may change the effort.
        ({"modes": 5, "models": None, "configOptions": {}}, [MODE, MODEL, EFFORT]),
        ({}, [MODE, MODEL, EFFORT]),
    ],
)
def test_what_is_current_already_need_not_be_set_again(opened: dict[str, Any], pending: list[Setting]) -> None:
    again = Settings(made(MODE, MODEL, EFFORT).to_remember())

    again.begin_with(opened)

    assert pending == again.pending


@pytest.mark.parametrize("remembered", [None, 5, "x", [5], [{}], [{"method": "session/set_mode", "params": 5}]])
def test_a_memory_of_another_shape_holds_no_settings(remembered: Any) -> None:
    assert [] == Settings(remembered).pending


@pytest.mark.parametrize("method", ["session/prompt", "session/set_title", "_set_mode", None, 5])
def test_other_requests_set_nothing(method: Any) -> None:
    assert setting_of(method, {}) is None


def test_the_sessions_id_is_no_part_of_a_setting() -> None:
    assert MODE == setting_of("session/set_mode", {"modeId": "ask", "sessionId": "s"})


def test_a_setting_without_a_value_is_never_current() -> None:
    assert not is_current(Setting("session/set_mode", {}), {"modes": {}})


@pytest.mark.parametrize(
    ("setting", "answer", "part", "found"),
    [
        (MODE, None, "modes", {"currentModeId": "ask"}),
        (MODEL, {}, "models", {"currentModelId": "m2"}),
        (EFFORT, None, "configOptions", [{"id": "effort", "currentValue": "high"}]),
        (EFFORT, {"configOptions": ["the agent's own"]}, "configOptions", ["the agent's own"]),
    ],
)
def test_what_was_set_is_shown_to_who_comes_next(setting: Setting, answer: Any, part: str, found: Any) -> None:
    assert {**DEFAULTS, part: found} == shown(DEFAULTS, setting, answer)


@pytest.mark.parametrize("setting", [MODE, MODEL, EFFORT])
def test_an_agent_that_shows_nothing_is_shown_as_it_is(setting: Setting) -> None:
    assert {} == shown({}, setting, None)


def test_settings_are_bounded_in_size_and_number() -> None:
    many = made(*(Setting("session/set_config_option", {"configId": str(at)}) for at in range(SETTINGS_MAX)))

    assert "100 options are set in this session" in many.why_not(MODE)
    assert not many.why_not(Setting("session/set_config_option", {"configId": "7", "value": "again"}))
    assert "characters; the limit is" in Settings().why_not(
        Setting("session/set_mode", {"modeId": "x" * SETTING_CHARACTERS_MAX})
    )


def test_a_setting_has_short_words() -> None:
    assert ["the mode 'ask'", "the model 'm2'", "the option 'effort' 'high'"] == [
        each.words for each in (MODE, MODEL, EFFORT)
    ]
    assert len(Setting("session/set_mode", {"modeId": "x" * 9999}).words) < 120


def test_early_updates_are_taken_once_in_their_order() -> None:
    kept = Early()
    for at in range(3):
        kept.keep("s", {"at": at})
    kept.keep("t", {})

    assert [{"at": 0}, {"at": 1}, {"at": 2}] == kept.take("s")
    assert [] == kept.take("s")
    kept.clear()
    assert [] == kept.take("t")


@pytest.mark.parametrize("size", [1, early.BYTES_MAX // 10])
def test_early_updates_are_bounded_in_number_and_bytes_over_all_sessions(size: int) -> None:
    kept = Early()
    for at in range(2 * early.UPDATES_MAX):
        kept.keep(f"s{at}", {"": "x" * size})
    taken = [update for at in range(2 * early.UPDATES_MAX) for update in kept.take(f"s{at}")]

    assert len(taken) == (early.UPDATES_MAX if size == 1 else 9)
    kept.keep("next", {"": "x" * size})
    assert 1 == len(kept.take("next"))
