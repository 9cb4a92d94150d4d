"""Part 1: a device gives what the CPU gives, for every architecture, method and way of running.

Models are tiny and their weights random, drawn on the CPU and then moved. A difference is relative
to the largest value expected unless a check says otherwise; each row gives the largest difference
seen and the tolerance that it was held to. The CPU as the device is compared with itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import torch
from torch import Generator, Tensor
from transformers.utils.import_utils import is_accelerate_available

from benchmarks.speed.gpu.cases import (
    ALL,
    ATTRIBUTION,
    CPU,
    FEW,
    MASKS,
    SCHEDULE,
    TOKENS,
    Case,
    Shape,
    case_of,
)
from benchmarks.speed.gpu.parts import Measurement, Row, Setting
from benchmarks.speed.random_models import random_task
from edgewise.attribution import Attribution
from edgewise.circuit import Circuit
from edgewise.discovery import Checkpoint, Meter
from edgewise.evaluate import evaluate
from edgewise.graph import ABLATIONS, Ablation, Graph
from edgewise.mask_training import MaskMethod, MaskTraining
from edgewise.precision import products_in
from edgewise.prefix import NO_PREFIX, Prefix
from edgewise.prompts import PromptPairs
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer
from methods.acdc import ACDC
from methods.eap import EAP
from methods.edge_pruning import EdgePruning

Tensors = Sequence[Tensor]
Run = Callable[[MaskedTransformer], list[Tensor]]
TRAINING = EdgePruning(node_loss=True, **SCHEDULE)
ACDCS = {"gpt2": ACDC(0.02), "llama": ACDC(0.08)}
"""At these thresholds edges stay, edges are dropped untested, and no decision is close."""


def _held(found: Tensors, expected: Tensors, tolerance: float, *, absolute: bool = False) -> Row:
    """The row of a check that holds; AssertionError with both numbers of one that does not."""
    differences: list[Tensor] = []
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape, f"shape {ours.shape}; expected {theirs.shape}"
        ours, theirs = ours.detach().cpu().double(), theirs.detach().cpu().double()
        # A circuit that nothing leads out of may give zeros alone: their differences are absolute.
        scale = 1.0 if absolute else float(theirs.abs().max()) or 1.0
        differences.append((ours - theirs).abs().max() / scale)
    largest = float(torch.stack(differences).max())
    if not largest <= tolerance:  # unlike `>`, this catches NaN
        raise AssertionError(f"largest difference {largest:g}; tolerance {tolerance:g}")
    return {"largest": largest, "tolerance": tolerance}


_SEEDED = Generator().manual_seed(1)
CLEAN, CORRUPTED, BEFORE = torch.randint(TOKENS["vocab_size"], (3, 3, 7), generator=_SEEDED)
TARGETS = torch.tensor([[6, 1], [2, 3], [0, 5]])


def _soft(graph: Graph, n_masks: int = 3) -> Tensor:
    return torch.rand(n_masks, *graph.legal.shape, generator=Generator().manual_seed(0))


def _ablated(model: MaskedTransformer, ablation: Ablation, *prefix: Prefix) -> Tensor | None:
    if ablation == "zero":
        return None
    activations = model.activations(CORRUPTED, *prefix)
    return activations if ablation == "interchange" else activations.mean(0)


def _hugging_face(case: Case, tolerance: float | None = None) -> Row:
    """Masks of ones under every ablation; a mask of zeros is the model on corrupted prompts."""
    model, ones = case.model, torch.ones(case.model.graph.legal.shape)
    with torch.no_grad():
        full, corrupted = (case.hf(tokens.to(model.device)).logits for tokens in (CLEAN, CORRUPTED))
    found = [model(CLEAN), *(model(CLEAN, ones, _ablated(model, one)) for one in ABLATIONS)]
    found.append(model(CLEAN, 0 * ones, _ablated(model, "interchange")))
    return _held(found, [full] * 4 + [corrupted], tolerance or case.tolerance)


def _logits(model: MaskedTransformer) -> list[Tensor]:
    """Of sparse, dense and soft masks, one and several at once, under every ablation."""
    soft = _soft(model.graph).to(model.device)
    found: list[Tensor] = []
    for ablation in ABLATIONS:
        ablated = _ablated(model, ablation)
        for masks in (soft < 0.2, soft < 0.7, soft):
            found += [model(CLEAN, masks, ablated), model(CLEAN, masks[0], ablated)]
    return found


def _gradient(model: MaskedTransformer, mask: Tensor, *given: Any) -> Tensor:
    """The mask's, of a loss in which every logit counts, and not linearly."""
    mask = mask.to(model.device, model.dtype, copy=True).requires_grad_()
    logits = model(CLEAN, mask, *given)
    weights = torch.linspace(-1, 2, logits.numel(), dtype=model.dtype, device=model.device)
    return torch.autograd.grad((weights.view_as(logits) * logits.tanh()).sum(), mask)[0]


