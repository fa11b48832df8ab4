"""understudy.toml -> HouseSpec. Every mistake is reported at once, with file, line, key and remedy.

It never shows the values of `env`: they may be keys. What a stranger could have written is not read: it names programs
that run as this user. What passes here can be packed, and so survives a reload.
"""

import difflib
import math
import os
import re
import shlex
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import msgspec

from understudy.protocol.drivers import DRIVERS, EXAMPLES
from understudy.protocol.owners import see_file, see_way
from understudy.supervisor.core.specs import AgentSpec, Comeback, HouseSpec, OnCrash, OnHang, RestartPolicy
from understudy.supervisor.directories import absolute, directories
from understudy.supervisor.numbers import COUNT_MAX, SECONDS_MAX
from understudy.supervisor.persona import text_of

NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
MEMORY = re.compile(r"(\d{1,12})\s*(M|MB|MiB|G|GB|GiB)?", re.IGNORECASE)
CONFIG_BYTES_MAX = 1 << 20
AGENTS_MAX = 1000
UNDERSTUDIES_MAX = 16
AGENT_ACTORS_MAX = 1000
PART_IDLE_STOP_S = 300.0  # An agent that is launched as another one is lazy, and so long without work is long.
# What is of a launch, so that all that are launched so have it alike.
LAUNCH = (
    "driver",
    "play",
    "command",
    "cwd",
    "env",
    "memory",
    "memory_soft",
    "data_limit",
    "files",
    "understudies",
    "start_s",
    "start_timeout_s",
    "stop_grace_s",
    "options",
)
MEMORY_MB_MAX = 1 << 30
TEXT_BYTES_MAX = 100_000  # Linux takes 128 KiB for one word of a command, or one variable.
DEPTH_MAX = 64
BUILT_IN = (AgentSpec("rehearsal"),)
HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(#.*)?$")


class ConfigError(Exception):
    """The configuration has mistakes: `mistakes` lists them all, each with its place and remedy."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


def load(config: str | None, runtime_dir: str | None, state_dir: str | None, environ: Mapping[str, str]) -> HouseSpec:
    """Return the house's specification; without a file, the built-in cast. Raises `ConfigError`."""
    runtime, state = directories(runtime_dir, state_dir, environ)
    path = find(config, environ)
    if path is None:
        return _packable(HouseSpec(BUILT_IN, runtime, state))
    try:
        text = _read(str(path))
    except OSError as error:
        raise ConfigError([f"{path}: is not read: {error.strerror}"]) from error
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError([f"{path}: is no TOML: {error}"]) from error
    reader = Reader(path, text, environ)
    house = reader.house(table, HouseSpec((), runtime, state, source=str(path)))
    if reader.mistakes:
        raise ConfigError(reader.mistakes)
    return _packable(house)


def _read(path: str) -> str:
    """Return what stands in the file. Raises `OSError`, also when somebody else could have written it."""
    see_way(path, "-c")
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        see_file(descriptor, path, "-c")
        content = file.read(CONFIG_BYTES_MAX + 1)
    if len(content) > CONFIG_BYTES_MAX:
        raise ConfigError([f"{path}: has more than {CONFIG_BYTES_MAX} bytes"])
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not UTF-8: {error}"]) from error


def _packable(house: HouseSpec) -> HouseSpec:
    """Return `house` if a reload can hand it on. Raises `ConfigError`."""
    try:
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(house), type=HouseSpec) == house
    except UnicodeEncodeError as error:
        place = ", ".join(each for each in (house.source, house.runtime_dir, house.state_dir) if each)
        raise ConfigError([f"{place!a}: a path must be valid UTF-8: {error.reason}"]) from error
    return house


def find(config: str | None, environ: Mapping[str, str]) -> Path | None:
    """Return the file to read: -c, $UNDERSTUDY_CONFIG, ./understudy.toml, the XDG folder; None: there is none."""
    named = config or environ.get("UNDERSTUDY_CONFIG")
    if named:
        path = Path(absolute(named, environ))
        if not path.is_file():
            raise ConfigError([f"{path}: there is no such file; name another with -c or $UNDERSTUDY_CONFIG"])
        return path
    folders = [Path.cwd()]
    if environ.get("XDG_CONFIG_HOME"):
        folders.append(Path(environ["XDG_CONFIG_HOME"], "understudy"))
    elif environ.get("HOME"):
        folders.append(Path(environ["HOME"], ".config", "understudy"))
    return next((folder / "understudy.toml" for folder in folders if (folder / "understudy.toml").is_file()), None)


