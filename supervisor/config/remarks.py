"""What a configuration says that has no effect, or that something else in it rules out: no mistakes, but hardly what was meant.

Pure. A remark is (header, key, text with the remedy), for the place where the key stands.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from understudy.protocol.drivers import DRIVERS
from understudy.supervisor.core.specs import AgentSpec, Comeback, HouseSpec

Remark = tuple[str, str, str]

OF_SESSIONS = (
    "sessions_per_actor",
    "per_folder",
    "actors_max",
    "turns_max",
    "queued_turns_max",
    "sessions_max",
    "entries_max",
    "cancel_grace_s",
    "turn_timeout_s",
    "quiet_timeout_s",
    "on_crash",
)
BY_DRIVER = ("command", "play")


def remarks(house: HouseSpec, tables: Mapping[str, Any]) -> Iterator[Remark]:
    """Yield the remarks on `house`. `tables`: what the file says of each agent, as it stands there."""
    first = {other: spec.name for spec in reversed(house.agents) for other in spec.after}
    for spec in house.agents:
        written = tables[spec.name]
        header = f"agent.{spec.name}"
        found = (
            _of_driver(spec, written),
            _of_places(house, spec, written),
            _of_rest(spec, first.get(spec.name, ""), written),
            _of_limits(house, spec, written),
        )
        for each in found:
            yield from ((header, key, text) for key, text in each)
        restart = written.get("restart", {})
        yield from ((f"{header}.restart", key, text) for key, text in _of_restart(spec, restart))
    yield from _of_room(house, first, tables)


def _of_driver(spec: AgentSpec, written: Collection[str]) -> Iterator[tuple[str, str]]:
    driver = DRIVERS[spec.driver]
    for key in BY_DRIVER:
        if key in written and driver.needs != key:
            suits = next(name for name, each in DRIVERS.items() if each.needs == key)
            yield key, f'does nothing with driver = "{spec.driver}": take it out, or write driver = "{suits}"'
    if "start_s" in written and not driver.ready_when_lived:
        yield "start_s", f'does nothing with driver = "{spec.driver}", which says itself when it is ready: take it out'
    if not driver.holds_sessions:
        for key in OF_SESSIONS:
            if key in written:
                yield key, "does nothing: a program holds no sessions; take it out"


def _of_places(house: HouseSpec, spec: AgentSpec, written: Collection[str]) -> Iterator[tuple[str, str]]:
    if "actors_max" not in written or not DRIVERS[spec.driver].holds_sessions:
        return
    if 0 < house.actors_max < spec.actors_max:
        text = f"is never reached: [house] actors_max is {house.actors_max}, for all agents together"
        yield "actors_max", f"{text}; raise that, or make this less"


def _of_rest(spec: AgentSpec, dependent: str, written: Collection[str]) -> Iterator[tuple[str, str]]:
    """`dependent`: one that starts after it, "" when none does."""
    lazy, idle = "start" in written and spec.lazy, "idle_stop_s" in written and spec.idle_stop_s > 0
    if dependent:
        why = f"{dependent} starts after it, which keeps it up; take it out, or out of agent.{dependent}.after"
        yield from ((key, f"does nothing: {why}") for key, set_so in (("start", lazy), ("idle_stop_s", idle)) if set_so)
    elif not DRIVERS[spec.driver].holds_sessions:
        start = f"only understudy start {spec.name} does"
        if lazy:
            yield "start", f"nobody prompts a program, so nothing starts it, {start}; take it out"
        if idle:
            yield "idle_stop_s", f"nobody prompts a program: once it is ended nothing starts it, {start}; take it out"


def _of_limits(house: HouseSpec, spec: AgentSpec, written: Collection[str]) -> Iterator[tuple[str, str]]:
    whole_mb = spec.memory_mb
    if "memory_soft" in written and 0 < whole_mb <= spec.memory_soft_mb:
        yield "memory_soft", f"is never reached: memory ({whole_mb} MB) ends the agent before; make it less than that"
    if "data_limit" in written and 0 < whole_mb < spec.data_limit_mb:
        yield "data_limit", f"is never reached: memory ({whole_mb} MB) ends the agent before; make it less than that"
    if "memory" in written and 0 < house.memory_mb < whole_mb:
        text = f"is more than [house] memory ({house.memory_mb} MB), from which on turns and starts of all agents wait"
        yield "memory", f"{text}: make it less, or raise that"
    if "quiet_timeout_s" in written and 0 < spec.turn_timeout_s <= spec.quiet_timeout_s:
        text = f"is never reached: turn_timeout_s ({spec.turn_timeout_s:g} s) comes before"
        yield "quiet_timeout_s", f"{text}; make it less than that"


def _of_restart(spec: AgentSpec, written: Collection[str]) -> Iterator[tuple[str, str]]:
    policy = spec.restart
    if "expected" in written and policy.policy is not Comeback.TRANSIENT:
        text = f'does nothing with policy = "{policy.policy.value}"'
        yield "expected", f'{text}: write policy = "transient", or take it out'
    if policy.backoff_min_s > policy.backoff_max_s:
        key = "backoff_min_s" if "backoff_min_s" in written else "backoff_max_s"
        yield key, f"backoff_min_s ({policy.backoff_min_s:g} s) is more than backoff_max_s, which counts; make it less"


def _of_room(house: HouseSpec, first: Mapping[str, str], tables: Mapping[str, Any]) -> Iterator[Remark]:
    """Yield what does not fit into the house's `actors_max`. `first`: those whom others start after."""
    standing = [each for each in house.agents if each.name in first or not (each.lazy or each.idle_stop_s)]
    if not house.actors_max:
        return
    if len(standing) > house.actors_max:
        text = f"{len(standing)} agents are to be up, and {house.actors_max} may: the others wait for ever"
        yield "house", "actors_max", f'{text}; raise it, or write start = "lazy" for some'
        return
    for spec in house.agents:
        if spec.understudies and "understudies" in tables[spec.name] and len(standing) == house.actors_max:
            text = (
                f"none ever starts: {len(standing)} agents are to be up, and [house] actors_max is {house.actors_max}"
            )
            yield f"agent.{spec.name}", "understudies", f"{text}; raise that, or take this out"
