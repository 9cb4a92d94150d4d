"""What differs between two folders of results of the same cells."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.check.folders import differences
from benchmarks.record import Finished

NAME = "ioi-acdc-0.1-0"
RECORD = f"cells/{NAME}.json"


@pytest.fixture
def folders(tmp_path: Path, add_cell: Callable[..., Finished]) -> tuple[Path, Path]:
    """The same results twice."""
    add_cell("eap", {}, [20, 10], [0.1, 0.2])
    add_cell("acdc", {"threshold": 0.1}, [15], [0.9], kind="circuit")
    return tmp_path / "results", Path(shutil.copytree(tmp_path / "results", tmp_path / "other"))


def edit(folder: Path, key: str, value: object) -> None:
    path = folder / RECORD
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))


def test_time_memory_and_environment_are_no_difference(folders: tuple[Path, Path]) -> None:
    expected, found = folders
    edit(found, "seconds", 99.0)
    edit(found, "peak_bytes", 99)
    assert not differences(found, expected)


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (lambda folder: edit(folder, "flops", 1), f"{RECORD}: flops is 1; expected 1000"),
        (lambda folder: edit(folder, "flops", -1), f"damaged: {{folder}}/{RECORD} is no record"),
        (lambda folder: (folder / RECORD).unlink(), f"{RECORD} is missing"),
        (lambda folder: (folder / "cells" / "a.json.host.1.tmp").touch(), "left behind: cells/a"),
        (lambda folder: (folder / "claims" / "a.lock").touch(), "left behind: claims/a.lock"),
        (lambda folder: (folder / "checkpoints" / "a").touch(), "left behind: checkpoints/a"),
        (lambda folder: (folder / "matched" / "a.json").write_text("{}"), "damaged: "),
        (lambda folder: (folder / "crossed" / "a").touch(), "crossed/a is one too many"),
        (lambda folder: (folder / f"cells/{NAME}.safetensors").write_text("a"), "damaged: "),
    ],
)
def test_a_planted_difference_is_named(
    plant: Callable[[Path], object], said: str, folders: tuple[Path, Path]
) -> None:
    expected, found = folders
    plant(found)
    assert differences(found, expected)[0].startswith(said.format(folder=found))