class Reader:
    """Checks one file. `mistakes` grows; values that are wrong keep their default."""

    def __init__(self, path: Path, text: str, environ: Mapping[str, str]) -> None:
        self.path = path
        self.lines = text.splitlines()
        self.environ = environ
        self.mistakes: list[str] = []

    def house(self, table: dict[str, Any], default: HouseSpec) -> HouseSpec:
        """Return the house that `table` describes."""
        self._unknown(table, "", ("agent", "house"))
        checks: dict[str, Callable[[Any], Any]] = {
            "idle_exit_s": _seconds,
            "orphan_grace_s": _seconds,
            "actors_max": _whole(1, COUNT_MAX),
            "memory": _memory,
        }
        changes = self._known(table.get("house", {}), "house", checks)
        changes["memory_mb"] = changes.pop("memory", 0)
        agents = table.get("agent", {})
        if not isinstance(agents, dict) or not agents:
            self._mistake("agent", "", "there is no agent; write a table [agent.NAME] for each")
            agents = {}
        if len(agents) > AGENTS_MAX:
            self._mistake("agent", "", f"there are {len(agents)} agents; a house takes {AGENTS_MAX}")
        whole = {name: each for name, each in agents.items() if not (isinstance(each, dict) and "as" in each)}
        found = {name: self._agent(name, value) for name, value in whole.items()}
        found |= {name: self._part(name, agents[name], found) for name in agents if name not in found}
        specs = tuple(found[name] for name in agents)
        self._order({spec.name: spec.after for spec in specs})
        return replace(default, agents=specs, **changes)

    def _part(self, name: str, table: dict[str, Any], others: Mapping[str, AgentSpec]) -> AgentSpec:
        """Return an agent that is launched as another one."""
        header, base = f"agent.{name}", table["as"]
        self._named(header, name)
        if base not in others:
            near = difflib.get_close_matches(base, others, 1) if isinstance(base, str) else []
            remedy = f"did you mean {near[0]!r}?" if near else "name one that has a driver of its own"
            self._mistake(header, "as", f"there is no agent {base!r} to be launched as; {remedy}")
        spec = others.get(base, AgentSpec(name)) if isinstance(base, str) else AgentSpec(name)
        checks = {"as": _text, **self._own_checks(header), "persona": self._persona}
        if left := [key for key in LAUNCH if key in table]:
            text = f"belongs to the launch: write it in [agent.{base}], or leave `as` out"
            for key in left:
                self._mistake(header, key, text)
        values = self._known({key: each for key, each in table.items() if key not in left}, header, checks)
        values.pop("as", None)
        if "start" in values:
            values["lazy"] = values.pop("start")
        values = {"lazy": True, "idle_stop_s": PART_IDLE_STOP_S, "understudies": 0} | values
        return replace(spec, name=name, launch=spec.name, **values)

    def _own_checks(self, header: str) -> dict[str, Callable[[Any], Any]]:
        """Return the checks of what an agent has of its own, however it is launched."""
        return {
            "on_crash": lambda value: OnCrash(_one_of(*(each.value for each in OnCrash))(value)),
            "after": _names,
            "start": lambda value: _one_of("eager", "lazy")(value) == "lazy",
            "idle_stop_s": _seconds,
            "sessions_per_actor": _whole(0, COUNT_MAX),
            "actors_max": _whole(1, AGENT_ACTORS_MAX),
            "turns_max": _whole(1, COUNT_MAX),
            "queued_turns_max": _whole(1, COUNT_MAX),
            "sessions_max": _whole(1, COUNT_MAX),
            "entries_max": _whole(10, COUNT_MAX),
            "cancel_grace_s": _seconds,
            "turn_timeout_s": _seconds,
            "quiet_timeout_s": _seconds,
            "on_hang": lambda value: OnHang(_one_of(*(each.value for each in OnHang))(value)),
            "restart": lambda value: self._restart(header, value),
        }

    def _named(self, header: str, name: str) -> None:
        if not NAME.fullmatch(name):
            self._mistake(header, "", f"the name {name!r} may have letters, digits, _ . - and 64 characters at most")

    def _agent(self, name: str, table: Any) -> AgentSpec:
        header = f"agent.{name}"
        self._named(header, name)
        checks: dict[str, Callable[[Any], Any]] = {
            **self._own_checks(header),
            "driver": _one_of(*DRIVERS),
            "play": _import_path,
            "command": _command,
            "cwd": self._folder,
            "env": _environment,
            "memory": _memory,
            "memory_soft": _memory,
            "data_limit": _memory,
            "files": _whole(16, COUNT_MAX),
            "understudies": _whole(0, UNDERSTUDIES_MAX),
            "start_s": _seconds,
            "start_timeout_s": _seconds,
            "stop_grace_s": _seconds,
            "options": _options,
        }
        values = self._known(table, header, checks)
        if isinstance(table, dict) and "driver" not in table:
            self._mistake(header, "driver", f"is missing: {_driver_for(table)}")
        if "start" in values:
            values["lazy"] = values.pop("start")
        values["memory_mb"] = values.pop("memory", 0)
        values["memory_soft_mb"] = values.pop("memory_soft", 0)
        values["data_limit_mb"] = values.pop("data_limit", 0)
        spec = AgentSpec(name, **values)
        driver = DRIVERS[spec.driver]
        if driver.needs and not getattr(spec, driver.needs):
            self._mistake(header, "driver", f'driver = "{spec.driver}" needs {EXAMPLES[driver.needs]}')
        if driver.ready_when_lived and spec.start_s >= spec.start_timeout_s:
            self._mistake(header, "start_s", f"must be less than start_timeout_s ({spec.start_timeout_s:g} s)")
        return spec

    def _order(self, after: Mapping[str, tuple[str, ...]]) -> None:
        """See that every `after` names others of the cast, and that nobody waits for itself in the end."""
        for name, others in after.items():
            for other in others:
                if other not in after:
                    near = difflib.get_close_matches(other, after, 1)
                    remedy = f"did you mean {near[0]!r}?" if near else f"the cast is: {', '.join(sorted(after))}"
                    self._mistake(f"agent.{name}", "after", f"there is no agent {other!r}; {remedy}")
            trail, ahead = set[str](), list(others)
            while ahead:
                other = ahead.pop()
                if other not in trail:
                    trail.add(other)
                    ahead.extend(after.get(other, ()))
            if name in trail:
                text = f"{name} would wait for itself (through {', '.join(sorted(trail))}); take one of them out"
                self._mistake(f"agent.{name}", "after", text)

    def _restart(self, header: str, value: Any) -> RestartPolicy:
        checks: dict[str, Callable[[Any], Any]] = {each.name: _seconds for each in fields(RestartPolicy)} | {
            "intensity": _whole(0, COUNT_MAX),
            "policy": lambda value: Comeback(_one_of(*(each.value for each in Comeback))(value)),
            "expected": _exit_codes,
        }
        return RestartPolicy(**self._known(_table(value), f"{header}.restart", checks))

    def _persona(self, value: Any) -> str:
        """Return the text of a persona's file, whose path is whole or begins beside the configuration."""
        path = self.path.parent / Path(absolute(value, self.environ) if _text(value).startswith("~") else value)
        try:
            return text_of(_read(str(path)))
        except OSError as error:
            raise ValueError(f"{path} is not read: {error.strerror}") from error
        except (ConfigError, ValueError) as error:
            raise ValueError(f"{path}: {error}".removeprefix(f"{path}: {path}: ")) from error

    def _folder(self, value: Any) -> str:
        path = _text(value)
        path = absolute(path, self.environ) if path.startswith("~") else path
        if not path.startswith("/"):
            raise ValueError("write the whole path, from / or ~")
        return path

    def _known(self, table: Any, header: str, checks: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
        if not isinstance(table, dict):
            self._mistake(header, "", f"must be a table: write [{header}]")
            return {}
        self._unknown(table, header, tuple(checks))
        values: dict[str, Any] = {}
        for key, check in checks.items():
            if key in table:
                try:
                    values[key] = check(table[key])
                except ValueError as error:
                    self._mistake(header, key, str(error))
        return values

    def _unknown(self, table: Mapping[str, Any], header: str, known: tuple[str, ...]) -> None:
        for key in table:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                remedy = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(known))}"
                self._mistake(header, key, f"there is no such key; {remedy}")

    def _mistake(self, header: str, key: str, text: str) -> None:
        name = ".".join(part for part in (header, key) if part)
        self.mistakes.append(f"{self.path}:{self._line(header, key)}: {name}: {text}")

    def _line(self, header: str, key: str) -> int:
        """Return the line of `key` in the table `header` (of the table itself when the key is not found), from 1."""
        best = 1
        current: list[str] = []
        wanted = [*header.split(".", 1)] if header else []
        path = ".".join(wanted)
        sought = f"{path}.{key}" if path else key
        for number, line in enumerate(self.lines, 1):
            found = HEADER.match(line)
            if found:
                current = [part.strip().strip("\"'") for part in found[1].split(".")]
                if ".".join(current) == path or (not key and ".".join(current).startswith(path)):
                    best = number
                    if not key:
                        return number
                if ".".join(current[: sought.count(".") + 1]) == sought:
                    return number
                continue
            name = line.partition("=")[0].strip().strip("\"'")
            whole = ".".join([*current, name]) if current else name
            if "=" in line and key and whole in (sought, f"{path}.{key}.{name}"):
                return number
            if "=" in line and path and whole == path:
                best = number
        return best


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"must be a text in quotes, not {_kind(value)}")
    return _bounded(value)


