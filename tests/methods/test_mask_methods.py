"""What all methods that train masks have in common."""

import dataclasses
from pathlib import Path

import pytest
import torch

from edgewise.circuit import Circuit, EdgeScores
from edgewise.discovery import Checkpoint, Meter
from edgewise.graph import Ablation
from edgewise.mask_training import MaskMethod
from edgewise.metrics import kl_divergence, negative_logit_difference
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer
from methods import METHODS
from methods.edge_pruning import EdgePruning
from methods.edge_pruning_curve import EdgePruningCurve
from methods.matryoshka import Matryoshka
from methods.node_pruning import NodePruning
from methods.subnetwork_probing import SubnetworkProbing
from methods.ugs import UGS
from tests.methods import toys
from tests.models import ABLATIONS

SHORT: dict[str, MaskMethod] = {
    "edge-pruning": EdgePruning(steps=8, warmup_steps=2, target_warmup_steps=6, batch_size=3),
    "edge-pruning-curve": EdgePruningCurve(
        steps=8, warmup_steps=2, target_warmup_steps=6, batch_size=3, circuits=5
    ),
    "matryoshka": Matryoshka(steps=8, batch_size=2),
    "ugs": UGS(steps=8, batch_size=2, samples=3, learning_rate=0.1),
    "node-pruning": NodePruning(steps=8, warmup_steps=2, target_warmup_steps=6, batch_size=3),
    "subnetwork-probing": SubnetworkProbing(steps=8, learning_rate=0.1),
}
EACH_METHOD = pytest.mark.parametrize("method", SHORT.values(), ids=SHORT)


def discover(
    method: MaskMethod,
    model: MaskedTransformer | None = None,
    task: Task | None = None,
    *,
    seed: int = 0,
    checkpoint: Checkpoint | None = None,
) -> Circuit | EdgeScores:
    return method.discover(
        model or toys.gpt2(torch.float32),
        task or toys.task(toys.random_pairs(5)),
        generator=torch.Generator().manual_seed(seed),
        checkpoint=checkpoint,
    )


def same(found: Circuit | EdgeScores, other: Circuit | EdgeScores) -> bool:
    """Whether the results are equal, bit for bit, with all that was trained."""
    first, second = (
        {**x.extra, "edges": x.mask if isinstance(x, Circuit) else x.values} for x in (found, other)
    )
    return first.keys() == second.keys() and all(
        torch.equal(values, second[name]) for name, values in first.items()
    )


def saved_every_step(folder: Path, model: MaskedTransformer) -> Checkpoint:
    return Checkpoint(folder / "state.safetensors", Meter(model), every_seconds=0.0)


def test_every_method_that_trains_masks_is_tested_here() -> None:
    assert SHORT.keys() == {name for name, kind in METHODS.items() if issubclass(kind, MaskMethod)}


@EACH_METHOD
@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("build", [toys.gpt2, pytest.param(toys.llama, marks=pytest.mark.slow)])
def test_it_runs_on_every_architecture_and_ablation_and_is_the_generators_doing(
    method: MaskMethod, ablation: Ablation, build
) -> None:
    model = build(torch.float32)
    task = toys.task(toys.random_pairs(5), ablation=ablation)
    first, again, other = (discover(method, model, task, seed=seed) for seed in (1, 1, 2))
    assert all(bool(values.isfinite().all()) for values in first.extra.values())
    assert same(first, again)
    assert not same(first, other)


@EACH_METHOD
@pytest.mark.parametrize("step", [0, pytest.param(3, marks=pytest.mark.slow), 7])
def test_an_interrupted_run_goes_on_bit_for_bit(
    tmp_path: Path, method: MaskMethod, step: int
) -> None:
    model, task = toys.gpt2(torch.float32), toys.task(toys.random_pairs(5))
    undisturbed = discover(method, model, task)
    doomed = dataclasses.replace(
        task,
        training_loss=toys.interrupting(kl_divergence, step),
        attribution_loss=toys.interrupting(negative_logit_difference, step),
    )
    with pytest.raises(toys.Interrupted):
        discover(method, model, doomed, checkpoint=saved_every_step(tmp_path, model))
    resumed = discover(method, model, task, seed=99, checkpoint=saved_every_step(tmp_path, model))
    assert same(resumed, undisturbed)


@EACH_METHOD
def test_a_discovery_costs_no_more_passes_than_expected(method: MaskMethod) -> None:
    model, task = toys.gpt2(torch.float32), toys.task(toys.random_pairs(5))
    discover(method, model, task)
    passes = model.flops / model.forward_flops(task.train.lengths)
    expected = method.most_passes(model.graph, len(task.train))
    assert 0.5 * expected < passes < 1.6 * expected


@EACH_METHOD
def test_a_batch_larger_than_the_data_is_all_of_it(method: MaskMethod) -> None:
    task = toys.task(toys.random_pairs(4))
    four, many = (
        discover(dataclasses.replace(method, batch_size=size), task=task) for size in (4, 400)
    )
    assert same(four, many)
