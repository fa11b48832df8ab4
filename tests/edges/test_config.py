import pickle
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.house import RealHouse
from understudy.protocol.drivers import DRIVERS
from understudy.supervisor.config.config import ConfigError, Reader, load, read
from understudy.supervisor.core.specs import HouseSpec, OnCrash
from understudy.supervisor.keeper.reload import VERSION, Inherited


def write(folder: Path, text: str) -> str:
    path = folder / "understudy.toml"
    path.write_text(text)
    return str(path)


def test_without_a_file_the_built_in_cast_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    house = load(None, None, None, {})

    assert ["rehearsal"] == [agent.name for agent in house.agents]


def test_a_whole_agent_is_read(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '[house]\nidle_exit_s = 5\n[agent.claude]\ndriver = "acp"\ncommand = "claude-agent-acp --x \'a b\'"\n'
        'memory = "2 GB"\nfiles = 512\non_crash = "retry"\nenv = { KEY = "secret" }\n[agent.claude.restart]\nintensity = 3\n',
    )

    house = load(path, "/run/u", "/var/u", {})
    (agent,) = house.agents

    assert ("claude-agent-acp", "--x", "a b") == agent.command
    assert (2048, 512, OnCrash.RETRY, 3) == (agent.memory_mb, agent.files, agent.on_crash, agent.restart.intensity)
    assert (5.0, "/run/u", "/var/u") == (house.idle_exit_s, house.runtime_dir, house.state_dir)
    assert "secret" not in repr(house)


def test_the_limits_of_the_house_and_of_an_agent_are_read(tmp_path: Path) -> None:
    house = load(
        write(
            tmp_path,
            '[house]\nactors_max = 8\nmemory = "8 GB"\n[agent.one]\ndriver = "scripted"\nsessions_max = 3\nentries_max = 1000\n'
            "turns_max = 2\nqueued_turns_max = 4\n",
        ),
        None,
        None,
        {},
    )
    (agent,) = house.agents

    assert (8, 8192) == (house.actors_max, house.memory_mb)
    assert (3, 1000, 2, 4) == (agent.sessions_max, agent.entries_max, agent.turns_max, agent.queued_turns_max)


def test_every_mistake_is_reported_at_once_with_its_place_and_remedy(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '[agent.one]\ndriver = "acp"\nmemroy = "1 GB"\nfiles = -3\n\n[agent.two]\ndriver = "akp"\nenv = { KEY = 5 }\n',
    )

    with pytest.raises(ConfigError) as caught:
        load(path, None, None, {})

    assert [
        f"{path}:3: agent.one.memroy: there is no such key; did you mean 'memory'?",
        f"{path}:4: agent.one.files: must be a whole number, at least 16, at most 1000000000",
        f'{path}:2: agent.one.driver: driver = "acp" needs command = "PROGRAM ARGUMENTS"',
        f"{path}:7: agent.two.driver: must be one of {', '.join(DRIVERS)}; did you mean 'acp'?",
        f"{path}:8: agent.two.env: KEY must be a text in quotes",
    ] == caught.value.mistakes


def test_a_table_of_an_unknown_name_is_found_at_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, '[agent.one]\ndriver = "scripted"\n\n[agnt.two]\ndriver = "scripted"\n')

    with pytest.raises(ConfigError) as caught:
        load(path, None, None, {})

    assert [f"{path}:4: agnt: there is no such key; did you mean 'agent'?"] == caught.value.mistakes


def test_a_syntax_error_names_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 2"):
        load(write(tmp_path, "[agent.x]\ndriver = \n"), None, None, {})


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load(str(tmp_path / "none.toml"), None, None, {})


def test_the_order_in_which_a_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("home/.config/understudy", "xdg/understudy"):
        (tmp_path / name).mkdir(parents=True)
        write(tmp_path / name, f'[agent.{name[:3]}]\ndriver = "scripted"\n')
    environ = {"HOME": str(tmp_path / "home")}
    found = [load(None, None, None, environ).agents[0].name]
    environ["XDG_CONFIG_HOME"] = str(tmp_path / "xdg")
    found.append(load(None, None, None, environ).agents[0].name)
    write(tmp_path, '[agent.here]\ndriver = "scripted"\n')
    found.append(load(None, None, None, environ).agents[0].name)

    assert ["hom", "xdg", "here"] == found


