"""Keeps a log that a commit's version writes: `python -m tests.compat.make COMMIT`, at each change of what is written.

Checks the commit out, plays a short house of it (`play.py`), kills everything, and packs the log, the marks of what
agents had been shown, and what a client had seen into `tests/compat/schema-N-COMMIT.tar.xz`.
"""

import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path

HERE = Path(__file__).parent
BYTES_MAX = 200_000


def git(*arguments: str) -> bytes:
    """Return what a git command prints."""
    return subprocess.run(["git", *arguments], cwd=HERE.parent.parent, check=True, capture_output=True).stdout


def make(commit: str) -> Path:
    """Play the commit's house; return the file that was made."""
    short = git("rev-parse", "--short=7", commit).decode().strip()
    with tempfile.TemporaryDirectory(prefix="compat-") as made:
        folder = Path(made)
        (folder / "archive.tar").write_bytes(git("archive", commit))
        with tarfile.open(folder / "archive.tar") as archive:
            archive.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)  # Python 3.11.4 has it.
            archive.extractall(folder / "code")
        code = str(folder / "code" / "src")
        environ = {**os.environ, "PYTHONPATH": code, "PYTHONSAFEPATH": "1"}
        where = [sys.executable, "-c", "import understudy.supervisor as s; print(s.__path__[0])"]
        found = subprocess.run(where, env=environ, cwd="/", check=True, capture_output=True, text=True).stdout
        assert found.startswith(code), f"{found.strip()} would be played, not {commit}"
        subprocess.run([sys.executable, HERE / "play.py", folder], env=environ, cwd="/", check=True)
        # A copy is opened: to open it would tidy up what the kill left.
        shutil.copytree(folder / "state", folder / "copy")
        with closing(sqlite3.connect(folder / "copy" / "log.sqlite")) as log:
            version = log.execute("PRAGMA user_version").fetchone()[0]
        return pack(folder, HERE / f"schema-{version}-{short}.tar.xz")


def pack(folder: Path, path: Path) -> Path:
    """Put what is to be kept of a killed house into the file `path`."""
    kept = [folder / "expected.json", *(folder / "state").glob("log.*"), *(folder / "state" / "shown").glob("*")]
    with tarfile.open(path, "w:xz") as archive:
        for each in sorted(kept):
            if each.suffix != ".sqlite-shm":
                archive.add(each, each.relative_to(folder))
    size = path.stat().st_size
    assert size < BYTES_MAX, f"{path} has {size} bytes, at most {BYTES_MAX} are kept in the repository"
    return path


if __name__ == "__main__":
    for made in map(make, sys.argv[1:] or ["HEAD"]):
        print(f"{made}: {made.stat().st_size} bytes")
