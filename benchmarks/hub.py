"""Whether the models on the hub that a command names can be had, said before anything takes long.

Without a network, a library would try for half a minute. Nothing here imports torch.
"""

import os
import socket
import tomllib
from collections.abc import Collection, Iterable
from pathlib import Path
from threading import Thread
from typing import Any, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies

from benchmarks.catalogue import models, owns_model
from benchmarks.names import SUITES

SECONDS = 1.0
"""How long the hub has to answer."""
_ENDPOINT = "https://huggingface.co"
_OFFLINE = "HF_HUB_OFFLINE"
MADE = {"models/smollm2": "python -m tasks.models.smollm"}
"""Folders of models that a script here makes, and the command that runs the script."""


def named_in(suite: str, key: Literal["model", "tasks"]) -> list[str]:
    """The models or the tasks that a suite's file names. A file that is no suite names none."""
    own = SUITES / f"{suite}.toml"
    try:
        table = tomllib.loads((own if own.is_file() else Path(suite)).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []  # whoever reads it next says what is wrong
    entries = table.get("method")
    tables = [table, *(entries if isinstance(entries, list) else ())]
    named = [one.get(key) for one in tables if isinstance(one, dict)]
    return [name for names in named for name in _listed(names) if isinstance(name, str)]


def check_models(ids: Iterable[str], tasks: Collection[str]) -> None:
    """Raises ValueError for a model of the hub that is neither on disk nor to be downloaded.

    Nothing is raised where all tasks have a model of their own, so that no other is loaded. Where
    the hub cannot be reached, the libraries that load models are told so.
    """
    names = [name for name in dict.fromkeys(ids) if _is_on_hub(name)]
    if not names or (tasks and all(map(owns_model, tasks))):
        return
    for name in MADE.keys() & set(names):
        raise ValueError(
            f"model {name!r} is not on disk nor to be downloaded: {MADE[name]} makes it"
        )
    reason = f"{_OFFLINE} is set"
    if os.environ.get(_OFFLINE, "").upper() not in ("1", "ON", "YES", "TRUE"):
        endpoint = os.environ.get("HF_ENDPOINT", _ENDPOINT)
        if _can_be_reached(endpoint):
            return
        os.environ[_OFFLINE] = "1"  # before huggingface_hub is imported, which reads it once
        reason = f"{endpoint} cannot be reached"
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for name in names:
        try:
            found = try_to_load_from_cache(name, "config.json")
        except HFValidationError as error:
            raise ValueError(f"model {name!r}: {error}") from None
        if not isinstance(found, str):
            raise ValueError(f"model {name!r} is not on disk nor to be downloaded: {reason}")


def _is_on_hub(name: str) -> bool:
    """Whether it is neither ours nor a folder, by its name."""
    if name in ("", *models()) or name[0] in ".~":
        return False
    path = Path(name)
    return not path.is_absolute() and len(path.parts) <= 2 and not path.exists()


def _can_be_reached(url: str) -> bool:
    """Whether its host takes a connection; through a proxy, it is taken to."""
    if getproxies().keys() & {"https", "http", "all"}:
        return True
    parts = urlsplit(url)
    address = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
    reached: list[bool] = []

    def reach() -> None:  # in a thread, as looking up a name takes as long as it likes
        try:
            socket.create_connection(address, timeout=SECONDS).close()
        except OSError:
            return
        reached.append(True)

    thread = Thread(target=reach, daemon=True)
    thread.start()
    thread.join(SECONDS)
    return bool(reached)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
