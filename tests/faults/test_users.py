"""Two users of one machine: nothing of the one is read, changed, run or spoken to by the other.

We are root, so that a second user can be played: `STRANGER`, in a process that becomes it before it acts.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq

from tests.editor import EVERYTHING, Editor
from tests.faults.house import RealHouse, wait_until
from understudy.protocol.client import connect
from understudy.protocol.dealer import Dealer
from understudy.protocol.errors import NOT_OURS, LocalError
from understudy.protocol.frames import ToActor
from understudy.protocol.one_verb import verb
from understudy.protocol.paths import backstage_address, gateway_path
from understudy.protocol.verbs import Status

STRANGER = 4242
BECOME = f"""
import json, os, socket, sys
os.setgroups([])
os.setgid({STRANGER})
os.setuid({STRANGER})
os.umask(0)
said = None
exec(sys.argv[1])
print(json.dumps(said))
"""
FALSE_HOUSE = """
listening = []
for name in ("gateway.sock", "backstage.sock"):
    s = socket.socket(socket.AF_UNIX)
    s.bind(f"{FOLDER}/{name}")
    os.chmod(f"{FOLDER}/{name}", 0o777)
    s.listen()
    s.setblocking(False)
    listening.append(s)
os.mkfifo(f"{FOLDER}/lock", 0o666)
os.mkfifo(f"{FOLDER}/house", 0o666)
print("ready", flush=True)
sys.stdin.read()
said = 0
for s in listening:
    try:
        s.accept()
        said += 1
    except BlockingIOError:
        pass
"""
PROGRAM = '[agent.rehearsal]\ndriver = "scripted"\n[agent.web]\ndriver = "program"\nstart_s = 0\ncommand = {}\n'

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can play a second user"),
]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that both can walk through (which those of other tests are not), with a `shared` one that is like /tmp."""
    folder = Path(tempfile.mkdtemp(prefix="us-", dir="/tmp"))
    folder.chmod(0o711)
    shared = folder / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


def stranger(act: str) -> Any:
    """Let the stranger `act`; return what it `said`."""
    done = subprocess.run(
        [sys.executable, "-c", BECOME, act], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )
    assert 0 == done.returncode, done.stderr
    return json.loads(done.stdout)


