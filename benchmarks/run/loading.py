"""Models and tasks of benches, loaded when needed; one of each is kept."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.grid.cell import BUNDLED, Bench, Cell, ModelOptions
from edgewise import MaskedTransformer, Task
from edgewise.files import expanded
from edgewise.precision import dtype_of, set_products
from edgewise.pretrained import load_tokenizer
from tasks import find_task
from tasks.models.bundled import FOLDER
from tasks.models.tiny import TINY_MODELS, tiny_model, tiny_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NOT_CONTENT = ("version", "truncation", "padding", "decoder")


class Loader:
    """Gives a bench's model and task. The last ones stay loaded: cells come bench by bench.

    `memory` tells what a pass may take, once a model is loaded (default: as without a budget).
    """

    def __init__(
        self,
        device: torch.device,
        device_map: str | None = None,
        *,
        recompute: bool = False,
        cuda_graphs: bool = False,
        memory: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._device, self._device_map = device, device_map
        self._recompute, self._cuda_graphs, self._memory = recompute, cuda_graphs, memory
        self._model: tuple[Any, MaskedTransformer] | None = None
        self._task: tuple[Bench, Task] | None = None

    def model(self, bench: Bench) -> MaskedTransformer:
        """Raises ValueError, in one line, for a model that is missing or not supported."""
        set_products(bench.dtype)
        key = (bench.model or bench.task, bench.dtype)
        if self._model is None or self._model[0] != key:
            self._model = self._task = None
            dtype = dtype_of(bench.dtype)
            if bench.model is None:
                model = find_task(bench.task).load_model(dtype=dtype, device=self._device)
            else:
                model = _load(bench.model, dtype, self._device, self._device_map)
            model.recompute, model.cuda_graphs = self._recompute, self._cuda_graphs
            model.memory_bytes = self._memory()
            self._model = (key, model)
        return self._model[1]

    def task(self, bench: Bench) -> Task:
        """The bench's prompts, for its model. Raises ValueError where they cannot be made."""
        model = self.model(bench)
        if self._task is None or self._task[0] != bench:
            tokenizer: Any = None
            if bench.model is not None:
                tokenizer = tokenizer_of(bench.model.id)
            builder = find_task(bench.task)
            if builder.digest != bench.data:
                raise ValueError(f"the file of {bench.task} has changed since the run began")
            task = builder.build(model, tokenizer, seed=bench.seed, sizes=bench.sizes)
            if bench.ablation is not None:
                task = replace(task, ablation=bench.ablation)
            self._task = (bench, task)
        return self._task[1]


def identify(benches: Iterable[Bench], loader: Loader) -> dict[Bench, Bench]:
    """The benches, each with what identifies its model and its tokenizer.

    Raises ValueError if a model cannot be loaded.
    """
    identities: dict[Any, dict[str, Any]] = {}
    known: dict[Bench, Bench] = {}
    for bench in dict.fromkeys(benches):
        key = (bench.model or bench.task, bench.dtype)
        if key not in identities:
            identities[key] = identity_of(bench, loader)
        known[bench] = replace(bench, **identities[key])
    return known


def check_tasks(cells: Iterable[Cell], loader: Loader) -> None:
    """Make the prompts of every bench once, whatever its seed, and check each method's settings.

    Under mean ablation those of every seed are made: whether there is a mean for all of a prompt's
    positions depends on the prompts that were drawn. Raises ValueError for prompts that cannot be
    made, and for a setting of no use on its task.
    """
    problems: dict[str, None] = {}
    of_bench: dict[Bench, list[Cell]] = {}
    for cell in cells:
        of_bench.setdefault(replace(cell.bench, seed=0), []).append(cell)
    for alike in of_bench.values():
        problems |= dict.fromkeys(_problems(alike, loader))
    if problems:
        raise ValueError("\n".join(problems))


def _problems(alike: Sequence[Cell], loader: Loader) -> Iterator[str]:
    """What is wrong, a line each, with cells whose benches differ in nothing but the seed."""
    bench, *others = dict.fromkeys(cell.bench for cell in alike)
    place = f"{bench.label} on {bench.model.id}" if bench.model else bench.label
    try:
        task = loader.task(bench)
        for cell in alike:
            cell.build().check_task(task)
    except ValueError as error:
        for line in str(error).splitlines():
            yield f"{place}: {line}"
        return
    for other in others if task.ablation == "mean" else ():
        try:
            loader.task(other)
        except ValueError as error:
            yield f"{place}, seed {other.seed}: {error}"


def identity_of(bench: Bench, loader: Loader) -> dict[str, Any]:
    """What a bench has to know of its model: `weights`, `architecture` and `tokenizer`."""
    model, options = loader.model(bench), bench.model
    return {
        "weights": model.weight_hash,
        "architecture": json.dumps(model.architecture.configuration(), sort_keys=True),
        "tokenizer": None if options is None else tokenizer_hash(tokenizer_of(options.id)),
    }


def tokenizer_hash(tokenizer: "PreTrainedTokenizerBase") -> str:
    """SHA-256 of a tokenizer's content, without how a batch is padded or cut.

    Of a tokenizer without a fast version, only the vocabulary and the special tokens.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = json.loads(backend.to_str()) if backend else {"vocabulary": tokenizer.get_vocab()}
    kept = {name: value for name, value in content.items() if name not in _NOT_CONTENT}
    text = json.dumps([kept, tokenizer.special_tokens_map], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def identify_cells(cells: Iterable[Cell], loader: Loader) -> list[Cell]:
    """The cells on their identified benches, bench by bench."""
    cells = list(cells)
    known = identify((cell.bench for cell in cells), loader)
    return [
        replace(cell, bench=known[bench])
        for bench in known
        for cell in cells
        if cell.bench == bench
    ]


def tokenizer_of(id: str) -> Any:
    """A model's tokenizer. Raises ValueError, in one line, where there is none."""
    if id in TINY_MODELS:
        return tiny_tokenizer()
    try:
        return load_tokenizer(_location(id))
    except (OSError, ValueError) as error:
        raise ValueError(f"no tokenizer of {id!r}: {_first_line(error)}") from error


def _load(
    options: ModelOptions, dtype: torch.dtype, device: torch.device, device_map: str | None
) -> MaskedTransformer:
    graph: Any = {"embeddings": options.embeddings, "kv_heads": options.kv_heads}
    if options.id in TINY_MODELS:
        made: Any = tiny_model(options.id)
        return MaskedTransformer(made.to(device, dtype), id=options.id, **graph)
    location = _location(options.id)
    try:
        return MaskedTransformer.from_pretrained(
            location, id=options.id, dtype=dtype, device=device, device_map=device_map, **graph
        )
    except OSError as error:
        where = "is not on disk nor to be downloaded"
        if Path(location).exists():
            where = "holds no loadable model"
        raise ValueError(f"model {options.id!r} {where}: {_first_line(error)}") from error
    except ValueError as error:
        raise ValueError(_first_line(error)) from error


def _location(id: str) -> Path | str:
    """The model's folder, or its name on the hub."""
    if id == BUNDLED:
        return FOLDER
    path = expanded(id)
    if path.exists():
        return path
    if path.is_absolute() or id[0] in ".~" or len(path.parts) > 2:
        raise ValueError(f"no model folder {id!r}")
    return id


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), "no reason given")