def _gradients(model: MaskedTransformer) -> list[Tensor]:
    masks = _soft(model.graph)
    both = masks, masks[0]
    return [_gradient(model, mask, _ablated(model, one)) for one in ABLATIONS for mask in both]


def _with_targets(model: MaskedTransformer) -> list[Tensor]:
    """Logits and gradients at targets alone, with and without a shared prefix."""
    soft, targets = _soft(model.graph).to(model.device), TARGETS.to(model.device)
    found: list[Tensor] = []
    for prefix in (NO_PREFIX, model.prefix(BEFORE[0])):
        given = _ablated(model, "interchange", prefix), targets, prefix
        found += [model(CLEAN, masks, *given) for masks in (soft < 0.2, soft < 0.7, soft)]
        found += [model(CLEAN, targets=targets, prefix=prefix), _gradient(model, soft, *given)]
    return found


def _as_on_cpu(run: Run, tolerance: float, case: Case, *, absolute: bool = False) -> Row:
    """Held to a tolerance of its own, or to the model's if that is wider."""
    found, expected = run(case.model), run(case.reference)
    tolerance = tolerance if absolute else max(tolerance, case.tolerance)
    return _held(found, expected, tolerance, absolute=absolute)


def _reuse(case: Case) -> Row:
    """A buffer runs masks of which a few rows differ from the last, and at last soft ones."""
    model, ablated = case.model, _ablated(case.model, "interchange")
    soft, found, expected = _soft(model.graph, 2).to(model.device), [], []
    for density in (0.12, 0.9):
        masks, buffer = soft < density, model.buffer(CLEAN, ablated, n_masks=2)
        for row in range(0, len(model.graph.readers), 5):
            masks[:, row] = ~masks[:, row]
            found.append(model.run(buffer, masks))
            expected.append(model(CLEAN, masks, ablated))
        found.append(model.run(buffer, soft, TARGETS))
        expected.append(model(CLEAN, soft, ablated, TARGETS))
    return _held(found, expected, case.tolerance)


def _recompute(case: Case) -> Row:
    """Blocks run again do the same operations, so nothing at all may differ."""
    expected = _gradients(case.model)
    with mock.patch.object(case.model, "recompute", True):
        return _held(_gradients(case.model), expected, 0)


def _task(model: MaskedTransformer, ablation: Ablation = "interchange", n_targets: int = 2) -> Task:
    """Random prompts of several lengths, each scored at its last positions."""
    task = random_task(model, prompts=6, positions=8)
    clean, corrupted, lengths = task.train.clean, task.train.corrupted, 8 - torch.arange(6) % 3
    targets = lengths[:, None] - torch.arange(n_targets, 0, -1)
    answers, distractors = clean[:, -n_targets:], corrupted[:, -n_targets:]
    pairs = PromptPairs(clean, corrupted, lengths, targets, answers, distractors)
    return replace(task, train=pairs, validation=pairs, test=pairs, ablation=ablation)


def _scores(model: MaskedTransformer, method: Attribution | None = None) -> list[Tensor]:
    """The method's (EAP's) under every ablation that it takes."""
    method = method or EAP()
    tasks = [_task(model, one) for one in method.ablations]
    found = [method.discover(model, task, generator=Generator(model.device)) for task in tasks]
    return [scores.extra["signed"] for scores in found]


def _acdc(case: Case) -> Row:
    """Edges and counts that differ, where only a close decision would excuse a difference."""
    ours, theirs = (
        ACDCS[case.shape.name].discover(model, _task(model), generator=Generator(model.device))
        for model in (case.model, case.reference)
    )
    row = {"edges": ours.n_edges, **ours.meta, "close_on_the_cpu": theirs.meta["close"]}
    differing = [abs(ours.meta[name] - theirs.meta[name]) for name in ("tested", "dropped")]
    differing.append(int((ours.mask ^ theirs.mask).sum()))
    if max(differing) > 0:
        raise AssertionError(f"largest difference {max(differing)}; tolerance 0; {row}")
    return {"largest": 0, "tolerance": 0, **row}


