"""understudy.toml -> HouseSpec. Every mistake is reported at once, with file, line, key and remedy.

It never shows the values of `env`: they may be keys. What a stranger could have written is not read: it names programs
that run as this user. What passes here can be packed, and so survives a reload.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import msgspec

from understudy.protocol.drivers import DRIVERS, EXAMPLES
from understudy.protocol.owners import see_file, see_way
from understudy.supervisor.config import persona
from understudy.supervisor.config.persona import PersonaFile
from understudy.supervisor.config.remarks import remarks
from understudy.supervisor.config.values import (
    a_table,
    a_text,
    boolean,
    command,
    environment,
    exit_codes,
    import_path,
    memory_mb,
    names,
    one_of,
    options,
    seconds,
    whole_number,
)
from understudy.supervisor.core.specs import AgentSpec, Comeback, HouseSpec, OnCrash, OnHang, RestartPolicy
from understudy.supervisor.directories import absolute, directories
from understudy.supervisor.numbers import COUNT_MAX

NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
NAMED = "the name {!r} may have letters, digits, _ . - and 64 characters at most"
CONFIG_BYTES_MAX = 1 << 20
AGENTS_MAX = 2000
UNDERSTUDIES_MAX = 16
AGENT_ACTORS_MAX = 1000
PART_IDLE_STOP_S = 300.0  # An agent that is launched as another one is lazy, and so long without work is long.
EXAMPLES_ROSTER = {"path": 'path = "agents"', "as": 'as = "NAME"'}
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
BUILT_IN = (AgentSpec("rehearsal"),)
HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(#.*)?$")


class ConfigError(Exception):
    """The configuration has mistakes: `mistakes` lists them all, each with its place and remedy."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


def load(config: str | None, runtime_dir: str | None, state_dir: str | None, environ: Mapping[str, str]) -> HouseSpec:
    """Return the house's specification; without a file, the built-in cast. Raises `ConfigError`."""
    return read(config, runtime_dir, state_dir, environ)[0]


