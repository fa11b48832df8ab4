"""Whose a file or folder is, and who else can change it."""

import grp
import os
import pwd
import socket
import struct
from itertools import starmap
from pathlib import Path
from types import SimpleNamespace

import pytest

from understudy.protocol import owners
from understudy.protocol.owners import (
    OwnerError,
    is_ours_to_change,
    make_folder,
    open_ours,
    see_file,
    see_folder,
    see_socket,
    see_way,
)

STRANGER = 4242
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def refused(path: Path, option: str = "--state-dir") -> str:
    with pytest.raises(OwnerError) as caught:
        see_way(str(path), option)
    return f"{caught.value.found}; {caught.value.remedy}"


def test_a_way_through_folders_and_links_of_ours_is_returned_without_them(tmp_path: Path) -> None:
    (tmp_path / "real" / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "far").symlink_to(tmp_path / "link" / "below")

    assert f"{tmp_path}/real/below/none/yet" == see_way(f"{tmp_path}/far/../below/./none/yet", "-c")


def test_a_folder_on_the_way_in_which_others_may_rename_is_refused_and_a_sticky_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "open" / "mine").mkdir(parents=True)
    (tmp_path / "open").chmod(0o777)

    assert f"mode 0777: others may rename what is in it; chmod go-w {tmp_path}/open, or choose another" in refused(
        tmp_path / "open" / "mine"
    )
    (tmp_path / "open").chmod(0o1777)
    see_way(str(tmp_path / "open" / "mine"), "")


@root
def test_a_strangers_link_in_a_sticky_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o1777)
    (tmp_path / "shared" / "link").symlink_to(tmp_path)
    os.chown(tmp_path / "shared" / "link", STRANGER, STRANGER, follow_symlinks=False)

    assert f"shared/link is a symbolic link of uid {STRANGER}" in refused(tmp_path / "shared" / "link" / "mine")


def test_links_that_never_end_are_refused(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")

    assert "is a symbolic link" in refused(tmp_path / "one")


@root
def test_a_strangers_folder_on_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs" / "mine").mkdir(parents=True)
    os.chown(tmp_path / "theirs", STRANGER, STRANGER)

    assert f"{tmp_path}/theirs, on the way to {tmp_path}/theirs/mine, belongs to uid {STRANGER}" in refused(
        tmp_path / "theirs" / "mine"
    )


@root
def test_a_sandbox_shows_root_as_nobody_and_a_folder_of_nobodys_on_the_way_is_let_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "roots" / "mine").mkdir(parents=True)
    os.chown(tmp_path / "roots", 65534, 65534)
    assert "belongs to nobody (uid 65534)" in refused(tmp_path / "roots" / "mine")

    monkeypatch.setattr(owners, "_hidden_uid", lambda: 65534)

    see_way(str(tmp_path / "roots" / "mine"), "")
    with pytest.raises(OwnerError):
        see_folder(str(tmp_path / "roots"), "")


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701, 0o777, 0o1777])
def test_a_private_folder_that_others_may_look_into_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    folder.chmod(mode)

    remedy = "" if mode & 0o1000 else f"if only you use it: chmod 700 {folder}; or "
    with pytest.raises(
        OwnerError, match=f"mode {mode:04o}: others may look into it; {remedy}choose another with --runt"
    ):
        make_folder(str(folder), "--runtime-dir", private=True)

    assert mode == folder.stat().st_mode & 0o7777


def test_a_folder_that_others_may_read_may_hold_the_state(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)

    make_folder(str(tmp_path), "--state-dir")

    assert 0o755 == tmp_path.stat().st_mode & 0o7777