def test_who_starts_after_whom_and_who_comes_back_is_checked(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '[agent.one]\ndriver = "scripted"\nafter = ["two"]\n[agent.two]\ndriver = "scripted"\nafter = ["one"]\n'
        '[agent.three]\ndriver = "scripted"\nafter = ["tow"]\nrestart = { policy = "transiet", expected = [300] }\n',
    )

    with pytest.raises(ConfigError) as caught:
        load(path, None, None, {})

    assert [
        f"{path}:10: agent.three.restart.policy: must be one of permanent, transient, temporary; "
        "did you mean 'transient'?",
        f"{path}:10: agent.three.restart.expected: must be a list of exit codes from 0 to 255",
        f"{path}:3: agent.one.after: one would wait for itself (through one, two); take one of them out",
        f"{path}:6: agent.two.after: two would wait for itself (through one, two); take one of them out",
        f"{path}:9: agent.three.after: there is no agent 'tow'; did you mean 'two'?",
    ] == sorted(caught.value.mistakes, key=lambda text: text.split(": ")[1] == "agent.three.after")


@pytest.mark.parametrize(
    ("table", "remedy"),
    [
        (
            'command = "codex-acp"',
            'write driver = "acp" for a program that speaks the Agent Client Protocol or driver = "program" for any other',
        ),
        ('play = "my_agents:Notes"', 'write driver = "python"'),
        (
            "understudies = 1",
            "write " + " or ".join(f'driver = "{name}" for {each.suits}' for name, each in DRIVERS.items()),
        ),
    ],
)
def test_an_agent_without_a_driver_is_a_mistake_that_says_which_to_write(
    tmp_path: Path, table: str, remedy: str
) -> None:
    path = write(tmp_path, f"\n[agent.one]\n{table}\n")

    with pytest.raises(ConfigError, match=re.escape(f"{path}:2: agent.one.driver: is missing: {remedy}")):
        load(path, None, None, {})


NUMBERS = {
    "turns_max": 1,
    "queued_turns_max": 1,
    "sessions_max": 1,
    "entries_max": 10,
    "files": 16,
    "understudies": 0,
}
SECONDS = ("start_s", "start_timeout_s", "stop_grace_s", "cancel_grace_s", "turn_timeout_s", "quiet_timeout_s")


@pytest.mark.parametrize("key", [*NUMBERS, *SECONDS, "memory", "memory_soft"])
@pytest.mark.parametrize(
    "value", ["nan", "inf", "-inf", "-1", "1e400", str(1 << 63), str(10**20), "true", '"many"', "[1]"]
)
def test_a_number_that_is_not_finite_or_that_no_reload_could_carry_is_a_mistake(
    tmp_path: Path, key: str, value: str
) -> None:
    path = write(tmp_path, f'[agent.one]\ndriver = "scripted"\n{key} = {value}\n')

    with pytest.raises(ConfigError, match=f":3: agent.one.{key}: must be "):
        load(path, None, None, {})


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ("{ deep = " + "[" * 80 + "]" * 80 + " }", "deep is nested more than 64 deep"),
        ("{ a = { big = 18446744073709551616 } }", "a.big is a number of more than 64 bits"),
        ("{ when = 1979-05-27 }", "when must be a text, a finite number"),
        ("{ much = [inf] }", "much must be a text, a finite number"),
        (f'{{ long = "{"x" * 100_001}" }}', "long has 100001 bytes; the limit is 100000"),
    ],
)
def test_options_that_no_reload_could_carry_are_a_mistake(tmp_path: Path, options: str, what: str) -> None:
    path = write(tmp_path, f'[agent.one]\ndriver = "scripted"\noptions = {options}\n')

    with pytest.raises(ConfigError, match=f":3: agent.one.options: {re.escape(what)}"):
        load(path, None, None, {})


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('command = ["a", "b\\u0000"]', "has a zero byte"),
        ('command = [""]', "must name a program"),
        ('cwd = "/a\\u0000"', "has a zero byte"),
        ('env = { "A=B" = "secret" }', "'A=B' is no name of a variable"),
        (f'command = "{"x" * 100_001}"', "has 100001 bytes; the limit is 100000"),
    ],
)
def test_a_text_that_no_program_could_be_given_is_a_mistake(tmp_path: Path, line: str, what: str) -> None:
    path = write(tmp_path, f'[agent.one]\ndriver = "program"\n{line}\n')

    with pytest.raises(ConfigError, match=re.escape(what)) as caught:
        load(path, None, None, {})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "9" * 5000, "x" * (1 << 20) + "\n", "a = '\udcff'"])