def _bounded(text: str) -> str:
    """Return a text that a command, an environment or a path can hold."""
    if "\0" in text:
        raise ValueError("has a zero byte; leave it out")
    if len(text.encode()) > TEXT_BYTES_MAX:
        raise ValueError(f"has {len(text.encode())} bytes; the limit is {TEXT_BYTES_MAX}: put it into a file")
    return text


def _driver_for(table: Mapping[str, Any]) -> str:
    """Say which drivers suit what is written: those that need one of its keys, else all."""
    suiting = {name: each for name, each in DRIVERS.items() if each.needs and each.needs in table} or DRIVERS
    return "write " + " or ".join(f'driver = "{name}" for {each.suits}' for name, each in suiting.items())


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "an empty text", list: "a list"}
    return names.get(type(value), "a table")


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"must be a table {{key = value}}, not {_kind(value)}")
    return value


def _options(value: Any) -> dict[str, Any]:
    """Return a table whose values can be packed: an int of 64 bits, no date, not too deep."""
    ahead: list[tuple[str, Any, int]] = [(name, each, 1) for name, each in _table(value).items()]
    while ahead:
        name, each, depth = ahead.pop()
        if depth > DEPTH_MAX:
            raise ValueError(f"{name} is nested more than {DEPTH_MAX} deep")
        if isinstance(each, dict):
            ahead += [(f"{name}.{inner}" if depth < 4 else name, value, depth + 1) for inner, value in each.items()]
        elif isinstance(each, list):
            ahead += [(name, value, depth + 1) for value in each]
        elif isinstance(each, str):
            if len(each.encode()) > TEXT_BYTES_MAX:
                raise ValueError(f"{name} has {len(each.encode())} bytes; the limit is {TEXT_BYTES_MAX}")
        elif isinstance(each, int):
            if not -(1 << 63) <= each < 1 << 63:
                raise ValueError(f"{name} is a number of more than 64 bits")
        elif not isinstance(each, float) or not math.isfinite(each):
            raise ValueError(f"{name} must be a text, a finite number, true or false, a list or a table")
    return dict(value)