def test_what_is_made_is_private_whatever_the_umask_also_above(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_folder(str(tmp_path / "a" / "b" / "c"), "--state-dir")
    finally:
        os.umask(before)

    assert [0o700] * 3 == [(tmp_path / each).stat().st_mode & 0o777 for each in ("a", "a/b", "a/b/c")]


def see(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        see_file(descriptor, str(path), "-c")
    except OwnerError as error:
        return f"{error.found}; {error.remedy}"
    finally:
        os.close(descriptor)
    return ""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "understudy.toml"
    path.write_text("")
    return path


def test_a_file_that_everybody_may_write_is_refused(file: Path) -> None:
    file.chmod(0o606)

    assert f"mode 0606: others may write it; read it, then: chmod go-w {file}; or choose another with -c" in see(file)


NOBODY = 0xFFFFFFFF
ENTRY = struct.Struct("<HHI")  # Of a list of access: the tag, what is allowed, to whom.
USER = pwd.struct_passwd(("me", "x", os.geteuid(), 77, "", "/", "/bin/sh"))


@root
@pytest.mark.parametrize(
    ("name", "gid", "members", "fine"),
    [
        ("me", 77, [], True),  # As Debian and Fedora make users, with umask 002.
        ("me", 77, ["me"], True),
        ("me", 77, ["other"], False),
        ("staff", 77, [], False),
        ("me", 78, [], False),
    ],
)
def test_the_users_private_group_is_no_stranger_and_every_other_is(
    file: Path, monkeypatch: pytest.MonkeyPatch, name: str, gid: int, members: list[str], fine: bool
) -> None:
    file.chmod(0o664)
    os.chown(file, -1, gid)
    group = SimpleNamespace(gr_name=name, gr_gid=gid, gr_mem=members)
    monkeypatch.setattr(pwd, "getpwuid", lambda _: USER)
    monkeypatch.setattr(grp, "getgrgid", lambda _: group)

    assert fine == (see(file) == "")


def test_a_list_of_access_that_lets_others_write_is_no_private_group(file: Path) -> None:
    entries = [(1, 6, NOBODY), (2, 6, STRANGER), (4, 6, NOBODY), (16, 6, NOBODY), (32, 0, NOBODY)]
    try:
        os.setxattr(file, "system.posix_acl_access", struct.pack("<I", 2) + b"".join(starmap(ENTRY.pack, entries)))
    except OSError as error:
        pytest.skip(f"this file system has no lists of access ({error.strerror})")

    assert "others may write it" in see(file)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    assert "is no file" in see(tmp_path / "pipe")
    with pytest.raises(OwnerError, match="is no file of yours"):
        os.close(open_ours(str(tmp_path / "pipe"), os.O_RDWR))


def test_a_file_of_ours_is_opened_through_no_link_and_cut_only_when_it_is_ours(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "link").symlink_to(precious)

    with pytest.raises(OwnerError, match=f"{tmp_path}/link is a symbolic link; remove"):
        os.close(open_ours(str(tmp_path / "link"), os.O_WRONLY | os.O_TRUNC))
    assert "mine" == precious.read_text()
    with open(tmp_path / "made", "w", opener=open_ours) as made:
        made.write("long")
    with open(tmp_path / "made", "w", opener=open_ours) as made:
        made.write("new")
    assert "new" == (tmp_path / "made").read_text()
    assert 0o600 == (tmp_path / "made").stat().st_mode & 0o777


@root
def test_a_strangers_file_is_not_cut(file: Path) -> None:
    file.write_text("theirs")
    os.chown(file, STRANGER, STRANGER)

    with pytest.raises(OwnerError, match=f"is no file of yours: it belongs to uid {STRANGER}"):
        os.close(open_ours(str(file), os.O_WRONLY | os.O_TRUNC))

    assert "theirs" == file.read_text()


def test_a_socket_of_ours_in_a_private_folder_may_be_spoken_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    see_socket("none/gateway.sock")
    see_socket("gateway.sock")
    with socket.socket(socket.AF_UNIX) as there:
        there.bind("gateway.sock")
        see_socket("gateway.sock")
        see_socket(str(tmp_path / "gateway.sock"))
    (tmp_path / "gateway.sock").unlink()
    (tmp_path / "gateway.sock").write_text("")

    with pytest.raises(OwnerError, match="is no socket of yours"):
        see_socket(str(tmp_path / "gateway.sock"))


@pytest.mark.parametrize(("mode", "ours"), [(0o700, True), (0o755, True), (0o777, False), (0o1777, False)])
def test_a_folder_into_which_others_can_put_files_is_not_ours_to_change(tmp_path: Path, mode: int, ours: bool) -> None:
    tmp_path.chmod(mode)

    assert ours == is_ours_to_change(str(tmp_path))
    assert not is_ours_to_change(str(tmp_path / "none"))
