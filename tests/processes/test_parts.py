"""Frames in parts, put together: what they cost while they are unfinished, and that it is given back."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from understudy.protocol.frames import BODY_BYTES_MAX, FrameError, FromClient, Part, Prompt
from understudy.protocol.messages import encode
from understudy.supervisor.shell import parts
from understudy.supervisor.shell.parts import Parts

A, B, C = b"a", b"b", b"c"
MIB = 1 << 20


def cut(size: int) -> list[Part]:
    """Return the parts of a prompt with so many bytes."""
    decode = msgspec.msgpack.Decoder(list[Part]).decode
    return [decode(message)[0] for message in encode([Prompt("r", "s", b"x" * size)])]


@pytest.fixture
def unfinished(tmp_path: Path) -> Iterator[Parts]:
    made = Parts(FromClient, str(tmp_path))
    yield made
    made.close()


def costs(unfinished: Parts) -> tuple[int, int, int, int]:
    return len(unfinished), unfinished.memory_bytes, unfinished.file_bytes, unfinished.files


@pytest.mark.parametrize("size", [600_000, 5 * MIB], ids=["in memory", "in a file"])
def test_a_frame_in_parts_is_put_together_and_costs_nothing_any_more(unfinished: Parts, size: int) -> None:
    frames = [unfinished.add(A, part, 0.0) for part in cut(size)]

    assert Prompt("r", "s", b"x" * size) == frames[-1]
    assert not any(frames[:-1])
    assert (0, 0, 0, 0) == costs(unfinished)


def test_frames_of_many_peers_are_put_together_side_by_side(unfinished: Parts) -> None:
    pieces = cut(3 * MIB)
    peers = [f"{at}".encode() for at in range(50)]
    frames = [unfinished.add(peer, part, 0.0) for part in pieces for peer in peers]

    assert 50 == sum(frame == Prompt("r", "s", b"x" * 3 * MIB) for frame in frames)
    assert (0, 0, 0, 0) == costs(unfinished)


def test_what_is_unfinished_lies_on_the_disk_beyond_the_first_of_it(unfinished: Parts, tmp_path: Path) -> None:
    for at in range(40):
        for part in cut(2 * MIB)[:-1]:
            unfinished.add(f"{at}".encode(), part, 0.0)

    assert unfinished.memory_bytes <= parts.MEMORY_BYTES_MAX
    assert [] == list(tmp_path.iterdir())  # The files have no names: whoever dies leaves none.
    assert 40 == len(unfinished)
    unfinished.close()
    assert (0, 0, 0, 0) == costs(unfinished)


def test_whoever_stood_still_the_longest_gives_way(unfinished: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "UNFINISHED_BYTES_MAX", 6 * MIB)
    pieces = cut(4 * MIB)
    for now, peer in enumerate((A, B, A)):
        for part in pieces[24 * (peer == A and now == 2) :][:24]:
            unfinished.add(peer, part, float(now))
    assert unfinished.excess() is None
    for part in pieces[:40]:
        unfinished.add(C, part, 3.0)

    assert B == unfinished.excess()
    unfinished.drop(B)
    assert unfinished.excess() is None


def test_a_frame_that_nobody_goes_on_with_is_named(unfinished: Parts) -> None:
    unfinished.add(A, cut(MIB)[0], 0.0)
    unfinished.add(B, cut(MIB)[0], 30.0)

    assert [] == unfinished.still(60.0)
    assert [A] == unfinished.still(61.0)


def test_a_frame_that_is_too_large_costs_nothing_any_more(unfinished: Parts) -> None:
    for _ in range(BODY_BYTES_MAX // 500_000):
        unfinished.add(A, Part(last=False, piece=b"x" * 500_000), 0.0)
    with pytest.raises(FrameError, match="more than"):
        unfinished.add(A, Part(last=False, piece=b"x" * 500_000), 0.0)

    assert (0, 0, 0, 0) == costs(unfinished)


def test_a_disk_without_room_is_told_and_nothing_is_kept(tmp_path: Path) -> None:
    unfinished = Parts(FromClient, str(tmp_path / "not there"))
    *inside, third = cut(4 * MIB)[:17]
    for part in inside:
        unfinished.add(A, part, 0.0)
    with pytest.raises(FileNotFoundError):
        unfinished.add(A, third, 0.0)

    assert (0, 0, 0, 0) == costs(unfinished)
