"""A cell: one discovery and its evaluation, and the hash of what defines it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.grid.settings import defining
from edgewise.graph import Ablation
from edgewise.method import Method
from edgewise.own_code import Source, all_short, is_reference, short_name
from edgewise.task import Sizes
from edgewise.wrapper import InnerMethod
from methods import build, find_method

SPARSITIES = (
    *(0.0, 0.2, 0.5, 0.8, 0.9, 0.92, 0.94, 0.95),
    *(0.96, 0.97, 0.98, 0.985, 0.99, 0.995, 0.998, 0.999),
)
"""Where every ranking is cut, whatever the method."""

LONGEST_LABEL = 60
"""The most bytes of a task's label in the name of a file."""

BUNDLED = "bundled"
"""The id of the model that comes with the package."""


@dataclass(frozen=True)
class ModelOptions:
    """A model to be loaded, and the convention of its graph."""

    id: str = BUNDLED
    embeddings: Literal["separate", "joint"] = "separate"
    kv_heads: Literal["query", "key-value"] = "query"


@dataclass(frozen=True)
class Bench:
    """What a discovery is run on: the task, its prompts, the model. Its circuits are comparable.

    `model` is None where the task owns its model. Known once the model is loaded: `weights`, the
    hash of its weights, `architecture`, what else shapes its logits, as JSON, and `tokenizer`, the
    hash of its tokenizer's content, None where the task has no use for one. `ablation` is None for
    the task's own. `data` is the hash of the file, or the package and its version, that a task of
    the user's own comes from.
    """

    task: str
    task_version: int
    seed: int
    sizes: Sizes = field(default_factory=Sizes)
    model: ModelOptions | None = None
    weights: str | None = None
    architecture: str | None = None
    tokenizer: str | None = None
    ablation: Ablation | None = None
    dtype: str = "float32"
    data: str | None = None

    @property
    def label(self) -> str:
        """The task's name, for a file without its folder and ending."""
        if is_reference(self.task):
            return short_name(self.task)
        kind, colon, file = self.task.partition(":")
        return kind + colon + Path(file).stem

    def definition(self) -> dict[str, Any]:
        """What defines it, as JSON: model and file by what is in them, wherever they are."""
        assert self.weights and self.architecture, "the definition needs the loaded model"
        architecture = json.loads(self.architecture)
        fields = {**asdict(self), "task": self.label, "architecture": architecture}
        if self.data is None:
            del fields["data"]
        if fields["model"]:
            del fields["model"]["id"]
        return fields


@dataclass(frozen=True, eq=False)
class Cell:
    """One method with its settings on one bench; the unit that is run, stored and resumed.

    `label` is what tables and figures call these settings; it does not define the cell. `inner` are
    the methods that a wrapper is made of. `source` is where a method of the user's own comes from.
    """

    method: str
    method_version: int
    settings: Mapping[str, Any]
    bench: Bench
    sparsities: tuple[float, ...] = SPARSITIES
    label: str = ""
    inner: tuple[InnerMethod, ...] = ()
    source: Source | None = None

    def build(self) -> Method:
        """The method with its settings. Raises ValueError if its file has changed."""
        reference = self.method
        if self.source is not None:
            reference = self.source.reference
            if find_method(reference)[1] != self.source:
                raise ValueError(f"the file of {reference} has changed since the run began")
        return build(reference, self.settings, self.inner)

    def definition(self) -> dict[str, Any]:
        """What defines its results. Device, package versions and commit do not."""
        settings = defining(self.method, self.settings)
        inner = [
            _without_none(vars(one), settings=defining(one.method, one.settings), reference=None)
            for one in self.inner
        ]
        if inner:  # a file is identified by its contents, wherever it is
            settings["methods"] = all_short(settings["methods"])
        return {
            "method": self.method,
            "method_version": self.method_version,
            "settings": settings,
            **({"inner": inner} if inner else {}),
            **({"code": self.source.digest} if self.source else {}),
            "sparsities": list(self.sparsities),
            **self.bench.definition(),
        }

    @property
    def name(self) -> str:
        return name_of(self.definition())


def _without_none(fields: Mapping[str, Any], **others: Any) -> dict[str, Any]:
    return {name: value for name, value in {**fields, **others}.items() if value is not None}


def name_of(definition: Mapping[str, Any]) -> str:
    """A file name: readable, and the same for the same definition."""
    text = json.dumps(definition, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{in_file_name(definition['task'])}-{definition['method']}-{digest}"


def in_file_name(label: str) -> str:
    """A task's label, cut where a file's name would become too long."""
    return label.replace(":", "-").encode()[:LONGEST_LABEL].decode(errors="ignore")