@contextmanager
def false_house(folder: Path) -> Iterator[list[int]]:
    """Let the stranger listen in `folder`; the list says afterwards how many sockets of its were spoken to."""
    act = f"FOLDER = {str(folder)!r}\n{FALSE_HOUSE}"
    heard: list[int] = []
    with subprocess.Popen(
        [sys.executable, "-c", BECOME, act], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "ready\n" == process.stdout.readline()
        yield heard
        heard.append(json.loads(process.communicate(timeout=60)[0]))


async def said_by_clients(runtime_dir: str) -> list[str]:
    """Return what the client library and an actor's connection say of a folder."""
    said: list[str] = []
    with pytest.raises(LocalError) as caught:
        async with connect(runtime_dir, wait_s=0.2):
            pass
    assert NOT_OURS == caught.value.code
    said.append(caught.value.text)
    broken: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    context: zmq.Context[Any] = zmq.Context()
    Dealer(context, backstage_address(runtime_dir), ToActor, lambda _: None, broken.set_result)
    said.append(await broken)
    context.destroy(0)
    return said


@pytest.mark.parametrize(
    "make",
    [
        "os.mkdir(FOLDER, 0o777)",
        "os.mkdir(FOLDER, 0o700)",
        "os.mkdir(FOLDER + '-there', 0o777); os.symlink(FOLDER + '-there', FOLDER)",
    ],
    ids=["open", "closed", "link"],
)
def test_a_false_house_is_never_spoken_to(place: Path, make: str) -> None:
    house = RealHouse(place)
    house.runtime_dir = str(place / "shared" / "understudy-0")
    stranger(f"FOLDER = {house.runtime_dir!r}\n{make}")
    with false_house(Path(house.runtime_dir)) as heard:
        with pytest.raises(LocalError) as caught:
            verb(house.runtime_dir, Status())
        said = [caught.value.text, *asyncio.run(said_by_clients(house.runtime_dir))]
        for verb_ in (["status"], ["prompt", "rehearsal", "my secret"], ["shutdown"], ["reload"], ["tail", "x"]):
            done = house.run(*verb_)
            assert 0 != done.returncode
            said.append(done.stderr)
        with Editor(house.command("acp", "-c", str(house.config))) as editor:
            editor.ask("initialize", protocolVersion=1, clientCapabilities=EVERYTHING)
            said.append(editor.error("session/new", cwd="/tmp", mcpServers=[])["message"])
        told = house.run("doctor").stdout
    assert [0] == heard
    for text in said:
        assert f"uid {STRANGER}" in text
        assert house.runtime_dir in text
        assert "choose another with --runtime-dir" in text
    assert f"WRONG  folder {house.runtime_dir}: " in told


def test_a_strangers_socket_in_a_folder_of_ours_is_never_spoken_to(place: Path) -> None:
    folder = place / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with false_house(folder) as heard:
        folder.chmod(0o700)
        with pytest.raises(LocalError, match=f"gateway.sock is no socket of yours: it belongs to uid {STRANGER}"):
            verb(str(folder), Status())
        folder.chmod(0o777)
    assert [0] == heard


def look(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return owner, mode and content of all in `folder` and of itself."""
    found: dict[str, tuple[int, int, bytes]] = {}
    for path in [folder, *folder.rglob("*")]:
        status = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path)] = (status.st_uid, status.st_mode, content)
    return found


@pytest.mark.parametrize("option", ["run", "state"])
@pytest.mark.parametrize("name", ["lock", "actors", "house", "house.log", "log.sqlite", "agents", "shown", "last-fall"])
def test_a_house_never_opens_through_what_a_stranger_left(place: Path, option: str, name: str) -> None:
    precious = place / "precious"
    precious.write_text("mine\n")
    left = place / option
    left.mkdir()
    left.chmod(0o777)
    stranger(f"os.symlink({str(precious)!r}, {str(left / name)!r})")
    left.chmod(0o700)
    house = RealHouse(place)
    before = look(left)

    done = house.run("up", "-c", str(house.config))

    assert 1 == done.returncode
    assert f"{left / name} belongs to uid {STRANGER}; remove {left / name}" in done.stderr
    assert "mine\n" == precious.read_text()
    assert before == look(left)


@pytest.mark.parametrize("option", ["run", "state"])
@pytest.mark.parametrize("below", ["", "/below"])
def test_a_house_never_opens_in_a_strangers_folder(place: Path, option: str, below: str) -> None:
    precious = place / "precious"
    precious.write_text("mine\n")
    alien = place / "shared" / "alien"
    stranger(f"os.mkdir({str(alien)!r}); os.symlink({str(precious)!r}, {str(alien / 'lock')!r})")
    house = RealHouse(place)
    setattr(house, "runtime_dir" if option == "run" else "state_dir", f"{alien}{below}")
    before = look(alien)

    for verb_ in (["up"], ["up", "-d"], ["prompt", "rehearsal", "hello"]):
        done = house.run(*verb_, "-c", str(house.config))

        assert 1 == done.returncode
        assert f"belongs to uid {STRANGER}, mode 0777" in done.stderr
        assert f"choose another with --{'runtime' if option == 'run' else 'state'}-dir" in done.stderr
    assert "mine\n" == precious.read_text()
    assert before == look(alien)
    told = house.run("doctor").stdout
    assert f"uid {STRANGER}, mode 0777" in told
    assert not house.left()


@pytest.mark.parametrize("owner", [STRANGER, 0], ids=["a stranger's", "ours and open"])
def test_a_configuration_that_a_stranger_could_have_written_is_not_run(place: Path, owner: int) -> None:
    house = RealHouse(place)
    ran, config = place / "ran", place / "shared" / "understudy.toml"
    config.write_text(PROGRAM.format(json.dumps(["/bin/sh", "-c", f"touch {ran}; sleep 1000"])))
    config.chmod(0o666)
    os.chown(config, owner, owner)
    environ = {**os.environ, "HOME": str(place)}

    for arguments in (
        ["up"],
        ["up", "-d"],
        ["up", "--check"],
        ["prompt", "web", "hello"],
        ["chaos", "--for", "1s", "-c", str(config)],
    ):
        command = house.command(*arguments) if arguments[0] != "chaos" else house.command(*arguments)[:-4]
        done = subprocess.run(command, cwd=config.parent, env=environ, capture_output=True, text=True, timeout=60)
        assert 0 != done.returncode
        assert f"{config} belongs to {'uid 4242' if owner else 'root (uid 0)'}, mode 0666" in done.stderr
        assert "choose another with -c" in done.stderr
    doctor = subprocess.run(house.command("doctor"), cwd=config.parent, env=environ, capture_output=True, text=True)
    assert f"WRONG  configuration: {config}: is not read: " in doctor.stdout
    with Editor(house.command("acp", "-c", str(config))) as editor:
        editor.ask("initialize", protocolVersion=1, clientCapabilities=EVERYTHING)
        assert "mode 0666" in editor.error("session/new", cwd="/tmp", mcpServers=[])["message"]
    assert not ran.exists()
    assert not house.left()


def test_a_reload_does_not_take_what_a_stranger_could_have_written(place: Path) -> None:
    house = RealHouse(place)
    ran = place / "ran"
    house.start()
    try:
        pid = house.pid()
        house.config.write_text(PROGRAM.format(json.dumps(["/bin/sh", "-c", f"touch {ran}; sleep 1000"])))
        house.config.chmod(0o666)

        done = house.run("reload")

        assert 2 == done.returncode
        assert f"{house.config} belongs to root (uid 0), mode 0666: others may write it" in done.stderr
        assert pid == house.pid()
        assert not ran.exists()
    finally:
        house.stop()


PLAY = """
from understudy.actors.actor import Actor


class Notes(Actor):
    async def play(self, turn):
        open({ran!r}, "w")
"""


def test_a_class_in_a_folder_where_strangers_can_write_is_not_run(place: Path) -> None:
    house = RealHouse(
        place, '[agent.notes]\ndriver = "python"\nplay = "my_agents:Notes"\nrestart = { intensity = 0 }\n'
    )
    ran, shared = place / "ran", place / "shared"
    (shared / "my_agents.py").write_text(PLAY.format(ran=str(ran)) + f"open({str(ran)!r}, 'w')\n")
    os.chown(shared / "my_agents.py", STRANGER, STRANGER)
    try:
        subprocess.run(house.command("up", "-d", "-c", str(house.config)), cwd=shared, check=True, timeout=60)

        wait_until(lambda: house.rows()[0]["state"] == "FATAL", "the agent to be given up")

        assert f"({shared} was left out: others can write there)" in house.rows()[0]["why"]
        assert not ran.exists()
    finally:
        house.run("shutdown")
        wait_until(lambda: not house.left(), "nothing to be left")


def anybody_may() -> None:
    os.umask(0)


LOOK = """
said = []
for path in json.loads(PATHS):
    try:
        s = socket.socket(socket.AF_UNIX)
        s.connect(path)
        said.append(["spoke", path])
    except OSError:
        pass
    for how in (os.listdir, lambda p: os.open(p, os.O_RDONLY), lambda p: os.open(p, os.O_WRONLY), os.unlink):
        try:
            how(path)
            said.append(["reached", path])
        except OSError:
            pass
"""


@pytest.mark.parametrize("state_mode", [None, 0o755], ids=["made", "there before"])
def test_a_stranger_reaches_nothing_of_a_house_whatever_the_umask(place: Path, state_mode: int | None) -> None:
    said = json.dumps(["/bin/sh", "-c", "echo secret; sleep 1000"])
    house = RealHouse(place, PROGRAM.format(said))
    if state_mode is not None:
        Path(house.state_dir).mkdir()
        Path(house.state_dir).chmod(state_mode)
    house.start(anybody_may)
    try:
        house.pid("web")
        assert 0 == house.run("prompt", "rehearsal", "my secret").returncode
        log = Path(house.state_dir, "agents", "web.log")
        wait_until(log.exists, "the log of the program")
        paths = [each for top in (house.runtime_dir, house.state_dir) for each in (Path(top), *Path(top).rglob("*"))]

        reached = stranger(f"PATHS = {json.dumps(list(map(str, paths)))!r}\n{LOOK}")

        listed = {("reached", house.state_dir)} if state_mode else set()  # Names, and nothing of what is below.
        assert listed == set(map(tuple, reached))
        assert {0} == {path.stat().st_mode & 0o077 for path in paths if str(path) != house.state_dir}
        assert Path(gateway_path(house.runtime_dir)) in paths
        assert log in paths
    finally:
        house.stop()


def test_what_is_in_the_background_keeps_its_words_to_itself(place: Path) -> None:
    house = RealHouse(place)
    command = ["sh", "-c", 'umask 0; exec "$@"', "sh", *house.command("up", "-d", "-c", str(house.config))]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=60)

        assert 0o600 == Path(house.state_dir, "house.log").stat().st_mode & 0o777
        assert 0o700 == Path(house.state_dir).stat().st_mode & 0o777
    finally:
        house.run("shutdown")
        wait_until(lambda: not house.left(), "nothing to be left")
