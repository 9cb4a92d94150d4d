"""Files that are written whole or not at all, and the paths that users give."""

import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a file in a temporary folder beside it, force it to disk, then rename it.

    Its permissions follow the umask, whatever `write` sets. A library that writes may keep files of
    its own beside the one it fills: they stay in the temporary folder.
    """
    folder = path.with_name(f"{path.name}.{_machine()}.{os.getpid()}.tmp")
    folder.mkdir(exist_ok=True)
    temporary = folder / path.name
    temporary.touch()
    mode = temporary.stat().st_mode
    write(temporary)
    temporary.chmod(mode)
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
    shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Delete temporary folders and files of processes of this machine that no longer run.

    Others belong to a run that is going on, perhaps on another machine that shares the folder.
    """
    import psutil

    for path in folder.glob(f"*.{_machine()}.*.tmp"):
        process = path.suffixes[-2].removeprefix(".")
        if not (process.isdigit() and psutil.pid_exists(int(process))):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:  # an earlier version had no folders
                path.unlink(missing_ok=True)


def expanded(path: str) -> Path:
    """A path with `~` and `~user` in full. Raises ValueError for a user who is not known."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ValueError(f"path {path!r}: no such user's home folder") from None


def _machine() -> str:
    """This machine's name, short and without dots."""
    return platform.node().partition(".")[0][:32] or "here"
