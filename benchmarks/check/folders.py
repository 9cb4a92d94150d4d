"""Two folders of results of the same cells: what differs that should be the same in every run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.store import Store

_VARYING = ("seconds", "peak_bytes", "peak_memory_source", "environment")


def steady(folder: Path) -> dict[str, dict[str, Any]]:
    """All finished records without what differs from run to run."""
    return {
        record.name: {key: value for key, value in record.as_json().items() if key not in _VARYING}
        for record in Store(folder).finished()
    }


def differences(folder: Path, expected: Path) -> list[str]:
    """What a finished folder has that the expected one has not, and the other way round.

    Records of finished cells are compared without time, memory and environment, all other files
    byte by byte. Of other cells only the presence of a record is compared.
    What an unfinished run leaves behind is a difference, too.
    """
    return [
        *(f"damaged: {damaged.problem}" for damaged in Store(folder).damaged()),
        *(f"left behind: {path.relative_to(folder)}" for path in _leftovers(folder)),
        *_other_files(folder, expected),
        *_other_records(steady(folder), steady(expected)),
    ]


def _leftovers(folder: Path) -> list[Path]:
    store = Store(folder)
    return sorted({*folder.rglob("*.tmp"), *store.checkpoints.iterdir(), *store.claims.iterdir()})


def _other_files(folder: Path, expected: Path) -> Iterator[str]:
    found, wanted = _files(folder), _files(expected)
    for name in sorted(found.keys() | wanted.keys()):
        if name not in found or name not in wanted:
            yield f"{name} is {'one too many' if name in found else 'missing'}"
        elif not _is_record(name) and found[name].read_bytes() != wanted[name].read_bytes():
            yield f"{name} differs"


def _files(folder: Path) -> dict[str, Path]:
    """Results by their names within the folder."""
    store = Store(folder)
    folders = (store.cells, store.matched, store.searches, store.crossed)
    files = [path for kind in folders for path in kind.iterdir() if path.suffix != ".tmp"]
    return {path.relative_to(folder).as_posix(): path for path in files}


def _is_record(name: str) -> bool:
    return name.startswith("cells/") and name.endswith(".json")


def _other_records(
    found: dict[str, dict[str, Any]], wanted: dict[str, dict[str, Any]]
) -> Iterator[str]:
    for name in sorted(found.keys() & wanted.keys()):
        one, other = found[name], wanted[name]
        for key in sorted(one.keys() | other.keys()):
            if one.get(key) != other.get(key):
                yield f"cells/{name}.json: {key} is {one.get(key)}; expected {other.get(key)}"
    for name in sorted(found.keys() ^ wanted.keys()):
        yield f"cells/{name}.json: {'not expected' if name in found else 'no result'}"