def read(
    config: str | None, runtime_dir: str | None, state_dir: str | None, environ: Mapping[str, str]
) -> tuple[HouseSpec, list[str]]:
    """As `load`, with remarks on what has no effect as it is written, each with its place and remedy."""
    runtime, state = directories(runtime_dir, state_dir, environ)
    path = find(config, environ)
    if path is None:
        return _packable(HouseSpec(BUILT_IN, runtime, state)), []
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
    return _packable(house), reader.remarks


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
    """Checks one file. `mistakes` and `remarks` grow; values that are wrong keep their default."""

    def __init__(self, path: Path, text: str, environ: Mapping[str, str]) -> None:
        self.path = path
        self.lines = text.splitlines()
        self.environ = environ
        self.mistakes: list[str] = []
        self.remarks: list[str] = []

    def house(self, table: dict[str, Any], default: HouseSpec) -> HouseSpec:
        """Return the house that `table` describes."""
        self._unknown(table, "", ("agent", "house", "roster"))
        checks: dict[str, Callable[[Any], Any]] = {
            "idle_exit_s": seconds,
            "orphan_grace_s": seconds,
            "actors_max": whole_number(1, COUNT_MAX),
            "memory": memory_mb,
        }
        changes = self._known(table.get("house", {}), "house", checks)
        changes["memory_mb"] = changes.pop("memory", 0)
        agents = table.get("agent", {})
        if not isinstance(agents, dict) or not agents:
            self._mistake("agent", "", "there is no agent; write a table [agent.NAME] for each")
            agents = {}
        if "roster" in table:
            agents = {**self._roster(table["roster"], agents), **agents}
        if len(agents) > AGENTS_MAX:
            self._mistake("agent", "", f"there are {len(agents)} agents; a house takes {AGENTS_MAX}")
        whole = {name: each for name, each in agents.items() if not (isinstance(each, dict) and "as" in each)}
        found = {name: self._agent(name, value) for name, value in whole.items()}
        found |= {name: self._part(name, agents[name], found) for name in agents if name not in found}
        specs = tuple(found.values())  # A part comes after the agent that it is launched as, wherever the file has it.
        self._order({spec.name: spec.after for spec in specs})
        house = replace(default, agents=specs, **changes)
        if not self.mistakes:
            for header, key, text in remarks(house, agents):
                self._remark(header, key, text)
        return house

    def _part(self, name: str, table: dict[str, Any], others: Mapping[str, AgentSpec]) -> AgentSpec:
        """Return an agent that is launched as another one."""
        header, base = f"agent.{name}", table["as"]
        self._named(header, name)
        if isinstance(base, str):
            self._launched(header, base, others)
        spec = others.get(base, AgentSpec(name)) if isinstance(base, str) else AgentSpec(name)
        checks = {"as": a_text, **self._own_checks(header), "persona": self._persona}
        if left := [key for key in LAUNCH if key in table]:
            text = f"belongs to the launch: write it in [agent.{base}], or leave `as` out"
            for key in left:
                self._mistake(header, key, text)
        values = self._known({key: each for key, each in table.items() if key not in left}, header, checks)
        values.pop("as", None)
        if "persona" in values and base in others and not DRIVERS[spec.driver].holds_sessions:
            self._mistake(header, "persona", f"{base} is a program, which holds no sessions; leave it out")
        if "start" in values:
            values["lazy"] = values.pop("start")
        rests = {"idle_stop_s": PART_IDLE_STOP_S} if values.get("lazy", True) else {"idle_stop_s": 0.0}
        values = {"lazy": True, "understudies": 0} | rests | values
        return replace(spec, name=name, launch=spec.name, **values)

    def _launched(self, header: str, base: str, others: Iterable[str]) -> None:
        """See that `base` is one of `others`: those with a driver of their own."""
        if base not in others:
            near = difflib.get_close_matches(base, others, 1)
            remedy = f"did you mean {near[0]!r}?" if near else f"those are: {', '.join(sorted(others)) or 'none'}"
            self._mistake(header, "as", f"there is no agent {base!r} with a driver of its own; {remedy}")

    def _roster(self, table: Any, agents: Mapping[str, Any]) -> dict[str, Any]:
        """Return the tables of the agents whose personas lie in a folder: a file `NAME.md` for each."""
        checks = {"path": self._beside, "as": a_text, "edition": a_text}
        values = self._known(table, "roster", checks)
        for key in ("path", "as"):
            if isinstance(table, dict) and key not in table:
                self._mistake("roster", key, f"is missing: write {EXAMPLES_ROSTER[key]}")
        if len(values) < len(table if isinstance(table, dict) else ()) or not {"path", "as"} <= set(values):
            return {}
        launched = [name for name, each in agents.items() if isinstance(each, dict) and "as" not in each]
        if values["as"] not in launched:  # Told once, and not for each of the files.
            self._launched("roster", values["as"], launched)
            return {}
        folder, found, editions_found = values["path"], dict[str, Any](), False
        try:
            files = sorted(each for each in folder.iterdir() if each.suffix == ".md")
        except OSError as error:
            self._mistake("roster", "path", f"{folder} is not read: {error.strerror}")
            return {}
        for file in files:
            try:
                found_file = self._persona_file(file)
            except ValueError as error:
                self._mistake("roster", "path", str(error))
                continue
            editions_found = editions_found or "edition" in found_file.front
            editions = [each.strip() for each in found_file.front.get("edition", "").split(",") if each.strip()]
            if "edition" in values and editions and values["edition"] not in editions:
                continue
            if not NAME.fullmatch(file.stem):
                self._mistake("roster", "path", f"{file}: {NAMED.format(file.stem)}")
            elif file.stem not in agents:  # Who has a table of its own is what that says.
                found[file.stem] = {"as": values["as"], "persona": str(file)}
            elif "persona" not in agents[file.stem]:
                text = f"{file} is not used, since there is a table [agent.{file.stem}]: write its persona there"
                self._remark("roster", "path", text)
        if "edition" in values and not editions_found:
            self._remark("roster", "edition", f"does nothing: no file in {folder} says edition: …; take it out")
        elif not found:
            self._remark("roster", "path", f"nobody is cast: {folder} has no file NAME.md that is taken from it")
        return found

    def _own_checks(self, header: str) -> dict[str, Callable[[Any], Any]]:
        """Return the checks of what an agent has of its own, however it is launched."""
        return {
            "on_crash": lambda value: OnCrash(one_of(*(each.value for each in OnCrash))(value)),
            "after": names,
            "start": lambda value: one_of("eager", "lazy")(value) == "lazy",
            "idle_stop_s": seconds,
            "sessions_per_actor": whole_number(0, COUNT_MAX),
            "actors_max": whole_number(1, AGENT_ACTORS_MAX),
            "turns_max": whole_number(1, COUNT_MAX),
            "queued_turns_max": whole_number(1, COUNT_MAX),
            "sessions_max": whole_number(1, COUNT_MAX),
            "entries_max": whole_number(10, COUNT_MAX),
            "cancel_grace_s": seconds,
            "turn_timeout_s": seconds,
            "quiet_timeout_s": seconds,
            "on_hang": lambda value: OnHang(one_of(*(each.value for each in OnHang))(value)),
            "restart": lambda value: self._restart(header, value),
        }

    def _named(self, header: str, name: str) -> None:
        if not NAME.fullmatch(name):
            self._mistake(header, "", NAMED.format(name))

    def _agent(self, name: str, table: Any) -> AgentSpec:
        header = f"agent.{name}"
        self._named(header, name)
        checks: dict[str, Callable[[Any], Any]] = {
            **self._own_checks(header),
            "driver": one_of(*DRIVERS),
            "play": import_path,
            "command": command,
            "cwd": self._folder,
            "env": environment,
            "memory": memory_mb,
            "memory_soft": memory_mb,
            "data_limit": memory_mb,
            "files": whole_number(16, COUNT_MAX),
            "per_folder": boolean,
            "understudies": whole_number(0, UNDERSTUDIES_MAX),
            "start_s": seconds,
            "start_timeout_s": seconds,
            "stop_grace_s": seconds,
            "options": options,
        }
        if isinstance(table, dict) and "persona" in table:
            text = f'belongs to a part: write it in another table, with as = "{name}"'
            self._mistake(header, "persona", text)
            table = {key: each for key, each in table.items() if key != "persona"}
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
        checks: dict[str, Callable[[Any], Any]] = {each.name: seconds for each in fields(RestartPolicy)} | {
            "intensity": whole_number(0, COUNT_MAX),
            "policy": lambda value: Comeback(one_of(*(each.value for each in Comeback))(value)),
            "expected": exit_codes,
        }
        return RestartPolicy(**self._known(a_table(value), f"{header}.restart", checks))

    def _beside(self, value: Any) -> Path:
        """Return a path that is whole, or begins beside the configuration."""
        return self.path.parent / Path(absolute(value, self.environ) if a_text(value).startswith("~") else value)

    def _persona(self, value: Any) -> str:
        return self._persona_file(self._beside(value)).text

    def _persona_file(self, path: Path) -> PersonaFile:
        """Return what stands in a persona's file. Raises `ValueError` with its path."""
        try:
            return persona.read(_read(str(path)))
        except OSError as error:
            raise ValueError(f"{path} is not read: {error.strerror}") from error
        except ConfigError as error:
            raise ValueError(str(error)) from error
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def _folder(self, value: Any) -> str:
        path = a_text(value)
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

    def _remark(self, header: str, key: str, text: str) -> None:
        self.remarks.append(f"{self.path}:{self._line(header, key)}: {header}.{key}: {text}")

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


def _driver_for(table: Mapping[str, Any]) -> str:
    """Say which drivers suit what is written: those that need one of its keys, else all."""
    suiting = {name: each for name, each in DRIVERS.items() if each.needs and each.needs in table} or DRIVERS
    return "write " + " or ".join(f'driver = "{name}" for {each.suits}' for name, each in suiting.items())
