"""ACDC against a literal twin that removes one edge at a time and always runs the whole model."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from edgewise import batches
from edgewise.batches import mean_activations
from edgewise.circuit import Circuit
from edgewise.discovery import Checkpoint, Meter
from edgewise.graph import Ablation, Graph
from edgewise.metrics import (
    KL,
    LOGIT_DIFFERENCE,
    SQUARED_ERROR,
    kl_divergence,
    negative_logit_difference,
    squared_error,
)
from edgewise.prompts import PromptPairs
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer
from methods import acdc
from methods.acdc import ACDC, Order
from tests.families import FAMILIES
from tests.methods import toys
from tests.models import ABLATIONS
from tests.shapes import unchecked_shapes

ORDERS: tuple[Order, ...] = ("reverse", "forward", "random")
MODELS: dict[str, Callable[[], MaskedTransformer]] = {
    "gpt2": toys.gpt2,
    "gpt2, joint embeddings": lambda: toys.gpt2(embeddings="joint"),
    "llama": toys.llama,
    "llama, key-value readers": lambda: toys.llama(kv_heads="key-value"),
}
EACH_MODEL = pytest.mark.parametrize(
    "model",
    [name if "gpt2" in name else pytest.param(name, marks=pytest.mark.slow) for name in MODELS],
)
SEED = 5
THRESHOLDS = (0.003, 0.1)
"""In every model edges stay at the first, and components die at the second."""
EACH_THRESHOLD = pytest.mark.parametrize(
    "threshold", [THRESHOLDS[0], pytest.param(THRESHOLDS[1], marks=pytest.mark.slow)]
)


def discover(
    settings: ACDC, model: MaskedTransformer, task: Task, checkpoint: Checkpoint | None = None
) -> Circuit:
    generator = torch.Generator().manual_seed(SEED)
    return settings.discover(model, task, generator=generator, checkpoint=checkpoint)


def literal(settings: ACDC, model: MaskedTransformer, task: Task) -> tuple[Tensor, int, int]:
    """The mask, and how many edges were tested and how many dropped with a dead component."""
    graph, tested, dropped = model.graph, 0, 0
    loss = mean_loss(settings, model, task)
    mask = graph.legal.clone()
    current = loss(mask)
    for reader, parents in visits(settings, graph, torch.Generator().manual_seed(SEED)):
        fed = components_fed(graph, reader)
        alive = [edge for edge in graph.edge_names(mask) if edge.split("->")[0] in fed]
        for writer in parents:
            without = mask & ~graph.mask_of([f"{writer}->{reader}"])
            if reader != "out" and not alive:
                mask = without
                dropped += 1
                continue
            value = loss(without)
            tested += 1
            change = abs(value - current) if settings.abs_value_threshold else value - current
            if change < settings.threshold:
                mask, current = without, value
    return mask, tested, dropped


def mean_loss(settings: ACDC, model: MaskedTransformer, task: Task) -> Callable[[Tensor], float]:
    """The loss of a mask, from whole runs of one pair after the other."""
    function = {
        "training": task.training_loss,
        "attribution": task.attribution_loss,
        "logit_difference": negative_logit_difference,
        "squared_error": squared_error,
    }[settings.objective]
    pairs = [task.train[torch.tensor([index])] for index in range(len(task.train))]
    mean = mean_activations(model, task.train)

    def ablated(pair: PromptPairs) -> Tensor | None:
        if task.ablation == "zero":
            return None
        if task.ablation == "mean":
            return mean[: pair.clean.shape[1]]
        return model.activations(pair.corrupted)

    known = [(pair, ablated(pair), model(pair.clean, targets=pair.targets)) for pair in pairs]

    def loss(mask: Tensor) -> float:
        values = [
            function(model(pair.clean, mask, carried, pair.targets), full, pair)
            for pair, carried, full in known
        ]
        return sum(map(float, values)) / len(values)

    return loss


def visits(settings: ACDC, graph: Graph, generator: Generator) -> Iterator[tuple[str, list[str]]]:
    """Readers with their writers: `out`, then per layer downwards the MLP and v, k, q of heads."""

    def ordered(names: list[str], order: Order) -> list[str]:
        """`names` come in the order of the graph."""
        if order == "random":
            return [names[i] for i in torch.randperm(len(names), generator=generator).tolist()]
        return names[::-1] if order == "reverse" else names

    def parents(reader: str) -> list[str]:
        legal = graph.legal[graph.readers.index(reader)].tolist()
        writers = [name for name, is_legal in zip(graph.writers, legal, strict=True) if is_legal]
        return ordered(writers, settings.parent_order)

    ordered(["out"], settings.reader_order)
    yield "out", parents("out")
    for layer in reversed(range(graph.n_layers)):
        kv = "h" if graph.n_kv_heads is None else "kv"
        heads = [f"a{layer}.h{head}.q" for head in range(graph.n_heads)]
        for kind in "kv":
            heads += [f"a{layer}.{kv}{head}.{kind}" for head in range(graph.n_kv_readers)]
        for block in ([f"m{layer}"], heads):
            for reader in ordered(block, settings.reader_order):
                yield reader, parents(reader)


def components_fed(graph: Graph, reader: str) -> list[str]:
    """The MLP, the head, or the query heads of the key-value head that a reader is an input of.

    If a norm couples heads, all of the layer.
    """
    if graph.coupled_heads and reader.startswith("a"):
        return [f"{reader.partition('.')[0]}.h{head}" for head in range(graph.n_heads)]
    if match := re.fullmatch(r"(a\d+)\.kv(\d+)\.[kv]", reader):
        assert graph.n_kv_heads
        group = graph.n_heads // graph.n_kv_heads
        first = int(match[2]) * group
        return [f"{match[1]}.h{head}" for head in range(first, first + group)]
    return [re.sub(r"\.[qkv]$", "", reader)]


def assert_the_same(
    model: MaskedTransformer, task: Task, threshold: float, **settings: Any
) -> None:
    method = ACDC(threshold=threshold, **settings)
    circuit = discover(method, model, task)
    with unchecked_shapes():
        mask, tested, dropped = literal(method, model, task)
    assert torch.equal(circuit.mask, mask)
    assert (circuit.meta["tested"], circuit.meta["dropped"]) == (tested, dropped)
    assert tested + dropped == model.graph.n_edges, "each edge is tested or dropped, once"
    assert circuit.n_edges > 0 or threshold == THRESHOLDS[1]
    assert dropped > 0 or threshold == THRESHOLDS[0]


@EACH_THRESHOLD
@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("objective", ["training", "attribution"])
@EACH_MODEL
def test_it_finds_the_circuit_of_the_literal_search(
    model: str, objective: str, ablation: Ablation, threshold: float
) -> None:
    task = toys.task(ablation=ablation)
    assert_the_same(MODELS[model](), task, threshold, objective=objective)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "threshold"), [("gpt_neox", THRESHOLDS[1]), ("gemma2", THRESHOLDS[0])]
)
def test_parallel_blocks_and_coupled_heads_are_searched_literally(
    family: str, threshold: float
) -> None:
    model = MaskedTransformer(FAMILIES[family]().double())
    assert model.graph.parallel or model.graph.coupled_heads
    assert_the_same(model, toys.task(), threshold)


@EACH_THRESHOLD
@pytest.mark.parametrize(
    ("objective", "abs_value_threshold"),
    [
        ("logit_difference", True),
        pytest.param("logit_difference", False, marks=pytest.mark.slow),
        pytest.param("squared_error", True, marks=pytest.mark.slow),
    ],
)
def test_any_metric_can_be_the_objective_and_its_change_be_taken_absolutely(
    objective: str, abs_value_threshold: bool, threshold: float
) -> None:
    task = with_metrics(toys.task())
    settings = dict(objective=objective, abs_value_threshold=abs_value_threshold)
    assert_the_same(toys.gpt2(), task, threshold, **settings)


def test_an_edge_whose_removal_lowers_the_objective_stays_on_request() -> None:
    model, task = toys.gpt2(), with_metrics(toys.task())
    settings = ACDC(threshold=1e-4, objective="logit_difference")
    signed = discover(settings, model, task)
    absolute = discover(dataclasses.replace(settings, abs_value_threshold=True), model, task)
    assert absolute.n_edges > signed.n_edges


def test_an_objective_that_the_task_does_not_have_is_refused_before_anything_runs() -> None:
    model, method = toys.gpt2(), ACDC(objective="logit_diference")
    message = "objective='logit_diference'; expected one of training, attribution, kl, "
    for refused in (method.check_task, lambda task: discover(method, model, task)):
        with pytest.raises(ValueError, match=message):
            refused(with_metrics(toys.task()))
    assert model.flops == 0


def with_metrics(task: Task) -> Task:
    """The same, also measured by the logit difference and the squared error."""
    metrics = {metric.name: metric for metric in (KL, LOGIT_DIFFERENCE, SQUARED_ERROR)}
    return dataclasses.replace(task, metrics=metrics)


@pytest.mark.slow
@EACH_THRESHOLD
@pytest.mark.parametrize("parent_order", ORDERS)
@pytest.mark.parametrize("reader_order", ORDERS)
@pytest.mark.parametrize("model", ["gpt2", "llama, key-value readers"])
def test_every_order_is_that_of_the_literal_search(
    model: str, reader_order: Order, parent_order: Order, threshold: float
) -> None:
    orders = dict(reader_order=reader_order, parent_order=parent_order)
    assert_the_same(MODELS[model](), toys.task(), threshold, **orders)


@pytest.mark.slow
def test_the_orders_differ() -> None:
    model, task = toys.llama(kv_heads="key-value"), toys.task()
    masks = [
        discover(ACDC(THRESHOLDS[0], reader_order, parent_order), model, task).mask
        for reader_order in ORDERS
        for parent_order in ORDERS
    ]
    assert len(torch.stack(masks).unique(dim=0)) > 3


@pytest.mark.slow
@pytest.mark.parametrize(("at_once", "buffer_bytes"), [(4, 0), (1, 2**30), (3, 2**30)])
@EACH_THRESHOLD
def test_how_much_is_run_at_once_does_not_matter(
    threshold: float, at_once: int, buffer_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, task = toys.llama(), toys.task()
    usual = discover(ACDC(threshold=threshold), model, task)
    monkeypatch.setattr(acdc, "AT_ONCE", at_once)
    monkeypatch.setattr(acdc, "PER_MORE", 1)
    other = discover(ACDC(threshold=threshold, buffer_bytes=buffer_bytes), model, task)
    assert torch.equal(usual.mask, other.mask)
    assert usual.meta == pytest.approx(other.meta, rel=1e-6)


def test_the_more_go_the_more_are_tested_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert passes(monkeypatch, threshold=1e9) == [1, 1, 1, 1, 1, 2, 2]
    assert set(passes(monkeypatch, threshold=1e-12)) == {1}


def test_fewer_are_tested_at_once_where_memory_is_scarce(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acdc, "PER_MORE", 1)
    model, train = toys.gpt2(), toys.task().train
    per_mask = len(model.graph.writers) * model.architecture.d_model * train.clean.numel() * 8
    for masks in (1, 2, 3):
        room = (masks + 1) * per_mask
        assert max(passes(monkeypatch, threshold=1e9, buffer_bytes=room)) == masks


def test_fewer_are_tested_at_once_where_prompts_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acdc, "PER_MORE", 1)
    n_tokens = toys.task().train.clean.numel()
    for masks in (1, 2, 3):
        monkeypatch.setattr(batches, "BATCH_TOKENS", masks * n_tokens)
        assert max(passes(monkeypatch, threshold=1e9)) == masks


def passes(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> list[int]:
    """How many masks each pass of a search has."""
    model, sizes = toys.gpt2(), list[int]()

    def run(self: MaskedTransformer, buffer: Any, mask: Tensor, targets: Tensor) -> Tensor:
        sizes.append(len(mask))
        return whole_run(self, buffer, mask, targets)

    whole_run = MaskedTransformer.run
    with monkeypatch.context() as patched:
        patched.setattr(MaskedTransformer, "run", run)
        discover(ACDC(**settings), model, toys.task())
    return sizes


def test_an_edge_that_costs_exactly_the_threshold_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    just_below = 0.75 - 1e-7
    losses = iter([0.0, 0.5, 0.25, 0.75, just_below, 0.0])
    model = toys.gpt2()

    def scripted(logits: Tensor, full: Tensor, pairs: PromptPairs) -> Tensor:
        return torch.full((1, len(pairs)), next(losses, 9.0), dtype=torch.float64)

    monkeypatch.setattr(acdc, "AT_ONCE", 1)
    circuit = discover(ACDC(threshold=0.5), model, toys.task(training_loss=scripted))
    removed = model.graph.edge_names(model.graph.legal & ~circuit.mask)
    assert removed == ["a0.h1->out", "m0->out", "a1.h1->out"]
    assert circuit.meta["close"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("calls", [2, 6, 11, 16])
@pytest.mark.parametrize("buffer_bytes", [0, 2**30])
@pytest.mark.parametrize("kv_heads", ["query", "key-value"])
def test_an_interrupted_search_goes_on_to_the_same_circuit_at_the_same_cost(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kv_heads: Any,
    buffer_bytes: int,
    calls: int,
) -> None:
    """Random orders, so that the order is kept, too."""
    settings = ACDC(
        threshold=THRESHOLDS[1],
        reader_order="random",
        parent_order="random",
        buffer_bytes=buffer_bytes,
    )
    monkeypatch.setattr(acdc, "PER_MORE", 1)
    task = toys.task()

    def run(task: Task) -> tuple[Circuit, int]:
        """The circuit, and the operations that a search costs that goes on from `state`."""
        model = toys.llama(kv_heads=kv_heads)
        meter = Meter(model)
        checkpoint = Checkpoint(tmp_path / "state.safetensors", meter, every_seconds=0.0)
        with meter.run():
            circuit = discover(settings, model, task, checkpoint)
        return circuit, meter.flops

    undisturbed, expected = run(task)
    (tmp_path / "state.safetensors").unlink()
    doomed = dataclasses.replace(task, training_loss=toys.interrupting(kl_divergence, calls))
    with pytest.raises(toys.Interrupted):
        run(doomed)
    resumed, flops = run(task)
    assert torch.equal(resumed.mask, undisturbed.mask)
    assert resumed.meta == undisturbed.meta
    assert flops == expected


def test_in_float32_decisions_near_the_threshold_are_counted() -> None:
    model, task = toys.gpt2(torch.float32), toys.task()
    circuit = discover(ACDC(threshold=THRESHOLDS[0]), model, task)
    assert 0 <= circuit.meta["close"] <= circuit.meta["tested"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": 0.0}, "threshold=0.0; expected a number greater than 0"),
        ({"threshold": float("nan")}, "threshold=nan; expected a finite number"),
        ({"reader_order": "shuffle"}, "'shuffle'; expected 'reverse', 'forward' or 'random'"),
        ({"parent_order": "normal"}, "'normal'; expected 'reverse', 'forward' or 'random'"),
        ({"abs_value_threshold": 1}, "abs_value_threshold=1; expected a valid boolean"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(
    settings: dict[str, Any], message: str, unchecked: None
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ACDC(**settings)