def test_a_file_that_no_parser_takes_is_a_mistake_and_not_a_crash(tmp_path: Path, text: str) -> None:
    path = tmp_path / "understudy.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))

    with pytest.raises(ConfigError, match=r"understudy.toml: (is no TOML|has more than|is not UTF-8)"):
        load(str(path), None, None, {})


def test_a_cast_that_is_too_large_is_a_mistake(tmp_path: Path) -> None:
    path = write(tmp_path, "".join(f'[agent.a{number}]\ndriver = "scripted"\n' for number in range(2001)))

    with pytest.raises(ConfigError, match="there are 2001 agents; a house takes 2000"):
        load(path, None, None, {})


def test_a_path_that_is_no_text_is_a_mistake(tmp_path: Path) -> None:
    path = write(tmp_path, '[agent.one]\ndriver = "scripted"\n')

    with pytest.raises(ConfigError, match="a path must be valid UTF-8"):
        load(path, "/run/\udcff", "/state", {})


whole = st.integers(-(1 << 70), 1 << 70)
values = st.recursive(
    whole | st.floats() | st.booleans() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", min_size=1, max_size=2), inner, max_size=3)
    ),
)


@given(st.dictionaries(st.sampled_from([*NUMBERS, *SECONDS, "memory", "options", "after", "env"]), values))
def test_what_passes_the_check_survives_a_reload(table: dict[str, Any]) -> None:
    reader = Reader(Path("understudy.toml"), "", {})

    house = reader.house({"agent": {"one": {"driver": "scripted", **table}}}, HouseSpec((), "/run", "/state"))

    if not reader.mistakes:
        left = Inherited(VERSION, house, [], [])
        assert left == msgspec.msgpack.decode(msgspec.msgpack.encode(left), type=Inherited)
        pickle.dumps(house)


BASE = '[agent.base]\ndriver = "acp"\ncommand = "agent"\nmemory = "1 GB"\nunderstudies = 2\nturns_max = 3\n'


def test_an_agent_that_is_launched_as_another_is_lazy_and_has_what_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "poet.md").write_text("---\nname: poet\ndescription: Use it: for verse\n---\nYou write verse.\n")
    part = (
        '[agent.poet]\nas = "base"\npersona = "poet.md"\nturns_max = 1\n[agent.plain]\nas = "base"\nstart = "eager"\n'
    )

    base, poet, plain = load(write(tmp_path, BASE + part), None, None, {}).agents

    assert ("", False, 2) == (base.launch, base.lazy, base.understudies)
    assert ("base", True, 300.0, 1, 0) == (poet.launch, poet.lazy, poet.idle_stop_s, poet.turns_max, poet.understudies)
    assert (("agent",), 1024, "You write verse.") == (poet.command, poet.memory_mb, poet.persona)
    assert (False, 0.0, 3, "") == (plain.lazy, plain.idle_stop_s, plain.turns_max, plain.persona)


def test_a_roster_is_a_folder_of_personas_and_a_table_goes_before_it(tmp_path: Path) -> None:
    (tmp_path / "cast").mkdir()
    for name, edition in (("poet", ""), ("critic", "edition: education\n"), ("nurse", "edition: base, school\n")):
        (tmp_path / "cast" / f"{name}.md").write_text(f"---\nname: {name}\n{edition}---\nYou are a {name}.\n")
    roster = '[roster]\npath = "cast"\nas = "base"\nedition = "base"\n[agent.nurse]\nas = "base"\nturns_max = 7\n'

    agents = {each.name: each for each in load(write(tmp_path, BASE + roster), None, None, {}).agents}

    assert {"base", "poet", "nurse"} == set(agents)
    assert ("You are a poet.", "") == (agents["poet"].persona, agents["nurse"].persona)
    assert 7 == agents["nurse"].turns_max


def test_a_part_comes_after_whom_it_is_launched_as_wherever_the_file_has_it(tmp_path: Path) -> None:
    (tmp_path / "cast").mkdir()
    (tmp_path / "cast" / "poet.md").write_text("You are a poet.\n")
    first = '[agent.early]\nas = "base"\n'

    agents = load(write(tmp_path, f'{first}{BASE}[roster]\npath = "cast"\nas = "base"\n'), None, None, {}).agents

    assert {"base", "early", "poet"} == {each.name for each in agents}
    assert "base" == agents[0].name