def _one_of(*choices: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in choices:
            near = difflib.get_close_matches(value, choices, 1) if isinstance(value, str) else []
            remedy = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"must be one of {', '.join(choices)}{remedy}")
        return str(value)

    return check


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError('must be a list of names of agents: ["NAME", …]')
    return tuple(value)


def _exit_codes(value: Any) -> tuple[int, ...]:
    codes = value if isinstance(value, list) else [value]
    if not all(isinstance(code, int) and not isinstance(code, bool) and 0 <= code <= 255 for code in codes):
        raise ValueError("must be a list of exit codes from 0 to 255")
    return tuple(codes)


def _import_path(value: Any) -> str:
    if not re.fullmatch(r"[\w.]+:\w+", _text(value)):
        raise ValueError('must be an import path "module:Class"')
    return str(value)


def _command(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        try:
            parts = shlex.split(value)
        except ValueError as error:
            raise ValueError(f"cannot be split into words: {error}") from error
    elif isinstance(value, list) and all(isinstance(part, str) for part in value):
        parts = value
    else:
        raise ValueError("must be a text or a list of texts")
    if not parts or not parts[0]:
        raise ValueError("must name a program")
    return tuple(map(_bounded, parts))


def _environment(value: Any) -> dict[str, str]:
    for name, text in _table(value).items():
        if not isinstance(text, str):
            raise ValueError(f"{name} must be a text in quotes")
        if not name or "=" in name or "\0" in name + text or len((name + text).encode()) > TEXT_BYTES_MAX:
            what = ascii(name[:64])
            raise ValueError(f"{what} is no name of a variable, has a zero byte, or more than {TEXT_BYTES_MAX} bytes")
    return dict(value)


def _memory(value: Any) -> int:
    """Return MB."""
    found = MEMORY.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is not None:
        value = int(found[1]) * (1024 if (found[2] or "M")[0] in "gG" else 1)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= MEMORY_MB_MAX:
        raise ValueError(f'must be like "512 MB" or "2 GB", or a whole number of MB, at most {MEMORY_MB_MAX}')
    return value


def _whole(least: int, most: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"must be a whole number, at least {least}, at most {most}")
        return value

    return check


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= SECONDS_MAX:
        raise ValueError(f"must be a number of seconds, 0 or more, at most {SECONDS_MAX:.0f}")
    return float(value)
