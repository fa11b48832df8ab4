"""Brings the planted bugs of `tests/bugs/` in step with code that has moved.

`python -m tests.rebug` finds each patch's lines wherever they are now, by as much of their context as still stands there,
writes the patch anew, and looks for a seed with which the simulator finds the bug. It names those that need a hand.
`python -m tests.rebug NAME …` does so for these only.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.simulator.test_sim import BUGS, ROOT, run

FOLDERS = ("protocol", "actors", "supervisor")
SEEDS_MAX = 4_000
HUNK = re.compile(r"^@@ .*\n((?:[ +-].*\n|\n)+)", re.MULTILINE)


def hunks(patch: str) -> list[tuple[list[str], list[str]]]:
    """Return the lines before and after, for each hunk."""
    found = []
    for text in HUNK.findall(patch):
        lines = [line or " " for line in text.splitlines()]
        old = [line[1:] for line in lines if line[0] != "+"]
        new = [line[1:] for line in lines if line[0] != "-"]
        found.append((old, new))
    return found


def moved(old: list[str], new: list[str], root: Path) -> bool:
    """Make the change where the lines stand now, with as much of their context as they have; False when they are gone."""
    same_before = next((at for at, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), len(old))
    same_after = next(
        (at for at, pair in enumerate(zip(old[::-1], new[::-1], strict=False)) if pair[0] != pair[1]), len(old)
    )
    for dropped in range(same_before + same_after):
        before = min(dropped, same_before)
        tries = [(top, dropped - top) for top in range(before + 1) if dropped - top <= same_after]
        for top, bottom in tries:
            was, becomes = old[top : len(old) - bottom], new[top : len(new) - bottom]
            if any(line.strip() for line in was) and _changed(was, becomes, root):
                return True
    return False


def _changed(was: list[str], becomes: list[str], root: Path) -> bool:
    """Change the one place that reads `was`, at whatever depth it is indented."""
    for indent in (0, -4, 4):
        block, put = _indented(was, indent), _indented(becomes, indent)
        if block is None or put is None:
            continue
        places = [
            path
            for folder in FOLDERS
            for path in (root / folder).rglob("*.py")
            if ("\n" + path.read_text()).count("\n" + block) == 1
        ]
        if len(places) == 1:
            text = "\n" + places[0].read_text()
            places[0].write_text(text.replace("\n" + block, "\n" + put)[1:])
            return True
    return False


def _indented(lines: list[str], by: int) -> str | None:
    if by < 0 and any(line.strip() and not line.startswith(" " * -by) for line in lines):
        return None
    made = [line[-by:] if by < 0 else " " * by + line if line.strip() else line for line in lines]
    return "".join(f"{line}\n" for line in made)


def rebug(bug: Path) -> str:
    """Write one patch anew; return what is wrong with it, "" when nothing is."""
    head = bug.read_text().partition("diff --git")[0]
    sentence = head.partition("\n")[0]
    seed = re.search(r"^Seed: (\d+)$", head, re.MULTILINE)
    with tempfile.TemporaryDirectory(prefix="rebug-") as folder:
        root = Path(folder)
        for name in ("src", *FOLDERS, "tests"):
            shutil.copytree(ROOT / name, root / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run("git init -q . && git add -A", shell=True, cwd=root, check=True)
        if not all(moved(old, new, root) for old, new in hunks(bug.read_text())):
            return "its lines are gone"
        diff = subprocess.run(["git", "diff"], cwd=root, capture_output=True, text=True, check=True).stdout
        found = run(root, seed[1]).stdout if seed else ""
        if "play it again" not in found:
            found = run(root, "0", str(SEEDS_MAX)).stdout
        which = re.search(r"^seed (\d+):", found, re.MULTILINE)
        if which is None:
            bug.write_text(f"{sentence}\nSeed: 0\n\n{diff}")
            return f"no seed below {SEEDS_MAX} finds it"
        bug.write_text(f"{sentence}\nSeed: {which[1]}\n\n{diff}")
        if "play it again" in run(ROOT, which[1]).stdout:
            return f"seed {which[1]} breaks a promise without it, too"
    return ""


def main() -> int:
    """Go through the patches; return how many need a hand."""
    wanted = sys.argv[1:]
    need = 0
    for bug in [each for each in BUGS if not wanted or each.stem in wanted]:
        wrong = rebug(bug)
        need += bool(wrong)
        sys.stdout.write(f"{bug.stem}: {wrong or 'found'}\n")
        sys.stdout.flush()
    return need


if __name__ == "__main__":
    sys.exit(main())
