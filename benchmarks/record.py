"""What a run leaves behind, as typed data: unknown keys and impossible values are refused.

A file holds only the fields that were set (`docs/records.md` explains each) and `schema`, the
version of the format, which benchmarks/files.py adds and checks.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from benchmarks.checking import STRICT
from edgewise.graph import Ablation

FINISHED: Literal["finished"] = "finished"
UNSUPPORTED: Literal["unsupported"] = "unsupported"
FAILED: Literal["failed"] = "failed"

T = TypeVar("T")
Count = Annotated[int, Field(ge=0, le=10**30)]
Share = Annotated[float, Field(ge=0, le=1)]
Cost = Annotated[float, Field(ge=0)]
Interval = Annotated[list[float], Field(min_length=2, max_length=2)]
Setting = bool | int | float | str | None

_OF_METHOD = ("method", "method_version", "settings", "inner", "code", "sparsities")


class _Data(BaseModel):
    model_config = STRICT

    def as_json(self) -> dict[str, Any]:
        """The fields that were set, as plain JSON values."""
        return self.model_dump(exclude_unset=True)


class Truth(_Data):
    """A circuit against the nearest true circuit."""

    precision: Share
    recall: Share
    missing: Count
    extra: Count
    exact: bool


class RowRecord(_Data):
    """One circuit: its size and its metrics, each a mean over the test prompts.

    `intervals` are the means' 95 % bootstrap intervals over these prompts.
    """

    edges: Count
    sparsity: Share
    live_sparsity: Share
    metrics: Mapping[str, float]
    intervals: Mapping[str, Interval] = {}
    validation: Mapping[str, float] = {}
    draw: Count | None = None
    truth: Truth | None = None


class Sizes(_Data):
    """Numbers of prompts asked for; None is the task's default."""

    train: Count | None
    validation: Count | None
    test: Count | None


class GraphOptions(_Data):
    """The convention of a graph."""

    embeddings: Literal["separate", "joint"]
    kv_heads: Literal["query", "key-value"]


class Inner(_Data):
    """A method inside another."""

    method: str
    method_version: int
    settings: Mapping[str, Setting]
    code: str | None = None


class Definition(_Data):
    """What defines a cell; the hash in its name is that of `as_json`."""

    method: str
    method_version: int
    settings: Mapping[str, Setting]
    sparsities: list[Share]
    task: str
    task_version: int
    seed: int
    sizes: Sizes
    model: GraphOptions | None
    weights: str
    architecture: Mapping[str, Any]
    tokenizer: str | None
    ablation: Ablation | None
    dtype: str
    data: str | None = None
    inner: list[Inner] | None = None
    code: str | None = None

    def bench(self) -> dict[str, Any]:
        """What defines the task, the prompts and the model."""
        return {name: value for name, value in self.as_json().items() if name not in _OF_METHOD}


class Environment(_Data):
    """Where a cell was run."""

    device: str
    device_name: str
    processes: int = 1
    jobs: int = 1
    platform: str
    python: str
    packages: Mapping[str, str]
    commit: str | None


class PromptCounts(_Data):
    """How many prompts there were."""

    train: Count
    validation: Count
    test: Count


class MetricRecord(_Data):
    """Which values of a metric are better, and the label of its axis."""

    better: Literal["lower", "higher"]
    unit: str


Checksums = Mapping[str, str]
"""The ending of a file's name -> the SHA-256 of the file."""


class _Cell(_Data):
    name: str
    definition: Definition
    environment: Environment


class Result(_Cell):
    """What a cell found, without the cost."""

    status: Literal["finished"]
    kind: Literal["circuit", "scores"]
    model: str
    dtype: str
    graph: str
    n_edges: Count
    ablation: Ablation
    n_prompts: PromptCounts
    metrics: Mapping[str, MetricRecord]
    primary_metric: str
    true_circuits: list[Count]
    rows: list[RowRecord]
    notes: Mapping[str, Any]
    warnings: list[str] = []
    files: Checksums = {}

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        return _raise_for(self._contradictions(), self)

    def _contradictions(self) -> Iterator[str]:
        known, rows = _listed(self.metrics), self.rows
        if self.primary_metric not in self.metrics:
            yield f"primary_metric is {self.primary_metric!r}; expected one of {known}"
        if not rows or (self.kind == "circuit" and len(rows) > 1):
            expected = "1" if self.kind == "circuit" else "at least 1"
            yield f"rows has {len(rows)} items, of kind {self.kind}; expected {expected}"
        has_draws = any(row.draw is not None for row in rows)
        for place, row in enumerate(rows):
            if row.metrics.keys() != self.metrics.keys():
                yield f"rows.{place}.metrics are {_listed(row.metrics)}; expected {known}"
            if row.edges > self.n_edges:
                yield f"rows.{place}.edges is {row.edges:,}; expected at most {self.n_edges:,}"
            if (row.draw is not None) != has_draws or (has_draws and self.kind == "circuit"):
                yield f"rows.{place}.draw is {row.draw}; expected one for every ranking or for none"
            judged = [self.primary_metric] if self.kind == "scores" and not has_draws else []
            if list(row.validation) != judged:
                given = _listed(row.validation)
                yield f"rows.{place}.validation is {given}; expected {_listed(judged)}"