def _training(model: MaskedTransformer, n_targets: int = 1, noise_samples: int = 1) -> MaskTraining:
    """Edge Pruning with its masks about half open: fresh ones are open and take no gradient."""
    generator = Generator(model.device).manual_seed(0)
    method = replace(TRAINING, noise_samples=noise_samples)
    training = method.training(model, _task(model, n_targets=n_targets), generator)
    tensors, state = training.state(0)
    noise = torch.randn(len(tensors["log_alpha"]), generator=Generator().manual_seed(1))
    training.restore({**tensors, "log_alpha": 2 * noise}, state)
    return training


def _trained(training: MaskTraining, steps: range) -> list[Tensor]:
    for step in steps:
        training.step(step)
    tensors, _ = training.state(steps.stop)
    return [tensors[name].detach().clone() for name in ("log_alpha", "multipliers")]


def _five_steps(model: MaskedTransformer) -> list[Tensor]:
    return _trained(_training(model), range(5))


def _drawn(draw: Callable[..., Tensor], source: Generator, *size: Any, **given: Any) -> Tensor:
    """What `source` draws, moved to where it is wanted; the caller's generator is left alone."""
    out, device = given.pop("out", None), given.pop("device", None)
    values = draw(*size, **{**given, "generator": source})
    return values.to(device or CPU) if out is None else out.copy_(values)


def _drawn_on_the_cpu(steps: int, model: MaskedTransformer) -> list[Tensor]:
    """Trained with the same random numbers on every device, each of which would draw its own."""
    source, names = Generator().manual_seed(0), ("rand", "randn", "randperm")
    drawn: dict[str, Any] = {name: partial(_drawn, getattr(torch, name), source) for name in names}
    with mock.patch.multiple(torch, **drawn):
        # On a GPU, steps of prompts with one target are recorded and replayed, others are not.
        return [
            values
            for targets, samples in ((1, 1), (2, 1), (1, 4))
            for values in _trained(_training(model, targets, samples), range(steps))
        ]


def _resumed(case: Case) -> Row:
    """Stopped after half of the steps and taken up from a file, a run goes on bit by bit."""
    steps, half = TRAINING.steps, TRAINING.steps // 2
    undisturbed = _training(case.model)
    expected = _trained(undisturbed, range(steps))
    with TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder) / "state.safetensors", Meter(case.model))
        stopped = _training(case.model)
        _trained(stopped, range(half))
        checkpoint.save(*stopped.state(half))
        saved: Any = checkpoint.load()
    resumed = _training(case.model)
    found = _trained(resumed, range(resumed.restore(*saved), steps))
    masks = [_cut(one, case.model.graph) for one in (resumed, undisturbed)]
    return _held([*found, masks[0]], [*expected, masks[1]], 0)


def _cut(training: MaskTraining, graph: Graph) -> Tensor:
    circuit = TRAINING.finish(training.masks.trained(), graph)
    assert isinstance(circuit, Circuit)
    return circuit.mask.double()


def _replayed(method: MaskMethod, case: Case) -> Row:
    """A training whose steps are recorded and replayed gives the same result as single steps."""

    def trained() -> list[Tensor]:
        generator = Generator(case.model.device).manual_seed(0)
        task = _task(case.model, n_targets=1)
        extra = method.discover(case.model, task, generator=generator).extra
        return [extra[name] for name in sorted(extra)]

    single_steps = trained()
    with mock.patch.object(case.model, "cuda_graphs", True):
        return _held(trained(), single_steps, 1e-4)


def _divergences(model: MaskedTransformer) -> list[Tensor]:
    """The KL of circuits of six sizes on six prompts, under every ablation."""
    task, soft = _task(model), _soft(model.graph, 6)
    circuits = [Circuit(mask < 0.15 * (1 + size), model.graph) for size, mask in enumerate(soft)]
    given = model, task.test, circuits
    return [evaluate(*given, metrics=task.metrics, ablation=one)["kl"] for one in ABLATIONS]


def _twice(run: Run, case: Case) -> Row:
    """The same run again gives the same bits."""
    return _held(run(case.model), run(case.model), 0)


MODULES = {
    "gpt2": "transformer.wte transformer.wpe transformer.ln_f transformer.h.0 transformer.h.1",
    "llama": "model.embed_tokens model.rotary_emb model.norm model.layers.0 model.layers.1",
}