def test_what_is_wrong_with_parts_and_rosters_is_told_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "endless.md").write_text("---\nname: endless\n")
    (tmp_path / "empty.md").write_text("---\nname: empty\n---\n\n")
    path = write(
        tmp_path,
        f'{BASE}[agent.a]\nas = "bsae"\n[agent.b]\nas = "base"\ncommand = "x"\n[agent.c]\nas = "base"\npersona = "none.md"\n'
        '[agent.d]\nas = "base"\npersona = "endless.md"\n[agent.e]\nas = "base"\npersona = "empty.md"\n'
        '[agent.f]\nas = "base"\nstart = "later"\n[roster]\npath = "nowhere"\n[agent.g]\nas = "c"\n'
        '[agent.whole]\ndriver = "scripted"\npersona = "good.md"\n[agent.web]\ndriver = "program"\ncommand = "x"\n'
        '[agent.h]\nas = "web"\npersona = "good.md"\n',
    )
    (tmp_path / "good.md").write_text("You are good.\n")

    with pytest.raises(ConfigError) as caught:
        load(path, None, None, {})

    told = "\n".join(caught.value.mistakes)
    for text in (
        "agent.a.as: there is no agent 'bsae' with a driver of its own; did you mean 'base'?",
        "agent.g.as: there is no agent 'c' with a driver of its own; those are: base, web, whole",
        'agent.whole.persona: belongs to a part: write it in another table, with as = "whole"',
        "agent.h.persona: web is a program, which holds no sessions; leave it out",
        "agent.b.command: belongs to the launch: write it in [agent.base], or leave `as` out",
        "agent.c.persona: ",
        "none.md is not read: No such file",
        "endless.md: its front matter begins with --- and does not end",
        "empty.md: has no text for the agent",
        "agent.f.start: must be one of eager, lazy",
        'roster.as: is missing: write as = "NAME"',
    ):
        assert text in told


def test_what_is_wrong_with_a_rosters_files_or_agent_is_told_at_the_roster_and_once(tmp_path: Path) -> None:
    (tmp_path / "cast").mkdir()
    for name in ("poet", "two words"):
        (tmp_path / "cast" / f"{name}.md").write_text("You write.\n")

    for launched, text in (
        ("nobody", "roster.as: there is no agent 'nobody' with a driver of its own; those are: base"),
        ("base", f"roster.path: {tmp_path}/cast/two words.md: the name 'two words' may have letters"),
    ):
        with pytest.raises(ConfigError) as caught:
            load(write(tmp_path, f'{BASE}[roster]\npath = "cast"\nas = "{launched}"\n'), None, None, {})

        assert [True] == [text in each for each in caught.value.mistakes]


def remarked(folder: Path, text: str) -> list[str]:
    """Return the remarks on a configuration, without the folder."""
    return [each.removeprefix(f"{folder}/") for each in read(write(folder, text), None, None, {})[1]]


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        (
            BASE + "sessions_per_actor = 1\nactors_max = 9\n[house]\nactors_max = 4",
            "8: agent.base.actors_max: is never reached: [house] actors_max is 4, for all agents together",
        ),
        (
            BASE + "play = 'm:C'",
            '7: agent.base.play: does nothing with driver = "acp": take it out, or write driver = "py',
        ),
        (BASE + "start_s = 3", '7: agent.base.start_s: does nothing with driver = "acp", which says itself when it is'),
        (
            BASE + "memory_soft = '1 GB'",
            "7: agent.base.memory_soft: is never reached: memory (1024 MB) ends the agent before",
        ),
        (
            BASE + "data_limit = '2 GB'",
            "7: agent.base.data_limit: is never reached: memory (1024 MB) ends the agent before",
        ),
        (
            BASE + "[house]\nmemory = '512 MB'",
            "4: agent.base.memory: is more than [house] memory (512 MB), from which on",
        ),
        (
            BASE + "turn_timeout_s = 5\nquiet_timeout_s = 9",
            "8: agent.base.quiet_timeout_s: is never reached: turn_timeout_s (5 s) comes before",
        ),
        (
            BASE + "restart = { expected = [3] }",
            '7: agent.base.restart.expected: does nothing with policy = "permanent": write policy = "transient"',
        ),
        (
            BASE + "[agent.base.restart]\nbackoff_min_s = 60",
            "8: agent.base.restart.backoff_min_s: backoff_min_s (60 s) is more than backoff_max_s, which counts",
        ),
        (
            BASE + "idle_stop_s = 5\n[agent.b]\ndriver = 'scripted'\nafter = ['base']",
            "7: agent.base.idle_stop_s: does nothing: b starts after it, which keeps it up; take it out, or out of agent.b.after",
        ),
        (
            BASE + "[agent.b]\ndriver = 'scripted'\n[house]\nactors_max = 1",
            '10: house.actors_max: 2 agents are to be up, and 1 may: the others wait for ever; raise it, or write start = "lazy"',
        ),
        (
            BASE + "[house]\nactors_max = 1",
            "5: agent.base.understudies: none ever starts: 1 agents are to be up, and [house] actors_max is 1",
        ),
    ],
)
def test_what_has_no_effect_as_it_is_written_is_told_with_the_remedy(tmp_path: Path, text: str, remark: str) -> None:
    told = remarked(tmp_path, text)

    assert 1 == len(told), told
    assert told[0].startswith(f"understudy.toml:{remark}")


