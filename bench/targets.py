"""The targets of the project's supervision, and whether the measured parts of `faults.json` reach them."""

import statistics
from dataclasses import dataclass
from typing import Any

from bench.restarts import CAREFUL, DOUBLED, FLOOR, RUNIT, RUNIT_PYTHON, SLEEPER_FLOOR

Parts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """One target: what was measured beside what is asked for. `reached` None: it was not measured."""

    what: str
    target: str
    measured: str
    beside: str
    reached: bool | None


def p99(values: list[float]) -> float:
    """Return the 99th percentile."""
    return statistics.quantiles(values, n=100, method="inclusive")[98] if len(values) > 1 else values[0]


def lines(parts: Parts) -> list[Line]:
    """Return every target with what is known of it."""
    return [*_restarts(parts.get("restarts")), *_opencode(parts.get("opencode")), *_mixed(parts.get("mixed")),
            *_streams(parts.get("streams")), *_crowd(parts.get("crowd"))]  # fmt: skip


def _restarts(part: Parts | None) -> list[Line]:
    if part is None:
        return [Line("SIGKILL until an answer", "as below", "not measured", "", None)]
    values = {row["what"]: row["ms"] for row in part["rows"]}
    return [
        _ratio("SIGKILL until an answer, Python actor", values, CAREFUL, RUNIT, 0.4),
        _ratio("the same", values, CAREFUL, RUNIT_PYTHON, 0.4, asked=False),
        Line(
            "the same: p99", "p99 ≤ 3 x median", f"{p99(values[CAREFUL]):.1f} ms", f"{_median(values[CAREFUL]):.1f} ms",
            p99(values[CAREFUL]) <= 3 * _median(values[CAREFUL]),
        ),
        _ratio("with an understudy", values, DOUBLED, RUNIT, 0.15),
        _ratio("the same", values, DOUBLED, RUNIT_PYTHON, 0.15, asked=False),
        _ratio("the same", values, DOUBLED, FLOOR, 2.5),
        _ratio("the same", values, DOUBLED, SLEEPER_FLOOR, 2.5, asked=False),
    ]  # fmt: skip


def _ratio(what: str, values: dict[str, list[float]], ours: str, theirs: str, most: float, asked: bool = True) -> Line:
    """Compare two medians. `asked` False: it is shown beside a target, and is none."""
    target = f"≤ {most:g} x {theirs}" if asked else f"(beside {theirs})"
    if theirs not in values:
        return Line(what, target, f"{_median(values[ours]):.1f} ms", "it is not installed", None)
    ratio = _median(values[ours]) / _median(values[theirs])
    beside = f"{_median(values[theirs]):.1f} ms: x {ratio:.2f}"
    return Line(what, target, f"{_median(values[ours]):.1f} ms", beside, ratio <= most if asked else None)


def _opencode(part: Parts | None) -> list[Line]:
    if part is None:
        return [Line("opencode's initialised spare owns the agent", "median ≤ 20 ms", "not measured", "", None)]
    found = []
    for name, what in (("program", "opencode"), ("actor", "opencode's actor")):
        owned, dead = part[f"{name}_owned_ms"], _median(part[f"{name}_dead_ms"])
        beside = (
            f"the program is dead after {dead:.1f} ms; a prompt is answered after {_median(part['again_ms']):.0f} ms"
        )
        found.append(
            Line(
                f"SIGKILL of {what} until its spare owns the agent", "median ≤ 20 ms", f"{_median(owned):.1f} ms",
                beside, _median(owned) <= 20,
            )
        )  # fmt: skip
    return found


def _mixed(part: Parts | None) -> list[Line]:
    if part is None:
        return [Line("mixed real faults: broken promises", "0", "not measured", "", None)]
    broken = sum(part["broken"].values())
    told = ", ".join(f"{name} {count}" for name, count in part["broken"].items() if count) or "none of any kind"
    what = f"{part['faults']} mixed real faults: broken promises"
    enough = part["faults"] >= 5_000
    return [
        Line(what, "0 in 5000", f"{broken}", f"{told}; {part['accepted']} turns", broken == 0 if enough or broken else None)
    ]  # fmt: skip


def _streams(part: Parts | None) -> list[Line]:
    if part is None:
        return [Line("supervisor SIGKILLed under 10 streams", "median ≤ 150 ms", "not measured", "", None)]
    what = f"supervisor SIGKILLed {part['kills']} times under {part['streams']} streams"
    wrong, other = part["lost_or_doubled"], part["other_processes"]
    median = _median(part["silent_ms"])
    return [
        Line(f"{what}: lost or doubled", "0", f"{wrong}", f"of {part['entries']} entries", wrong == 0),
        Line("the same: other processes than before", "0", f"{other}", "", other == 0),
        Line(
            "the same: until a follower's next entry", "median ≤ 150 ms", f"{median:.0f} ms",
            f"p99 {p99(part['silent_ms']):.0f} ms", median <= 150,
        ),
    ]  # fmt: skip


def _crowd(part: Parts | None) -> list[Line]:
    if part is None:
        return [Line("100 agents crash at once", "1.5 s, no stall over 50 ms", "not measured", "", None)]
    slowest, stall = max(part["all_answer_ms"]), max(part["longest_callback_ms"])
    own, ping = max(part["longest_callback_own_ms"]), max(part["longest_ping_ms"])
    what = f"{part['agents']} agents crash at once, {len(part['all_answer_ms'])} times"
    beside = "; ".join(f"{name} {percent:.2f}" for name, percent in part["idle_percent_by_part"].items())
    idle = part["idle_percent"]
    return [
        Line(f"{what}: all answer", "≤ 1500 ms", f"{slowest:.0f} ms", "the slowest of all", slowest <= 1500),
        Line(
            "the same: longest callback of the supervisor's loop",
            "≤ 50 ms",
            f"{stall:.0f} ms",
            f"most own work {own:.0f} ms; a ping of a process beside took up to {ping:.0f} ms",
            stall <= 50,
        ),
        Line(f"{part['agents']} idle agents", "≤ 1 % of a core", f"{idle:.2f} %", beside, idle <= 1.0),
    ]


def _median(values: list[float]) -> float:
    return statistics.median(values)
