"""Edge Pruning: its masks against the published formulas, its training, and what it keeps."""

import contextlib
import dataclasses
import itertools
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgewise.circuit import Circuit
from edgewise.discovery import Checkpoint, Meter
from edgewise.graph import Ablation
from edgewise.hard_concrete import evaluation_masks, sampled_masks, tensor_sizes
from edgewise.metrics import kl_divergence
from edgewise.prompts import PromptPairs
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer
from methods.edge_pruning import EdgePruning
from tests.methods import toys
from tests.models import ABLATIONS

SHORT = EdgePruning(
    steps=20, warmup_steps=4, target_warmup_steps=15, batch_size=3, target_sparsity=0.9
)
CLOSING = EdgePruning(
    steps=200, warmup_steps=10, target_warmup_steps=140, batch_size=5, target_sparsity=0.7
)
"""Most masks close, some stay open."""


def discover(
    settings: EdgePruning,
    model: MaskedTransformer | None = None,
    task: Task | None = None,
    *,
    seed: int = 0,
    checkpoint: Checkpoint | None = None,
) -> Circuit:
    found = settings.discover(
        model or toys.gpt2(torch.float32),
        task or toys.task(toys.random_pairs(5)),
        generator=torch.Generator().manual_seed(seed),
        checkpoint=checkpoint,
    )
    assert isinstance(found, Circuit)
    return found


def saved_every_step(folder: Path, model: MaskedTransformer) -> Checkpoint:
    return Checkpoint(folder / "state.safetensors", Meter(model), every_seconds=0.0)