def _two_devices(case: Case, *, home_on_the_cpu: bool) -> Row:
    """The second layer lies elsewhere than the embedding, by Hugging Face's device map."""
    if case.model.device.type == "cpu":
        return {"skipped": "one device only"}
    if not is_accelerate_available():
        return {"skipped": "accelerate cannot be imported"}
    # As a device: accelerate takes the string "cpu" for a place from which weights are fetched.
    home, away = (CPU, case.model.device)[:: 1 if home_on_the_cpu else -1]
    *at_home, elsewhere = MODULES[case.shape.model_type].split()
    with TemporaryDirectory() as folder:
        case.shape.build().save_pretrained(folder)
        device_map = {**dict.fromkeys([*at_home, "lm_head"], home), elsewhere: away}
        model = MaskedTransformer.from_pretrained(folder, device_map=device_map)
    assert {weight.device for weight in model.architecture.weights().values()} == {home, away}
    found, expected = (
        [*_logits(one), *_gradients(one), *_with_targets(one)] for one in (model, case.reference)
    )
    return _held(found, expected, case.tolerance)


def _recorded(check: Callable[[Case], Row], case: Case) -> Row:
    """The same with CUDA graphs, where the device has them; ACDC records all that it can."""
    recording = mock.patch.object(case.model, "cuda_graphs", True)
    with recording, mock.patch("edgewise.objective.WORTH_RECORDING", 1):
        return check(case)


Check = tuple[str, Callable[[Case], Row], Sequence[torch.dtype], Sequence[Shape]]
_ONE_STEP, _TEN_STEPS = partial(_drawn_on_the_cpu, 1), partial(_drawn_on_the_cpu, 10)
_TEN_AS_ON_CPU = partial(_as_on_cpu, _TEN_STEPS, 1e-3, absolute=True)
_DOUBLE, _SINGLE, _BOTH = [torch.float64], [torch.float32], [torch.float64, torch.float32]
CHECKS: tuple[Check, ...] = (
    ("Hugging Face's logits", _hugging_face, _BOTH, ALL),
    ("Hugging Face's logits", partial(_hugging_face, tolerance=0.05), [torch.bfloat16], ALL),
    ("logits", partial(_as_on_cpu, _logits, 0), _BOTH, ALL),
    ("gradients", partial(_as_on_cpu, _gradients, 0), _BOTH, ALL),
    ("targets and a prefix", partial(_as_on_cpu, _with_targets, 0), _BOTH, ALL),
    ("a used buffer", _reuse, _BOTH, ALL),
    ("recomputed gradients", _recompute, _SINGLE, FEW),
    *(
        (method.label, partial(_as_on_cpu, partial(_scores, method=method), 1e-8), _BOTH, FEW)
        for method in ATTRIBUTION
    ),
    ("ACDC", _acdc, _DOUBLE, FEW),
    ("Edge Pruning, 1 step", partial(_as_on_cpu, _ONE_STEP, 1e-5, absolute=True), _DOUBLE, FEW),
    ("Edge Pruning, 10 steps", _TEN_AS_ON_CPU, _DOUBLE, FEW),
    ("Edge Pruning resumed", _resumed, _SINGLE, FEW),
    ("evaluation", partial(_as_on_cpu, _divergences, 1e-5, absolute=True), _SINGLE, FEW),
    ("EAP twice", partial(_twice, _scores), _SINGLE, FEW),
    ("Edge Pruning twice", partial(_twice, _five_steps), _SINGLE, FEW),
    ("evaluation twice", partial(_twice, _divergences), _SINGLE, FEW),
    ("ACDC recorded", partial(_recorded, _acdc), _DOUBLE, FEW),
    *(
        (f"{name}, recorded", partial(_recorded, check), dtypes, FEW)
        for name, check, dtypes in (
            ("Edge Pruning, 10 steps", _TEN_AS_ON_CPU, _DOUBLE),
            ("Edge Pruning resumed", _resumed, _SINGLE),
            ("Edge Pruning twice", partial(_twice, _five_steps), _SINGLE),
        )
    ),
    *((f"{method.label}, replayed", partial(_replayed, method), _DOUBLE, FEW) for method in MASKS),
    ("home on the CPU", partial(_two_devices, home_on_the_cpu=True), _SINGLE, FEW),
    ("a layer on the CPU", partial(_two_devices, home_on_the_cpu=False), _SINGLE, FEW),
)


def measurements(setting: Setting) -> list[Measurement]:
    """Every check of every shape in every type; toys are two shapes."""

    def measure(check: Callable[[Case], Row], *given: Any) -> Row:
        with products_in("float32"):
            return check(case_of(*given))

    return [
        (
            f"{shape.name}, {str(dtype).removeprefix('torch.')}: {name}",
            partial(measure, check, shape, dtype, setting.device),
        )
        for name, check, dtypes, shapes in CHECKS
        for shape in shapes
        for dtype in dtypes
        if shape in FEW or not setting.toy
    ]
