"""`chaos`: faults in a running house under load, judged by ledgers outside its log."""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from understudy.protocol.errors import LocalError, UnderstudyError
from understudy.protocol.one_verb import verb
from understudy.protocol.verbs import Shutdown, Status
from understudy.supervisor.chaos.cast import Player, ledger_of, players, write_cast
from understudy.supervisor.chaos.faults import Fault, own_disk
from understudy.supervisor.chaos.load import Load
from understudy.supervisor.chaos.play import Plan, Report, play
from understudy.supervisor.chaos.proc import left
from understudy.supervisor.config.config import ConfigError
from understudy.supervisor.directories import directories
from understudy.supervisor.starting import start_in_background

END_S_MAX = 20.0
ABANDONED_S = 60.0  # So long does a house of ours live on when this process is killed.
EXIT_TERMINATED = 143


class ChaosError(Exception):
    """The run cannot be: the text says why and what to do."""


def run(options: Any) -> int:
    """Carry out the verb; return 0 when every promise was kept."""
    try:
        seed = secrets.randbelow(1 << 32) if options.seed is None else options.seed
        faults, for_s = _faults(options.faults), options.for_s
        with _house(options) as (runtime_dir, state_dir, agents, private):
            scripted = tuple(agent.name for agent in agents if agent.scripted)
            if Fault.DISK in faults and not own_disk(state_dir):
                raise ChaosError(
                    f"--faults disk: {state_dir} is no mount of its own, so it would fill everybody's disk"
                )
            plan = Plan(
                runtime_dir,
                state_dir,
                tuple(agent.name for agent in agents),
                scripted,
                ledger_of(agents),
                faults,
                for_s,
                seed,
            )
            if not private and not options.yes and not _agreed(plan):
                return 1
            print(
                f"chaos: seed {seed}, {for_s:g} s, faults {', '.join(each.value for each in faults)}", file=sys.stderr
            )
            report = asyncio.run(play(plan, _tell))
            if private:
                report.left_behind(_end(runtime_dir, state_dir), "after the house was shut down")
                report.asserted = Path(state_dir, "house.log").read_text(errors="replace").count("AssertionError")
    except ChaosError as error:
        print(f"understudy: {error}", file=sys.stderr)
        return 2
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(report.as_json(), indent=2) if options.json else "\n".join(_table(report)))
    if not report.kept and not options.json:
        print("\n".join(_story(report)))
    return 0 if report.kept else 1


@contextmanager
def _house(options: Any) -> Iterator[tuple[str, str, list[Player], bool]]:
    """Yield (runtime folder, state folder, who plays, whether it is ours alone)."""
    if options.runtime_dir:
        runtime_dir, state_dir = directories(options.runtime_dir, options.state_dir, os.environ)
        verb(runtime_dir, Status())
        yield runtime_dir, state_dir, _players(options, runtime_dir, state_dir), False
        return
    with tempfile.TemporaryDirectory(prefix="understudy-chaos-", ignore_cleanup_errors=True) as folder:
        runtime_dir, state_dir = f"{folder}/run", f"{folder}/state"
        if not options.config:
            options.config, _ = write_cast(folder)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))  # Not without an end to the house.
        start_in_background(options.config, runtime_dir, state_dir, ABANDONED_S, asserts=True)
        try:
            yield runtime_dir, state_dir, _players(options, runtime_dir, state_dir), True
        finally:
            _end(runtime_dir, state_dir)


def _players(options: Any, runtime_dir: str, state_dir: str) -> list[Player]:
    """Return the agents of the house that chaos may load."""
    there = {row.name for row in verb(runtime_dir, Status())}
    found = [each for each in players(options.config, runtime_dir, state_dir) if each.name in there]
    if not found:
        raise ChaosError(
            'chaos plays with scripted agents only, and this house has none; add one (driver = "scripted"), name its '
            "configuration with -c, or leave out --runtime-dir: then chaos starts a house of its own"
        )
    return found


def _agreed(plan: Plan) -> bool:
    """Ask before somebody's house is harmed."""
    kinds = ", ".join(fault.value for fault in plan.faults)
    print(f"chaos is about to harm the house at {plan.runtime_dir} for {plan.for_s:g} s: {kinds}.", file=sys.stderr)
    print("Turns of everybody who uses it will be interrupted.", file=sys.stderr)
    if not sys.stdin.isatty():
        print("understudy: nobody to ask; --yes goes on without", file=sys.stderr)
        return False
    print("Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _end(runtime_dir: str, state_dir: str) -> list[str]:
    """Shut our own house down and return what is left of it."""
    with contextlib.suppress(LocalError, UnderstudyError):
        verb(runtime_dir, Shutdown(hurry=True))
    until = time.monotonic() + END_S_MAX
    while (found := left(runtime_dir, state_dir)) and time.monotonic() < until:
        time.sleep(0.02)
    return found


def _faults(text: str) -> tuple[Fault, ...]:
    known = {fault.value: fault for fault in Fault}
    names = [name.strip() for name in text.split(",")] if text else [name for name in known if name != "disk"]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ChaosError(f"--faults: there is no fault {unknown[0]!r}; there are {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names))


def _tell(report: Report, load: Load, at_s: float) -> None:
    done = "  ".join(f"{name} {count}" for name, count in sorted(report.done.items()))
    accepted = len(load.accepted.turns)
    print(f"{at_s:5.0f} s  {accepted} accepted, {load.ends} seen to end  {done}", file=sys.stderr, flush=True)


def _table(report: Report) -> list[str]:
    verdict = report.verdict
    lines = ["", f"{'fault':<12}{'done':>8}{'no victim':>12}"]
    lines += [
        f"{name:<12}{report.done[name]:>8}{report.without_victim[name]:>12}"
        for name in (fault.value for fault in report.plan.faults)
    ]
    endings = ", ".join(f"{count} {reason}" for reason, count in verdict.reasons.most_common())
    lines += ["", f"{verdict.accepted} turns accepted: {endings}"]
    if report.refused:
        lines.append("refused: " + ", ".join(f"{count} {code}" for code, count in report.refused.most_common()))
    lines += ["", f"{'promise broken':<34}{'times':>6}"]
    for name, count in report.broken().items():
        unknown = name == "prompts begun twice" and not verdict.ledger
        lines.append(f"{name:<34}{'-' if unknown else count:>6}")
    if not verdict.ledger:
        lines.append('(- : these agents keep no common ledger; options = { ledger = "FILE" } makes them)')
    else:
        lines.append(f"(interrupted in the moment between the mark and the agent's own ledger: {verdict.unseen})")
    return [*lines, "", "every promise was kept" if report.kept else "PROMISES WERE BROKEN"]


def _story(report: Report) -> list[str]:
    lines = ["", *(f"found: {text}" for text in report.verdict.findings), "", f"the story (seed {report.plan.seed}):"]
    lines += [f"{at_s:8.3f} s  {fault:<12}{what}" for at_s, fault, what in report.story]
    return lines
