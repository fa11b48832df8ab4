"""What was set in a session of an ACP agent (mode, model, options), to be set again in the next process. Pure.

An agent that is started anew begins with its defaults, which may allow more than what a person had chosen.
"""

import json
from dataclasses import dataclass
from typing import Any

SETTINGS_MAX = 100
SETTING_CHARACTERS_MAX = 10_000
VALUES = {"session/set_mode": "modeId", "session/set_model": "modelId", "session/set_config_option": "value"}
CURRENT = {"session/set_mode": ("modes", "currentModeId"), "session/set_model": ("models", "currentModelId")}


@dataclass(frozen=True, slots=True)
class Setting:
    """One request that set something. `params` without the session's id."""

    method: str
    params: dict[str, Any]

    @property
    def key(self) -> tuple[str, str]:
        """What it sets."""
        return self.method, str(self.params.get("configId", ""))

    @property
    def words(self) -> str:
        """What it sets and to what, for people."""
        what = {"session/set_mode": "the mode", "session/set_model": "the model"}.get(
            self.method, f"the option {self.params.get('configId')!r:.100}"
        )
        return f"{what} {self.params.get(VALUES[self.method])!r:.100}"


class Settings:
    """The settings of one session, in the order in which they were last made; `pending`: to be set again, in order."""

    def __init__(self, remembered: Any = None) -> None:
        """`remembered`: what `to_remember` returned, when the session was another process's."""
        self._made: dict[tuple[str, str], Setting] = {}
        for each in remembered if isinstance(remembered, list) else []:
            setting = setting_of(each.get("method"), each.get("params")) if isinstance(each, dict) else None
            if setting is not None:
                self._made[setting.key] = setting
        self.pending = list(self._made.values())

    def why_not(self, setting: Setting) -> str:
        """Say why a setting cannot be remembered, "" if it can."""
        size = len(json.dumps(setting.params))
        if size > SETTING_CHARACTERS_MAX:
            return f"{size} characters; the limit is {SETTING_CHARACTERS_MAX}"
        if setting.key not in self._made and len(self._made) >= SETTINGS_MAX:
            return f"{SETTINGS_MAX} options are set in this session; that is the limit"
        return ""

    def make(self, setting: Setting) -> None:
        """The agent has accepted it."""
        self._made.pop(setting.key, None)
        self._made[setting.key] = setting
        self.pending = [each for each in self.pending if each.key != setting.key]

    def begin_with(self, opened: dict[str, Any]) -> None:
        """A new process tells what is current: what comes first and is so already need not be set again.

        The rest is, though it may be current: what is set before it can change it.
        """
        while self.pending and is_current(self.pending[0], opened):
            del self.pending[0]

    def to_remember(self) -> list[dict[str, Any]]:
        """Return them as what a driver remembers."""
        return [{"method": each.method, "params": each.params} for each in self._made.values()]


def setting_of(method: Any, params: Any) -> Setting | None:
    """Return the setting that a request makes, None if it makes none."""
    if not isinstance(method, str) or method not in VALUES or not isinstance(params, dict):
        return None
    return Setting(method, {name: value for name, value in params.items() if name != "sessionId"})


def is_current(setting: Setting, opened: dict[str, Any]) -> bool:
    """Return whether an answer that opened a session says that `setting` is so already."""
    value = setting.params.get(VALUES[setting.method])
    return value is not None and _current(setting, opened) == value


def shown(opened: dict[str, Any], setting: Setting, answer: Any) -> dict[str, Any]:
    """Return `opened` as it is after the agent accepted `setting` with `answer`."""
    if isinstance(answer, dict) and isinstance(answer.get("configOptions"), list):
        return {**opened, "configOptions": answer["configOptions"]}
    value = setting.params.get(VALUES[setting.method])
    if setting.method in CURRENT:
        part, name = CURRENT[setting.method]
        return {**opened, part: {**opened[part], name: value}} if isinstance(opened.get(part), dict) else opened
    options = opened.get("configOptions")
    if not isinstance(options, list):
        return opened
    return {
        **opened,
        "configOptions": [{**each, "currentValue": value} if _is_option(each, setting) else each for each in options],
    }


def _current(setting: Setting, opened: dict[str, Any]) -> Any:
    if setting.method in CURRENT:
        part, name = CURRENT[setting.method]
        found = opened.get(part)
        return found.get(name) if isinstance(found, dict) else None
    options = opened.get("configOptions")
    for each in options if isinstance(options, list) else []:
        if _is_option(each, setting):
            return each.get("currentValue")
    return None


def _is_option(option: Any, setting: Setting) -> bool:
    return isinstance(option, dict) and option.get("id") == setting.params.get("configId")