class Recorder(Checkpoint):
    """Keeps every state in memory."""

    def __init__(self, model: MaskedTransformer) -> None:
        super().__init__(Path("never written"), Meter(model), every_seconds=0.0)
        self.states: list[dict[str, Tensor]] = []

    def save(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        assert state == {"step": len(self.states)}
        self.states.append({name: tensor.detach().clone() for name, tensor in tensors.items()})


def states(
    settings: EdgePruning, *, steps: int | None = None, task: Task | None = None
) -> list[dict[str, Tensor]]:
    """What training holds before each of its first steps (default: all of them)."""
    model, task = toys.gpt2(torch.float32, n_layer=1), task or toys.task()
    loss = toys.interrupting(task.training_loss, settings.steps if steps is None else steps)
    recorder = Recorder(model)
    with contextlib.suppress(toys.Interrupted):
        discover(
            settings, model, dataclasses.replace(task, training_loss=loss), checkpoint=recorder
        )
    return recorder.states


def planted(
    log_alpha: Tensor, nodes: Tensor, settings: EdgePruning, step: int, folder: Path
) -> Checkpoint:
    """A run that has arrived at `step` with these log-alphas."""
    checkpoint = saved_every_step(folder, toys.gpt2(torch.float32))
    tensors = {
        "generator": torch.Generator().get_state(),
        "log_alpha": torch.cat([log_alpha, nodes]),
        "multipliers": torch.zeros(4 if settings.node_loss else 2),
    }
    checkpoint.save(tensors, {"step": step})
    return checkpoint


def constant_loss(logits: Tensor, full: Tensor, pairs: PromptPairs) -> Tensor:
    return 0 * logits.sum((-2, -1))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_sampled_masks_are_the_hard_concrete_distribution() -> None:
    log_alpha = torch.linspace(-6, 6, 2001, dtype=torch.float64)
    noise = torch.rand(2001, dtype=torch.float64)
    u = 1e-6 + noise.numpy() * (1 - 2e-6)
    s = sigmoid((np.log(u) - np.log(1 - u) + log_alpha.numpy()) / (2 / 3))
    expected = np.clip(s * (1.1 - -0.1) - 0.1, 0, 1)
    np.testing.assert_allclose(sampled_masks(log_alpha, noise).numpy(), expected, atol=1e-12)
    assert (expected == 0).any() and (expected == 1).any()


def test_noise_at_its_ends_gives_closed_and_open_masks() -> None:
    masks = sampled_masks(torch.zeros(2), torch.tensor([0.0, 1.0]))
    assert masks.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("log_alpha", [-2.0, 0.0, 1.0, 3.0])
def test_a_sampled_mask_is_as_often_zero_or_between_as_expected(log_alpha: float) -> None:
    n = 200_000
    masks = sampled_masks(torch.full((n,), log_alpha), torch.rand(n))
    shift = 2 / 3 * math.log(0.1 / 1.1)
    zero = sigmoid(np.array(shift - log_alpha))
    one = sigmoid(np.array(log_alpha + shift))
    deviations = 5 / math.sqrt(n)
    assert float((masks == 0).double().mean()) == pytest.approx(zero, abs=deviations)
    between = (masks > 0) & (masks < 1)
    assert float(between.double().mean()) == pytest.approx(1 - zero - one, abs=deviations)


def test_at_the_start_about_seven_masks_of_gpt2_small_take_a_gradient() -> None:
    log_alpha = torch.full((32_936, 30), 10.0)
    masks = sampled_masks(log_alpha.flatten(), torch.rand(log_alpha.numel()))
    assert float((masks < 1).sum()) / 30 == pytest.approx(32_936 * 2.2e-4, rel=0.25)


def test_log_alphas_start_near_ten_and_multipliers_at_zero() -> None:
    (start,) = states(SHORT, steps=0)
    graph = toys.gpt2(n_layer=1).graph
    assert len(start["log_alpha"]) == graph.n_edges + len(graph.writers)
    assert ((start["log_alpha"] - 10).abs() < 0.05).all()
    assert float(start["log_alpha"].std()) == pytest.approx(0.01, rel=0.5)
    assert start["multipliers"].tolist() == [0, 0]


@pytest.mark.slow
def test_weight_decay_alone_opens_the_masks(unchecked: None) -> None:
    """At the paper's rates an untouched log-alpha is 4.5 after 200 steps, 0.46 after 500."""
    settings = EdgePruning(batch_size=1, lagrangian_learning_rate=1e-18)
    task = toys.task(training_loss=constant_loss)
    history = states(settings, steps=500, task=task)
    means = [float(history[step]["log_alpha"].mean()) for step in (0, 200, 500)]
    assert means == pytest.approx([10, 4.5, 0.46], rel=0.01)
    settings = dataclasses.replace(settings, weight_decay=0.0)
    assert float(states(settings, steps=50, task=task)[-1]["log_alpha"].mean()) > 9.9


def test_the_rates_rise_linearly_and_then_fall_linearly_to_zero() -> None:
    """Read off the decay of untouched log-alphas, 1 − rate · 0.5 a step."""
    settings = EdgePruning(
        steps=12,
        warmup_steps=4,
        learning_rate=0.1,
        lagrangian_learning_rate=1e-18,
        weight_decay=0.5,
        batch_size=1,
    )
    history = states(settings, task=toys.task(training_loss=constant_loss))
    sizes = [float(state["log_alpha"].double().mean()) for state in history]
    rates = [(1 - after / before) / 0.5 for before, after in itertools.pairwise(sizes)]
    rising = [0.1 * step / 4 for step in range(4)]
    falling = [0.1 * (12 - step) / 8 for step in range(4, 11)]
    assert rates == pytest.approx(rising + falling, abs=1e-5)


def test_the_gradient_of_log_alphas_and_multipliers_together_is_clipped_to_norm_1() -> None:
    """Read off Adam's first moment, a tenth of the first gradient; the loss is loud."""
    task = toys.task(training_loss=lambda *args: 1000 * kl_divergence(*args))
    training = SHORT.training(toys.gpt2(torch.float32), task, torch.Generator().manual_seed(0))
    start, _ = training.state(5)
    training.restore({**start, "log_alpha": torch.zeros_like(start["log_alpha"])}, {"step": 5})
    training.step(5)
    after, _ = training.state(6)
    moments = torch.cat([after["log_alpha.exp_avg"], after["multipliers.exp_avg"]])
    assert float(moments.norm()) == pytest.approx(0.1)


def test_multipliers_ascend(unchecked: None) -> None:
    """λ₁ falls while the sparsity is below its target and rises while above; λ₂ only rises."""
    history = torch.stack([state["multipliers"] for state in states(CLOSING)])
    first, second = history.diff(dim=0).T
    assert (first[1:20] < 0).all()
    assert (first > 0).any()
    assert (second[1:20] > 0).all()


@pytest.mark.slow
def test_a_target_above_one_presses_harder(unchecked: None) -> None:
    reachable, unreachable = (
        states(dataclasses.replace(CLOSING, target_sparsity=target))[-1] for target in (0.7, 1.2)
    )
    assert unreachable["multipliers"][0] < reachable["multipliers"][0] - 1
    assert all(torch.isfinite(values).all() for values in unreachable.values())


def test_node_masks_multiply_whole_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all edges open, every edge of a writer carries the writer's own mask."""
    model = toys.gpt2(torch.float32)
    graph, seen = model.graph, []

    def spy(buffer: Any, mask: Tensor, *args: Any, **options: Any) -> Tensor:
        seen.append(mask)
        return run(buffer, mask, *args, **options)

    run = model.run
    monkeypatch.setattr(model, "run", spy)
    checkpoint = planted(
        torch.full((graph.n_edges,), 40.0), torch.zeros(len(graph.writers)), SHORT, 19, tmp_path
    )
    discover(SHORT, model, checkpoint=checkpoint)
    (mask,) = seen
    assert (mask[~graph.legal] == 0).all()
    assert torch.equal(mask[graph.legal], mask[-1].expand_as(mask)[graph.legal])
    assert len(mask[-1].unique()) > 3


def test_without_node_masks_only_edges_are_trained(unchecked: None) -> None:
    circuit = discover(dataclasses.replace(CLOSING, node_masks=False))
    assert circuit.extra.keys() == {"log_alpha"}
    sizes, _ = tensor_sizes(circuit.graph)
    soft = evaluation_masks(circuit.extra["log_alpha"][circuit.graph.legal], sizes)
    assert circuit.n_edges == round(float(soft.sum()))
    assert 0 < circuit.n_edges < circuit.graph.n_edges


@pytest.mark.slow
def test_the_node_loss_closes_nodes(unchecked: None) -> None:
    """With the edges' own target at almost nothing."""
    settings = dataclasses.replace(CLOSING, target_sparsity=1e-3, node_target=0.9)
    n_writers = len(toys.gpt2(n_layer=1).graph.writers)
    without, with_loss = (
        states(dataclasses.replace(settings, node_loss=node_loss))[-1]["log_alpha"][-n_writers:]
        for node_loss in (False, True)
    )
    assert with_loss.mean() < without.mean() - 1


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_it_finds_the_one_edge_that_matters(seed: int, unchecked: None) -> None:
    """All heads and MLPs write zero, so only `tok->out` does; the loss outweighs the penalty."""
    model, task = toys.gpt2(torch.float32), toys.task()
    loud = dataclasses.replace(task, training_loss=lambda *args: 1000 * kl_divergence(*args))
    for name, weight in model.architecture.weights().items():
        if "c_proj" in name:
            weight.zero_()
    circuit = discover(CLOSING, model, loud, seed=seed)
    assert "tok->out" in model.graph.edge_names(circuit.mask)


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_the_same_generator_gives_the_same_circuit_and_another_does_not(
    ablation: Ablation,
) -> None:
    model, task = toys.llama(torch.float32), toys.task(toys.random_pairs(5), ablation=ablation)
    first, again, other = (discover(SHORT, model, task, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.extra["log_alpha"], again.extra["log_alpha"])
    assert torch.equal(first.mask, again.mask)
    assert not torch.equal(first.extra["log_alpha"], other.extra["log_alpha"])


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, 1, 7, 19])
@pytest.mark.parametrize(("node_loss", "noise_samples"), [(False, 1), (True, 1), (False, 2)])
def test_an_interrupted_run_goes_on_bit_for_bit(
    tmp_path: Path, node_loss: bool, noise_samples: int, step: int
) -> None:
    settings = dataclasses.replace(SHORT, node_loss=node_loss, noise_samples=noise_samples)
    model, task = toys.gpt2(torch.float32), toys.task(toys.random_pairs(5))
    undisturbed = discover(settings, model, task)
    doomed = dataclasses.replace(task, training_loss=toys.interrupting(kl_divergence, step))
    with pytest.raises(toys.Interrupted):
        discover(settings, model, doomed, checkpoint=saved_every_step(tmp_path, model))
    checkpoint = saved_every_step(tmp_path, model)
    resumed = discover(settings, model, task, seed=99, checkpoint=checkpoint)
    assert torch.equal(resumed.mask, undisturbed.mask)
    assert resumed.extra.keys() == undisturbed.extra.keys()
    for name, values in undisturbed.extra.items():
        assert torch.equal(resumed.extra[name], values)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps=0; expected a number greater than or equal to 1"),
        ({"batch_size": 0}, "batch_size=0; expected a number greater than or equal to 1"),
        ({"noise_samples": 0}, "noise_samples=0; expected a number greater than or equal to 1"),
        ({"noise_samples": 33}, "noise_samples=33; expected 1 to 32 (batch_size)"),
        ({"warmup_steps": 3000}, "warmup_steps=3000; expected 0 to 2999"),
        ({"target_sparsity": 0.0}, "target_sparsity=0.0; expected a number greater than 0"),
        ({"learning_rate": -0.8}, "learning_rate=-0.8; expected a number greater than 0"),
        ({"node_masks": False, "node_loss": True}, "node_loss=True needs node_masks=True"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(
    settings: dict[str, Any], message: str, unchecked: None
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        EdgePruning(**settings)


@pytest.mark.parametrize("prompts_at_once", [1, 2, 3])
@pytest.mark.parametrize("noise_samples", [1, 3, 7])
def test_the_gradient_of_a_batch_in_slices_is_that_of_the_whole(
    noise_samples: int, prompts_at_once: int
) -> None:
    settings = EdgePruning(noise_samples=noise_samples)
    model, task = toys.gpt2(torch.float32), toys.task(toys.random_pairs(7))
    training = settings.training(model, task, torch.Generator().manual_seed(0))
    masks = torch.rand(noise_samples, *model.graph.legal.shape).requires_grad_()
    whole = training.gradient(masks, torch.arange(7))
    position = task.train.clean.shape[1]
    per_prompt = position * len(model.graph.writers) * model.architecture.d_model * 4
    model.batch_bytes = prompts_at_once * per_prompt
    sliced = settings.training(model, task, torch.Generator().manual_seed(0))
    assert sliced.batches.n_prompts_at_once == prompts_at_once
    torch.testing.assert_close(sliced.gradient(masks, torch.arange(7)), whole, rtol=1e-6, atol=1e-6)
