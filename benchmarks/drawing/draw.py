"""The picture of a circuit file: what is read, what it is compared with, and what is written."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jaxtyping import Bool, Float
from pydantic import TypeAdapter
from torch import Tensor

from benchmarks.drawing.circuits import MOST_EDGES, circuit_figure
from benchmarks.drawing.style import method_style, save
from benchmarks.drawing.titles import task_title
from benchmarks.files import check_files, read_record
from benchmarks.record import Origin
from edgewise import Circuit, EdgeScores
from edgewise.evaluate import compare_with_truth, nearest_truth
from edgewise.graph import Ablation
from tasks import TASKS

Scores = Float[Tensor, "reader writer"]
SUFFIXES = (".svg", ".png", ".pdf")


def draw(
    path: Path,
    *,
    out: Path | None = None,
    n_edges: int | None = None,
    truth: Path | None = None,
    most: int = MOST_EDGES,
) -> list[Path]:
    """Draw the circuit in a file beside a true one, from a file or the task's own where known.

    Of more than `most` live edges the strongest are drawn, and the caption says so. `out`
    decides by its suffix what is written; without it an SVG and a PNG are, named like the file, in
    the current folder. Raises ValueError for files that cannot be drawn or written.
    """
    if out is not None and out.suffix not in SUFFIXES:
        raise ValueError(f"{str(out)!r} ends in {out.suffix!r}; expected {', '.join(SUFFIXES)}")
    circuit, scores = _read(path, n_edges)
    origin = _origin(path)
    ablation = origin.ablation if origin else _definition(circuit).get("ablation")
    true = _truth(circuit, ablation, truth)
    title, caption = words(circuit, path, ablation, true, scores, most)
    # What zero ablation leaves live is all that any ablation does.
    figure = circuit_figure(
        *(circuit, ablation or "zero"),
        title=title,
        caption=caption,
        truth=true,
        scores=scores,
        most=most,
    )
    targets = [out] if out else [Path(f"{path.stem}{suffix}") for suffix in (".svg", ".png")]
    return [save(figure, target) for target in targets]


def read_circuit(path: Path, n_edges: int | None = None) -> Circuit:
    """The circuit in a file, or the first `n_edges` edges of its scores.

    Raises ValueError for a file with neither, for scores without a number of edges, and for a
    circuit with one.
    """
    return _read(path, n_edges)[0]


def _read(path: Path, n_edges: int | None) -> tuple[Circuit, Scores | None]:
    """The circuit, and its edges' scores where there are any, with signs if they have some."""
    if not path.is_file():
        raise ValueError(
            f"no file {str(path)!r}; expected a circuit, such as cells/NAME.safetensors"
        )
    try:
        scores = EdgeScores.load(path)
    except ValueError:
        circuit = Circuit.load(path)
        if n_edges is not None:
            raise ValueError(f"{path} holds a circuit; --edges {n_edges} is for scores") from None
        strength = circuit.extra.get("log_alpha")
        if strength is None or strength.shape != circuit.mask.shape:
            return circuit, None
        return circuit, strength.double() - strength[circuit.mask].min()
    if n_edges is None:
        raise ValueError(f"{path} holds scores; --edges N says where to cut them")
    values = scores.extra.get("signed", scores.values).double()
    return scores.circuit(n_edges), values.nan_to_num(0, 0, 0)


def _origin(path: Path) -> Origin | None:
    """What the record beside a cell's file says. Raises ValueError if the file is another one."""
    beside = path.with_suffix(".json")
    if not beside.is_file():
        return None
    origin = read_record(beside, TypeAdapter(Origin))
    check_files(beside, origin.files)
    return origin


def words(
    circuit: Circuit,
    path: Path,
    ablation: Ablation | None,
    truth: Bool[Tensor, "reader writer"] | None,
    scores: Scores | None = None,
    most: int = MOST_EDGES,
) -> tuple[str, str]:
    """Title and caption."""
    definition, graph = _definition(circuit), circuit.graph
    name = path.stem
    if definition:
        name = f"{task_title(definition['task'])}, {method_style(definition['method']).label}"
    title = f"{name}, {circuit.n_edges:,} edges, sparsity {100 * circuit.sparsity:.2f} %"
    live = int(graph.live(circuit.mask, ablation or "zero").sum())
    drawn = "strongest are" if scores is not None else "nearest to out are"
    parts = [
        f"the {most:,} {drawn} drawn of" if live > most else None,
        f"{live:,} live edges under {ablation or 'any'} ablation",
        f"graph of {graph.convention}",
        circuit.meta.get("model"),
        f"seed {definition['seed']}" if definition else None,
    ]
    if truth is not None:
        against = compare_with_truth(circuit, [truth])
        parts.append(
            f"against the true circuit of {int(truth.sum())} edges: "
            f"{against['missing']} missing, {against['extra']} extra"
        )
    text = ", ".join(part for part in parts if part).replace(" drawn of,", " drawn of")
    if scores is not None:
        text += ". Width: the root of the score"
    return title, f"{text[0].upper()}{text[1:]}."


def _truth(
    circuit: Circuit, ablation: Ablation | None, path: Path | None
) -> Bool[Tensor, "reader writer"] | None:
    if path is not None:
        true = read_circuit(path)
        if true.graph != circuit.graph:
            raise ValueError(
                f"{path} is of another graph, {true.graph.convention}; "
                f"expected {circuit.graph.convention}"
            )
        return true.mask
    definition = _definition(circuit)
    truths = known_truths(definition.get("task", ""), ablation)
    return nearest_truth(circuit, truths) if truths else None


@cache
def known_truths(
    task: str, ablation: Ablation | None, weights: str | None = None
) -> Sequence[Bool[Tensor, "reader writer"]]:
    """The true circuits of a compiled program, under its own ablation where none is named.

    None of any other task, nor of a program that is compiled to other `weights` than these.
    """
    builder = TASKS.get(task)
    if builder is None or not builder.owns_model:
        return []
    model = builder.load_model()
    if weights is not None and model.weight_hash != weights:
        return []
    built = builder.build(model, None, seed=0)
    return built.true_circuits.get(ablation or built.ablation, [])


def _definition(circuit: Circuit) -> dict[str, Any]:
    """What defines the cell that wrote the file; empty for other files."""
    return circuit.meta.get("definition", {})
