"""Files are written whole or not at all, and what killed processes left is cleared."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from edgewise import files
from edgewise.files import remove_leftovers, write_atomically


def test_an_atomic_write_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for text in ("old", "new"):
        write_atomically(path, lambda temporary, text=text: temporary.write_text(text))
        assert path.read_text() == text
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def interrupted(path: Path) -> None:
    """Leave temporary files behind, as a process that is killed does."""

    def write(temporary: Path) -> None:
        temporary.write_text("half")
        (temporary.parent / ".a-library's-own").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, write)


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    interrupted(path)
    assert path.read_text() == "old"


def test_leftovers_are_cleared_but_those_of_live_processes_and_of_other_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    interrupted(tmp_path / "live.json")
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: dead.pid)
        interrupted(tmp_path / "dead.json")
        (tmp_path / f"earlier.json.{files._machine()}.{dead.pid}.tmp").touch()
        patch.setattr(platform, "node", lambda: "another.machine")
        interrupted(tmp_path / "elsewhere.json")
    remove_leftovers(tmp_path)
    left = {path.name.partition(".")[0] for path in tmp_path.iterdir()}
    assert left == {"live", "elsewhere"}
