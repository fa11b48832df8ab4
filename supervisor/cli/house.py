"""`status`, `sessions` and `shutdown`: one question over one short connection, without an event loop."""

import os
import sys
import time
from typing import Any

import msgspec

from understudy.protocol.errors import CONNECTION_LOST, LocalError
from understudy.protocol.one_verb import verb
from understudy.protocol.presence import held, keeper
from understudy.protocol.verbs import Sessions, Shutdown, Status
from understudy.supervisor.directories import directories

EXIT_NOT_ALL_RUNNING = 3
EXIT_OUT_OF_REACH = 4
EXIT_NOT_RUNNING = 7
SHUTDOWN_S_MAX = 60.0
LAST_LINES = 10
TAIL_BYTES_MAX = 1 << 20
STATUS_COLUMNS = [
    "name",
    "state",
    "pid",
    "epoch",
    "since",
    "restarts",
    "queue",
    "sessions",
    "memory",
    "files",
    "waiting_for",
]


def run(options: Any) -> int:
    """Carry out the verb; exit codes are supervisord's."""
    runtime_dir, _ = directories(options.runtime_dir, options.state_dir, os.environ)
    try:
        if options.verb == "shutdown":
            return _shutdown(runtime_dir, options.hurry)
        answer = verb(runtime_dir, Status()) if options.verb == "status" else verb(runtime_dir, Sessions())
    except LocalError as error:
        print(f"understudy: {error.text}", file=sys.stderr)
        if options.verb == "shutdown":
            return EXIT_NOT_RUNNING
        return EXIT_OUT_OF_REACH if error.code == CONNECTION_LOST else 1
    rows: list[dict[str, Any]] = msgspec.to_builtins(answer)
    if options.verb == "status":
        for row in rows:
            row["last_lines"] = last_lines(row["log"], LAST_LINES) if row["state"] == "FATAL" else []
    if options.json:
        import json

        print(json.dumps(rows, indent=2))
    elif options.verb == "status":
        _table(STATUS_COLUMNS, [_status_cells(row) for row in rows])
        _show_last_lines(rows)
    else:
        _table(
            ["session", "agent", "last", "queue", "state", "cwd"],
            [
                [
                    row["session"],
                    row["agent"],
                    row["last"],
                    row["queue"],
                    "running" if row["turn"] else row["full"] or "-",
                    row["cwd"],
                ]
                for row in rows
            ],
        )
    if options.verb == "status" and any(row["state"] != "RUNNING" and not row["at_rest"] for row in rows):
        return EXIT_NOT_ALL_RUNNING
    return 0


def _status_cells(row: dict[str, Any]) -> list[object]:
    memory = f"{row['memory_mb']:.0f} MB" + (f"/{row['memory_limit_mb']}" if row["memory_limit_mb"] else "")
    files = f"{row['files']}" + (f"/{row['files_limit']}" if row["files_limit"] else "")
    return [
        row["name"],
        row["state"],
        row["pid"] or "-",
        row["epoch"],
        _duration(row["state_s"]),
        row["restarts"],
        row["queue"],
        row["sessions"],
        memory,
        files,
        row["waiting_for"] or "; ".join(row["limits"]) or _stands(row["state"], row["why"].partition("\n")[0]) or "-",
    ]


def _stands(state: str, why: str) -> str:
    """Say why an agent does not run, "" when it does."""
    if state == "STARTING":
        return "its program to be ready" + (f"; before that: {why}" if why else "")
    return "" if state == "RUNNING" else why


def _show_last_lines(rows: list[dict[str, Any]]) -> None:
    """Write below the table what agents that gave up said last on stderr."""
    for row in rows:
        if row["last_lines"]:
            print(f"\n{row['name']} gave up; the end of {row['log']}:")
            for line in row["last_lines"]:
                print(f"  {line}")


def last_lines(path: str, count: int) -> list[str]:
    """Return the last lines of a file, [] when there is none to be read."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES_MAX))
            return file.read().decode(errors="replace").splitlines()[-count:] if count else []
    except OSError:
        return []


def _duration(seconds: float) -> str:
    whole = int(seconds)
    days, rest = divmod(whole, 86400)
    return f"{days}d " * bool(days) + f"{rest // 3600}:{rest // 60 % 60:02}:{rest % 60:02}"


def _table(head: list[str], rows: list[list[object]]) -> None:
    cells = [head, *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(row[at]) for row in cells) for at in range(len(head))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _shutdown(runtime_dir: str, hurry: bool) -> int:
    lock = os.path.join(runtime_dir, "lock")  # noqa: PTH118
    ran = held(lock)
    try:
        pid = verb(runtime_dir, Shutdown(hurry)).pid
    except LocalError:
        if ran and not held(lock):
            return 0  # It ended before its answer was sent.
        raise
    started = time.monotonic()
    told = False
    try:
        while held(lock):
            if time.monotonic() - started > SHUTDOWN_S_MAX:
                remedy = f"try understudy shutdown --hurry, or end it with: kill -KILL {keeper(lock)}"
                text = f"the house (supervisor {pid}) did not end within {SHUTDOWN_S_MAX:g} s; {remedy}"
                print(f"understudy: {text}", file=sys.stderr)
                return 1
            if not told and time.monotonic() - started > 1:
                told = True
                print("waiting for the agents to end; Ctrl-C to hurry ...", file=sys.stderr)
            time.sleep(0.01)
    except KeyboardInterrupt:
        return _shutdown(runtime_dir, hurry=True) if not hurry else 130
    return 0
