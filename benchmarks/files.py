"""Single files of a results folder: records, tensors beside them, and their checksums."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from jaxtyping import Float, Shaped
from pydantic import BaseModel, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.checking import problems
from benchmarks.record import Checksums, Damaged, Result
from edgewise.files import write_atomically

SCHEMA = 3
"""The version of the files' format."""
FOUND, PROMPTS = "safetensors", "prompts.safetensors"
"""What the names of the files beside a record end in."""
IDS = "prompts"
"""Where the header of a file of values has the prompts' hashes."""
_MOST_PROBLEMS = 5
"""How many problems of a file an error names."""

T = TypeVar("T")


class DamagedError(ValueError):
    """A file that is not what was written."""


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_files(path: Path, files: Checksums) -> None:
    """Compare the files beside a record with their checksums.

    Raises DamagedError for one that is missing or differs.
    """
    for ending, expected in files.items():
        if ending not in (FOUND, PROMPTS):
            raise DamagedError(f"{path} names a file {ending!r}; expected {FOUND} or {PROMPTS}")
        file = path.with_suffix(f".{ending}")
        if not file.is_file():
            raise DamagedError(f"{file} is missing")
        if checksum(file) != expected:
            raise DamagedError(f"{file} is not the file that was written: its checksum differs")


def check_prompts(path: Path, record: object) -> None:
    """Compare the values per prompt beside a record, if there are any, with its rows.

    Raises DamagedError for another metric or number of rows, where there is no prompt, and for
    hashes of another number of prompts.
    """
    file = path.with_suffix(f".{PROMPTS}")
    if not file.is_file() or not isinstance(record, Result):
        return
    expected = {record.primary_metric: len(record.rows)}
    try:
        with safe_open(file, framework="pt") as tensors:
            shapes = [(name, tensors.get_slice(name).get_shape()) for name in tensors.keys()]  # noqa: SIM118
            ids = _ids(tensors.metadata())
    except SafetensorError as error:
        raise DamagedError(f"{file} is not a safetensors file: {error}") from None
    found = {name: shape[0] if len(shape) == 2 and shape[1] else 0 for name, shape in shapes}
    if found != expected:
        raise DamagedError(f"{file} has rows of {found}; expected {expected}, as in the record")
    n_prompts = shapes[0][1][1]
    if ids is not None and len(ids) != n_prompts:
        raise DamagedError(f"{file} has hashes of {len(ids)} prompts; expected {n_prompts}")


def records_in(folder: Path) -> list[Path]:
    """Hidden files are not ours: some systems put them beside every file that they copy."""
    return sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))


def read_checked(path: Path, kind: TypeAdapter[T]) -> T | Damaged:
    """The record in a file, or what is wrong with it or with the files beside it.

    Raises ValueError for one of an earlier or a newer version.
    """
    try:
        record: Any = read_record(path, kind)
        check_files(path, getattr(record, "files", {}))
        check_prompts(path, record)
    except DamagedError as error:
        return Damaged(name=path.stem, problem=str(error))
    return record


def write_record(path: Path, record: BaseModel) -> None:
    fields = {"schema": SCHEMA, **record.model_dump(exclude_unset=True)}
    text = json.dumps(fields, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False)
    write_atomically(path, lambda temporary: temporary.write_text(text + "\n", encoding="utf-8"))


def read_record(path: Path, kind: TypeAdapter[T]) -> T:
    """What a JSON file holds, the version of its format checked first.

    Raises DamagedError, with every problem, for what is no such record, and another ValueError for
    one of an earlier or a newer version.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        schema = fields.pop("schema")
    except OSError as error:
        raise DamagedError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        raise _no_record(path, "expected a JSON object with a schema") from None
    if not isinstance(schema, int) or isinstance(schema, bool):
        raise _no_record(path, f"schema is {schema!r}; expected a whole number")
    if schema > SCHEMA:
        raise ValueError(f"{path} has schema {schema}; this version reads up to {SCHEMA}: upgrade")
    if schema < SCHEMA:
        raise ValueError(
            f"{path} has schema {schema}; expected {SCHEMA}: "
            f"`edgewise migrate {path.parents[1]}` brings the folder up to date"
        )
    try:
        json.dumps(fields, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise _no_record(path, "a text has half of a surrogate pair; expected Unicode") from None
    if fields.get("name") != path.stem:
        raise _no_record(path, f"name is {fields.get('name')!r}; expected that of the file")
    try:
        return kind.validate_python(fields)
    except ValidationError as error:
        found = problems(error, fields)
        more = f"; and {len(found) - _MOST_PROBLEMS:,} more" if found[_MOST_PROBLEMS:] else ""
        raise _no_record(path, "; ".join(found[:_MOST_PROBLEMS]) + more) from None


def _no_record(path: Path, why: str) -> DamagedError:
    return DamagedError(f"{path} is no record of this program: {why}")


def write_values(
    folder: Path,
    name: str,
    values: Mapping[str, Float[Tensor, "row prompt"]],
    prompt_ids: Sequence[str] | None = None,
) -> Checksums:
    """Store metrics per prompt: where that loses nothing in bytes, else to three digits.

    `prompt_ids` are the prompts' hashes, if they are known.
    """
    path = folder / f"{name}.{PROMPTS}"
    compact = {metric: _compact(of_prompts) for metric, of_prompts in values.items()}
    header = None if prompt_ids is None else {IDS: " ".join(prompt_ids)}
    write_atomically(path, lambda temporary: save_file(compact, temporary, header))
    return {PROMPTS: checksum(path)}


def read_values(folder: Path, name: str) -> dict[str, Float[Tensor, "row prompt"]]:
    """Metrics per prompt as `write_values` stored them, in float32."""
    stored = load_file(folder / f"{name}.{PROMPTS}")
    return {metric: values.float() for metric, values in stored.items()}


def read_prompt_ids(folder: Path, name: str) -> tuple[str, ...] | None:
    """The prompts' hashes as `write_values` stored them, if they were known."""
    with safe_open(folder / f"{name}.{PROMPTS}", framework="pt") as file:
        return _ids(file.metadata())


def _ids(header: Mapping[str, str] | None) -> tuple[str, ...] | None:
    return tuple(header[IDS].split()) if header and IDS in header else None


def _compact(values: Float[Tensor, "row prompt"]) -> Shaped[Tensor, "row prompt"]:
    """What is only ever 0 or 1 as bytes, else half precision where its range suffices."""
    values = values.contiguous()
    if bool(((values == 0) | (values == 1)).all()):
        return values.bool()
    half = values.half()
    return half if bool(half.isfinite().all()) else values.float()
