from pathlib import Path

import pytest

from understudy.supervisor.config import ConfigError, load
from understudy.supervisor.core.specs import OnCrash


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
            '[house]\nactors_max = 8\nmemory = "8 GB"\n[agent.one]\nsessions_max = 3\nentries_max = 1000\n'
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
        f"{path}:4: agent.one.files: must be a whole number, at least 16",
        f'{path}:2: agent.one.driver: driver = "acp" needs command = "PROGRAM ARGUMENTS"',
        f"{path}:7: agent.two.driver: must be one of acp, program, python, scripted; did you mean 'acp'?",
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
        '[agent.one]\nafter = ["two"]\n[agent.two]\nafter = ["one"]\n[agent.three]\nafter = ["tow"]\n'
        'restart = { policy = "transiet", expected = [300] }\n',
    )

    with pytest.raises(ConfigError) as caught:
        load(path, None, None, {})

    assert [
        f"{path}:7: agent.three.restart.policy: must be one of permanent, transient, temporary; "
        "did you mean 'transient'?",
        f"{path}:7: agent.three.restart.expected: must be a list of exit codes from 0 to 255",
        f"{path}:2: agent.one.after: one would wait for itself (through one, two); take one of them out",
        f"{path}:4: agent.two.after: two would wait for itself (through one, two); take one of them out",
        f"{path}:6: agent.three.after: there is no agent 'tow'; did you mean 'two'?",
    ] == sorted(caught.value.mistakes, key=lambda text: text.split(": ")[1] == "agent.three.after")