def _raise_for(problems: Iterable[str], record: T) -> T:
    """The record, unless there are problems."""
    if text := "\n".join(problems):
        raise ValueError(text)
    return record


def _without_intervals(rows: Sequence[RowRecord]) -> Iterator[str]:
    for place, row in enumerate(rows):
        if row.intervals.keys() != row.metrics.keys():
            given, expected = _listed(row.intervals), _listed(row.metrics)
            yield f"rows.{place}.intervals are of {given}; expected {expected}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


class Finished(Result):
    """A finished cell."""

    label: str = ""
    seconds: Cost
    flops: Count
    forward_equivalents: Cost
    peak_bytes: Count
    peak_memory_source: str
    trained_in: str | None = None

    def _contradictions(self) -> Iterator[str]:
        yield from super()._contradictions()
        yield from _without_intervals(self.rows)


class Failure(_Data):
    """The error in which a cell ended."""

    message: str
    traceback: str


class Unfinished(_Cell):
    """A cell that failed, or whose method does not support the task."""

    status: Literal["unsupported", "failed"]
    error: Failure


CellRecord = Annotated[Finished | Unfinished, Field(discriminator="status")]


class Origin(BaseModel):
    """What a circuit's file needs of the record beside it."""

    model_config = ConfigDict(STRICT, extra="ignore")

    ablation: Ablation
    files: Checksums = {}


class Damaged(_Data):
    """A record that cannot be used, or whose files are not those that were written."""

    name: str
    problem: str


class MatchedRecord(_Data):
    """A ranking's rows at the numbers of edges of other methods' circuits."""

    name: str
    rows: list[RowRecord]

    @model_validator(mode="after")
    def _has_intervals(self) -> Self:
        return _raise_for(_without_intervals(self.rows), self)


class SearchGoal(_Data):
    """What a search is for, and within which interval of a setting."""

    setting: str
    interval: list[float]
    sparsity: Share
    tolerance: float
    trials: Count


class SearchDefinition(Definition):
    """What defines a search: its cells' definition, but for the setting, and its goal."""

    search: SearchGoal


class Trial(_Data):
    """A setting that was tried, the sparsity of what it found, and the cell's name."""

    value: float
    sparsity: Share
    cell: str


class SearchRecord(_Data):
    """A finished search."""

    name: str
    definition: SearchDefinition
    trials: Annotated[list[Trial], Field(min_length=1)]
    found: str
    within_tolerance: bool


class CrossedRow(RowRecord):
    """A circuit on the prompts of one of two tasks."""

    circuit: str
    prompts: str


class CrossedRecord(_Data):
    """Circuits of two tasks, evaluated on the prompts of both."""

    name: str
    cells: Annotated[list[str], Field(min_length=2, max_length=2)]
    rows: list[CrossedRow]

    @model_validator(mode="after")
    def _has_every_circuit_on_both(self) -> Self:
        _raise_for(_without_intervals(self.rows), self)
        circuits: dict[str, list[str]] = {}
        for row in self.rows:
            circuits.setdefault(row.prompts, []).append(row.circuit)
        listed = list(circuits.values())
        if len(listed) != 2 or listed[0] != listed[1] or len(set(listed[0])) != 4:
            raise ValueError(
                f"rows are of {listed}; expected the same four circuits on both tasks' prompts"
            )
        return self


class Tolerance(_Data):
    """A value that repeats gave, and how far from it a run may be."""

    expected: float
    tolerance: float
    repeats: Mapping[str, float]


class Reference(Result):
    """A reference cell: `anew` is what is compared of a circuit found anew within a tolerance."""

    anew: Mapping[str, Tolerance] = {}
