"""The structure as it is: who imports whom, read from the package as it is installed.

A room is a folder of files, or a file that lies beside folders. `python -m tests.structure` prints the picture of their
floors that stands in docs/architecture.md: whatever a room imports is below it.
"""

import ast
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = "understudy"
COLUMNS = ("supervisor", "actors", "protocol")
Graph = dict[str, set[str]]


@cache
def modules() -> dict[str, Path]:
    """Return each module of the installed package and its file; a package stands for its `__init__`."""
    found: dict[str, Path] = {}
    for package in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]:
        spec = find_spec(package)
        assert spec is not None, f"{package} is not installed"
        for folder in spec.submodule_search_locations or []:
            for path in sorted(Path(folder).glob("*.py")):
                found[package if path.stem == "__init__" else f"{package}.{path.stem}"] = path
    return found


@cache
def imports() -> Graph:
    """Return what each module imports of the others, wherever in its text it does so."""
    return {name: {each for each in _imported(path) if each != name} for name, path in modules().items()}


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (each.name for each in names if each.name in modules())
            case ast.ImportFrom(module=str(module), names=names) if module in modules():
                for each in names:
                    whole = f"{module}.{each.name}"
                    if whole in modules():
                        yield whole
                    elif module != PACKAGE:  # Whose version is everybody's: each import begins with it anyway.
                        yield module
            case ast.JoinedStr(values=[ast.Constant(value=str(begin)), *_]):  # The name of a driver, say.
                yield from (each for each in modules() if f"{each}." == begin)
            case _:
                pass


def room(module: str) -> str:
    """Return the room that a module lies in, without the package's name."""
    folder = module if module == PACKAGE or _is_folder(module) else module.rpartition(".")[0]
    below = [each for each in modules() if each.startswith(f"{folder}.") and _is_folder(each)]
    return (module if below else folder).removeprefix(f"{PACKAGE}.")


def _is_folder(module: str) -> bool:
    return modules()[module].stem == "__init__"


@cache
def rooms() -> Graph:
    """Return what each room imports of the others."""
    found: Graph = {}
    for module, imported in imports().items():
        found.setdefault(room(module), set()).update({room(each) for each in imported} - {room(module)})
    return {each: below for each, below in found.items() if below or any(each in other for other in found.values())}


def floors(graph: Graph) -> list[list[str]]:
    """Return who stands on which floor, from the top, each right below the lowest that imports it.

    Raises `graphlib.CycleError`, which names the circle.
    """
    importers: Graph = {each: set() for each in graph}
    for each, imported in graph.items():
        for below in imported:
            importers[below].add(each)
    sorter, found = TopologicalSorter(importers), []
    sorter.prepare()
    while sorter.is_active():
        ready = sorter.get_ready()
        sorter.done(*ready)
        found.append(sorted(ready))
    return found


def picture() -> str:
    """Draw the floors, a column for each folder at the top."""
    rows = [["", *(f"{name}/" for name in COLUMNS)]]
    for floor in floors(rooms()):
        cells = [" ".join(_shown(each, column) for each in floor if _column(each) == column) for column in COLUMNS]
        rows.append([" ".join(_shown(each, "") for each in floor if _column(each) == ""), *cells])
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _column(name: str) -> str:
    first = name.partition(".")[0]
    return first if first in COLUMNS else ""


def _shown(name: str, column: str) -> str:
    """Return a room's name within its column; folders end in a slash."""
    return name.removeprefix(f"{column}.") + "/" * (
        f"{PACKAGE}.{name}" in modules() and _is_folder(f"{PACKAGE}.{name}")
    )


if __name__ == "__main__":
    sys.stdout.write(f"{picture()}\n")
