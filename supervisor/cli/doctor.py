"""`doctor`: what is wrong with the installation, the configuration, the folders, the log and the house.

It changes nothing, needs no house, and works beside one, in safe mode, too.
"""

import os
import resource
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from understudy import __version__
from understudy.protocol.errors import NOT_OURS, LocalError, UnderstudyError
from understudy.protocol.one_verb import verb
from understudy.protocol.owners import OwnerError, see_way
from understudy.protocol.paths import SOCKET_PATH_BYTES_MAX, backstage_path
from understudy.protocol.presence import held
from understudy.protocol.processes import children, stat, title
from understudy.protocol.verbs import House, HouseStatus, Status
from understudy.supervisor.chaos.proc import keeper_of, left
from understudy.supervisor.config.config import ConfigError, read
from understudy.supervisor.directories import OURS, directories, is_full, see_ours
from understudy.supervisor.formats import JOURNAL_HEADER, SCHEMA_VERSION

FREE_MB_MIN = 200
FILES_MIN = 1024
RESTART = "once that is mended: understudy restart"
PACKAGES = ("pyzmq", "msgspec", "setproctitle")


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, and what was found; `remedy` is "" when nothing is wrong.

    `foreign`: it may be another user's, so that nothing in it is looked at.
    """

    what: str
    found: str
    remedy: str = ""
    foreign: bool = False


def run(options: Any) -> int:
    """Print each finding; return 1 when something is wrong."""
    runtime_dir, state_dir = directories(options.runtime_dir, options.state_dir, os.environ)
    wrong = 0
    for finding in look(runtime_dir, state_dir):
        wrong += bool(finding.remedy)
        print(f"{'WRONG' if finding.remedy else 'ok':5}  {finding.what}: {finding.found}")
        if finding.remedy:
            print(f"       remedy: {finding.remedy}")
    print("nothing is wrong" if not wrong else f"{wrong} thing(s) are wrong")
    return 1 if wrong else 0


def look(runtime_dir: str, state_dir: str) -> Iterator[Finding]:
    """Yield the findings, the quick ones first."""
    yield _installation()
    row, house = _house(runtime_dir)
    yield house
    yield from _stopped(runtime_dir)
    if row and not row.safe_mode:
        yield from _agents(runtime_dir)
    yield from _configuration(row.source if row else "", runtime_dir, state_dir)
    folders = [_folder(runtime_dir, "--runtime-dir", True), _folder(state_dir, "--state-dir", runtime_dir == state_dir)]
    yield from folders
    size = len(os.fsencode(backstage_path(runtime_dir)))
    too_long = "choose a shorter --runtime-dir" if size > SOCKET_PATH_BYTES_MAX else ""
    yield Finding("socket path", f"{size} of {SOCKET_PATH_BYTES_MAX} bytes", too_long)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield Finding("open files", f"up to {hard}", "raise the hard limit (ulimit -Hn)" if hard < FILES_MIN else "")
    if not any(each.foreign for each in folders):
        yield _left(runtime_dir, state_dir, row is not None)
    if not folders[1].foreign:
        yield _log(Path(state_dir, "log.sqlite"))


def _installation() -> Finding:
    try:
        packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    except PackageNotFoundError as error:
        return Finding("installation", f"{error.name} is missing", "install understudy again with pip")
    python = ".".join(map(str, sys.version_info[:3]))
    return Finding("installation", f"understudy {__version__}, Python {python}, {packages} ({sys.executable})")


def _house(runtime_dir: str) -> tuple[HouseStatus | None, Finding]:
    try:
        row = verb(runtime_dir, House(), timeout_s=2.0)
    except LocalError as error:
        found = error.text if error.code == NOT_OURS else f"none answers at {runtime_dir}"
        return None, Finding("house", found)
    except UnderstudyError as error:
        return None, Finding("house", error.text, "end it, and start it again with understudy up")
    if row.safe_mode:
        text = f"in safe mode (supervisor {row.pid}), because the last supervisor fell:\n{row.safe_mode}"
        return row, Finding("house", text, "mend what it says, then: understudy reload")
    return row, Finding("house", f"answers (supervisor {row.pid}, its start no. {row.epoch})")


def _stopped(runtime_dir: str) -> Iterator[Finding]:
    """Look for processes of the house that a signal has stopped: a keeper so, and nobody restarts anything."""
    keeper = keeper_of(runtime_dir) if held(f"{runtime_dir}/lock") else 0
    for pid in [keeper, *children(keeper)] if keeper else []:
        fields = stat(pid)
        if fields is not None and fields[0] in (b"T", b"t"):
            yield Finding("process", f"{pid} ({title(pid)}) is stopped by a signal", f"kill -CONT {pid}")


def _agents(runtime_dir: str) -> Iterator[Finding]:
    """Look for agents that cannot start, or hang."""
    try:
        rows = verb(runtime_dir, Status())
    except UnderstudyError:
        return  # It went away meanwhile.
    for row in rows:
        name = row.name
        if "~" in name:
            continue  # An understudy: who plays tells what is wrong with both.
        if row.state in ("BACKOFF", "FATAL", "UNKNOWN"):
            yield Finding(f"agent {name}", f"{row.state}: {row.why}", f"see understudy tail {name}; {RESTART} {name}")
        elif row.link:
            yield Finding(f"agent {name}", row.link, f"{RESTART} {name}")


def _configuration(source: str, runtime_dir: str, state_dir: str) -> Iterator[Finding]:
    """Look at the file of the house that runs, or at the one that the next would read."""
    try:
        house, remarks = read(source or None, runtime_dir, state_dir, os.environ)
    except ConfigError as error:
        yield Finding("configuration", "\n".join(error.mistakes), "mend that")
        return
    names = ", ".join(agent.name for agent in house.agents)
    told = f"{house.source or 'none, so the built-in cast'}: {names}"
    yield Finding("configuration", "\n".join((told, *remarks)))
    for agent in house.agents:
        if agent.command:
            found = shutil.which(agent.command[0], path=agent.env.get("PATH"))
            remedy = "" if found else f"install it, or write its whole path in [agent.{agent.name}] command"
            yield Finding(f"program of {agent.name}", found or f"there is no {agent.command[0]!r} on PATH", remedy)


def _folder(folder: str, option: str, private: bool) -> Finding:
    what = f"folder {folder}"
    try:
        see_way(folder, option)
        if os.path.lexists(folder):
            see_ours(folder, option, private)
    except OwnerError as error:
        return Finding(what, error.found, error.remedy, foreign=True)
    except OSError as error:
        return Finding(what, f"cannot be looked at: {error.strerror}", f"choose another with {option}", foreign=True)
    there = Path(folder)
    while not there.exists():
        there = there.parent
    if not os.access(there, os.W_OK | os.X_OK):
        return Finding(what, f"{there} cannot be written", f"choose another with {option}")
    free_mb = shutil.disk_usage(there).free >> 20
    if open_to_others := [] if private else _open_to_others(folder):
        return Finding(what, f"others can read {', '.join(open_to_others)}", f"chmod 700 {folder}")
    return Finding(what, f"{free_mb} MB free", f"free {FREE_MB_MIN} MB" if free_mb < FREE_MB_MIN else "")


def _open_to_others(folder: str) -> list[str]:
    """Return the files of a house that others can read there: they are not made so."""
    there = Path(folder)
    if not there.is_dir() or not there.stat().st_mode & 0o011:
        return []
    return [
        entry.name
        for entry in there.iterdir()
        if entry.name.startswith(OURS) and entry.is_file() and entry.stat().st_mode & 0o044
    ]


def _left(runtime_dir: str, state_dir: str, answers: bool) -> Finding:
    """Look for processes of a house that is no more."""
    found = [] if answers else left(runtime_dir, state_dir)
    return Finding("left behind", ", ".join(found) or "nothing", "understudy up ends them" if found else "")


def _log(path: Path) -> Finding:
    """Check the whole log, without a change to it."""
    if not path.exists():
        return Finding("log", f"{path}: none yet")
    if path.stat().st_size > 100 << 20:
        print(f"       checking {path.stat().st_size >> 20} MB of log ...", file=sys.stderr)
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            known = int(connection.execute("PRAGMA user_version").fetchone()[0])
            verdict = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
            sessions = int(connection.execute("SELECT count(*) FROM sessions").fetchone()[0])
        finally:
            connection.close()
    except sqlite3.Error as error:
        remedy = (
            "free some space on its disk"
            if is_full(str(path))
            else f"move {path.parent} away, or use another --state-dir"
        )
        return Finding("log", f"{path}: {error}", remedy)
    if verdict != "ok":
        return Finding("log", f"{path}: {verdict}", "copy the folder, then: sqlite3 log.sqlite .recover")
    journal = path.with_suffix(".journal")
    if journal.exists() and not JOURNAL_HEADER.startswith(journal.read_bytes()[: len(JOURNAL_HEADER)]):
        return Finding("log", f"{journal} is no journal", f"move {path.parent} away, or use another --state-dir")
    if known > SCHEMA_VERSION:
        return Finding("log", f"schema {known}, this program knows {SCHEMA_VERSION}", "use the newer understudy")
    return Finding("log", f"{path}: sound, schema {known}, {sessions} session(s), {path.stat().st_size >> 10} KB")