def test_the_bound_of_the_actors_of_folders_is_not_in_vain(tmp_path: Path) -> None:
    assert [] == remarked(tmp_path, BASE + "per_folder = true\nactors_max = 3")


def test_what_does_nothing_for_a_program_is_told(tmp_path: Path) -> None:
    program = "[agent.p]\ndriver = 'program'\ncommand = 'p'\n"
    told = remarked(tmp_path, f"{program}turns_max = 3\nper_folder = true\nstart = 'lazy'\nidle_stop_s = 3\n")

    nothing = "does nothing: a program holds no sessions; take it out"
    start = "only understudy start p does; take it out"
    assert {
        f"understudy.toml:4: agent.p.turns_max: {nothing}",
        f"understudy.toml:5: agent.p.per_folder: {nothing}",
        f"understudy.toml:6: agent.p.start: nobody prompts a program, so nothing starts it, {start}",
        "understudy.toml:7: agent.p.idle_stop_s: nobody prompts a program: once it is ended nothing starts it, "
        + start,
    } == set(told)


@pytest.mark.parametrize(
    ("roster", "remark"),
    [
        ("edition = 'school'\n", "10: roster.edition: does nothing: no file in {}/cast says edition: …; take it out"),
        (
            "[agent.poet]\nas = 'base'\n",
            "8: roster.path: {}/cast/poet.md is not used, since there is a table [agent.poet]: write its persona there",
        ),
    ],
)
def test_a_persona_that_nobody_has_and_an_edition_that_none_is_of_are_told(
    tmp_path: Path, roster: str, remark: str
) -> None:
    (tmp_path / "cast").mkdir()
    (tmp_path / "cast" / "poet.md").write_text("You are a poet.\n")
    (tmp_path / "cast" / "nurse.md").write_text("You are a nurse.\n")

    told = remarked(tmp_path, f"{BASE}[roster]\npath = 'cast'\nas = 'base'\n{roster}")

    assert [f"understudy.toml:{remark.format(tmp_path)}"] == told


def test_a_roster_that_casts_nobody_is_told(tmp_path: Path) -> None:
    (tmp_path / "cast").mkdir()

    told = remarked(tmp_path, f"{BASE}[roster]\npath = 'cast'\nas = 'base'\n")

    text = f"nobody is cast: {tmp_path}/cast has no file NAME.md that is taken from it"
    assert [f"understudy.toml:8: roster.path: {text}"] == told


def test_of_what_the_documents_show_nothing_is_in_vain(tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "reviewer.md").write_text("You review.\n")
    (tmp_path / "agents" / "poet.md").write_text("---\nedition: base\n---\nYou write verse.\n")
    for page in ("README.md", "docs/cast.md"):
        text = (Path(__file__).parents[2] / page).read_text()
        shown = next(each for each in re.findall(r"```toml\n(.*?)```", text, re.DOTALL) if "as = " in each)

        assert [] == remarked(tmp_path, shown)


def test_a_check_tells_what_is_in_vain_and_finds_no_mistake_in_that(tmp_path: Path) -> None:
    house = RealHouse(tmp_path, '[agent.a]\ndriver = "scripted"\nstart_s = 3\n')

    ended = house.run("up", "--check", "-c", str(house.config))

    text = 'does nothing with driver = "scripted", which says itself when it is ready: take it out'
    assert (0, "") == (ended.returncode, ended.stderr)
    assert ended.stdout.startswith(f"{house.config}:3: agent.a.start_s: {text}")
    assert ended.stdout.endswith(f"\n{house.config}: no mistakes, 1 of its settings in vain\n")
