"""GPT-2 small's shape with random weights, 200 prompts of 16 tokens: what each method costs.

The paper (Bhaskar et al., NeurIPS 2024, table 1) gives seconds of each method on one H100.
"""

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.speed.gpu.cases import ATTRIBUTION
from benchmarks.speed.gpu.clock import median_seconds, peak_bytes, seconds, waits
from benchmarks.speed.gpu.parts import PRECISIONS, Measurement, Row, Setting
from benchmarks.speed.random_models import SPARSITIES, random_circuits, random_task
from edgewise import batches
from edgewise.attribution import Attribution
from edgewise.circuit import EdgeScores
from edgewise.discovery import synchronize
from edgewise.evaluate import evaluate
from edgewise.mask_training import MaskTraining
from edgewise.precision import products_in
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer
from methods import acdc
from methods.acdc import ACDC
from methods.eap import EAP
from methods.edge_pruning import EdgePruning

PAPER_STEPS = 3000
_SHORT = [one for one in ATTRIBUTION if one.name not in ("eap", "eap-ig-activations", "exact")]
"""EAP is measured by itself; the other two take some hundred times as many passes."""
AT_ONCE = (1, 4, 16)
"""Edges that ACDC tests in one pass at the most."""
PAPER_SECONDS = {"edge-pruning": 2756, "acdc": 18_783}
PAPER_EAP_SECONDS = {200: 21, 100_000: 12_260}
"""By the number of prompts."""


@dataclass(frozen=True)
class Sizes:
    """What is run; the toy's are for a test on a CPU."""

    config: dict[str, Any]
    prompts: int = 200
    positions: int = 16
    batch: int = 32
    rounds: int = 20
    steps: int = 300
    many_prompts: int = 100_000
    threshold: float = 2.74e-4
    """Of ACDC. With random weights it keeps 7 % of the edges tested first, 0.4 % of all."""
    lower_threshold: float = 2.1e-5
    """It keeps 4 % of the edges tested first."""
    tests: int = 4000
    """Of ACDC at the lower threshold, where numbers of edges at once are compared."""
    acdc_seconds: float = 110.0


FULL = Sizes({})
TOY = Sizes(
    dict(n_layer=2, n_head=2, n_embd=16, vocab_size=50, bos_token_id=0, eos_token_id=0),
    prompts=6,
    positions=5,
    batch=4,
    rounds=2,
    steps=6,
    many_prompts=20,
    tests=20,
    acdc_seconds=1.0,
)


@dataclass(frozen=True, eq=False)
class Bench:
    """The models of one shape, made when they are asked for, and what they are run on."""

    device: torch.device
    sizes: Sizes

    @cache  # noqa: B019 (it lives as long as the part)
    def hugging_face(self, dtype: torch.dtype) -> Any:
        torch.manual_seed(0)
        model: Any = GPT2LMHeadModel(GPT2Config(**self.sizes.config))
        return model.to(self.device, dtype).eval()

    @cache  # noqa: B019
    def model(self, dtype: torch.dtype) -> MaskedTransformer:
        return MaskedTransformer(self.hugging_face(dtype))

    def task(self, model: MaskedTransformer, prompts: int | None = None) -> Task:
        count = prompts or self.sizes.prompts
        return random_task(model, prompts=count, positions=self.sizes.positions)

    def generator(self) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(0)


def measurements(setting: Setting) -> list[Measurement]:
    bench = Bench(setting.device, TOY if setting.toy else FULL)
    at, lower = bench.sizes.threshold, bench.sizes.lower_threshold
    steps = [
        (f"edge-pruning step, {precision}, {how}", partial(_step, bench, precision, graphs))
        for precision in PRECISIONS
        for how, graphs in (("one by one", False), ("recorded", True))
    ]
    return [
        *steps,
        ("edge-pruning, a tenth of the steps", partial(_discovery, bench)),
        ("edge-pruning, losses by precision", partial(_losses, bench)),
        ("eap", partial(_eap, bench, bench.sizes.prompts)),
        *((f"scores of {one.name}", partial(_scores, bench, one)) for one in _SHORT),
        ("a curve of ten circuits", partial(_curve, bench)),
        (f"acdc at {at:.3g}, one by one", partial(_acdc, bench, at, graphs=False)),
        *(
            (
                f"acdc at {at:.3g}, recorded, {precision}{_several(edges)}",
                partial(_acdc, bench, at, precision, at_once=edges),
            )
            for precision in ("float32", "tf32")
            for edges in AT_ONCE
        ),
        *(
            (
                f"acdc at {lower:.3g}, first tests, recorded, {precision}{_several(edges)}",
                partial(_acdc, bench, lower, precision, at_once=edges, tests=bench.sizes.tests),
            )
            for precision in ("tf32", "float32")
            for edges in AT_ONCE
        ),
        *(
            (f"acdc at {lower:.3g}, recorded, {precision}", partial(_acdc, bench, lower, precision))
            for precision in ("tf32", "float32")
        ),
    ]


def measurements_of_many_prompts(setting: Setting) -> list[Measurement]:
    bench = Bench(setting.device, TOY if setting.toy else FULL)
    return [("eap", partial(_eap, bench, bench.sizes.many_prompts))]


def training_of(bench: Bench, dtype: torch.dtype, *, graphs: bool) -> MaskTraining:
    model = bench.model(dtype)
    model.cuda_graphs = graphs
    method = EdgePruning(batch_size=bench.sizes.batch)
    return method.training(model, bench.task(model), bench.generator())


def _step(bench: Bench, precision: str, graphs: bool) -> Row:
    """Milliseconds of a step, and of products of as many operations in the same precision."""
    with products_in(precision) as dtype:
        training, steps = training_of(bench, dtype, graphs=graphs), itertools.count()
        model = bench.model(dtype)

        def step() -> None:
            training.step(next(steps))

        for _ in range(5):  # the recording is the fourth
            step()
        before = model.flops
        step()
        operations = model.flops - before
        taken = median_seconds(step, bench.device, rounds=bench.sizes.rounds)
        in_products = _products(operations, dtype, bench)
        row = {
            "milliseconds": 1e3 * taken,
            "products_milliseconds": 1e3 * in_products,
            "ratio": taken / in_products,
            "tflop": operations / 1e12,
            "projected_seconds_of_3000_steps": PAPER_STEPS * taken,
            "paper_seconds": PAPER_SECONDS["edge-pruning"],
            "peak_bytes": peak_bytes(step, bench.device),
        }
        if not graphs:
            row["waits"] = waits(step, bench.device)
    return row


def _products(operations: float, dtype: torch.dtype, bench: Bench) -> float:
    """Seconds of large square products of as many operations."""
    width = 4096 if bench.device.type == "cuda" else 256
    left, right = torch.randn(2, width, width, device=bench.device).to(dtype)
    taken = median_seconds(lambda: left @ right, bench.device, rounds=10, warm_up=3)
    return taken * operations / (2 * width**3)


def _discovery(bench: Bench) -> Row:
    """A discovery from end to end, recorded, its schedule shortened tenfold."""
    with products_in("float32") as dtype:
        model = bench.model(dtype)
        model.cuda_graphs = True
        steps = bench.sizes.steps
        method = EdgePruning(
            steps=steps,
            warmup_steps=steps // 15,
            target_warmup_steps=steps * 5 // 6,
            batch_size=bench.sizes.batch,
        )
        task = bench.task(model)
        found: list[Any] = []

        def discover() -> None:
            found.append(method.discover(model, task, generator=bench.generator()))

        taken = seconds(discover, bench.device)
    return {"seconds": taken, "steps": steps, "edges": found[0].n_edges}


def _losses(bench: Bench) -> Row:
    """Log-alphas after the same steps in each precision, against float32's."""
    after: dict[str, Tensor] = {}
    steps = min(50, bench.sizes.steps)
    for name in ("float32, recorded", *PRECISIONS):
        precision, _, how = name.partition(", ")
        with products_in(precision) as dtype:
            training = training_of(bench, dtype, graphs=bool(how))
            for step in range(steps):
                training.step(step)
            after[name] = training.state(steps)[0]["log_alpha"].detach().float().clone()
    reference = after["float32"]
    row: Row = {"steps": steps}
    for name, log_alpha in after.items():
        distance = (log_alpha - reference).abs()
        row[name] = {"largest": float(distance.max()), "mean": float(distance.mean())}
    return row


def _eap(bench: Bench, prompts: int) -> Row:
    row: Row = {"prompts": prompts, "paper_seconds": PAPER_EAP_SECONDS.get(prompts)}
    scores: dict[str, Tensor] = {}
    for precision in PRECISIONS if prompts == bench.sizes.prompts else PRECISIONS[:1]:
        with products_in(precision) as dtype:
            model = bench.model(dtype)
            task = bench.task(model, prompts)

            def discover(model: MaskedTransformer = model, task: Task = task) -> EdgeScores:
                return EAP().discover(model, task, generator=bench.generator())

            if prompts == bench.sizes.prompts:
                scores[precision] = discover().values
            row[f"seconds, {precision}"] = seconds(discover, bench.device)
            row[f"peak_bytes, {precision}"] = (
                peak_bytes(discover, bench.device) if prompts == bench.sizes.prompts else None
            )
    for precision, values in scores.items():
        row[f"rank correlation with float32, {precision}"] = _rank_correlation(
            values, scores["float32"], bench.model(torch.float32).graph.legal
        )
    return row


def _scores(bench: Bench, method: Attribution) -> Row:
    with products_in("float32") as dtype:
        model = bench.model(dtype)
        given = model, bench.task(model)

        def discover() -> EdgeScores:
            return method.discover(*given, generator=bench.generator())

        rounds = max(2, bench.sizes.rounds // 4)
        taken = median_seconds(discover, bench.device, rounds=rounds, warm_up=1)
        peak = peak_bytes(discover, bench.device)
    return {"label": method.label, "seconds": taken, "peak_bytes": peak}


def _rank_correlation(values: Tensor, reference: Tensor, legal: Tensor) -> float:
    ranks = [scores[legal].argsort().argsort().double() for scores in (values, reference)]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


def curve_of(bench: Bench) -> Callable[[], Any]:
    """The evaluation of ten circuits, cuts of one Random ranking, on all prompts."""
    model = bench.model(torch.float32)
    task = bench.task(model)
    given = model, task.test, random_circuits(model, task)
    return lambda: evaluate(*given, metrics=task.metrics, ablation=task.ablation)


def _curve(bench: Bench) -> Row:
    """Against as many forward passes of Hugging Face's own model."""
    hugging_face = bench.hugging_face(torch.float32)
    tokens = bench.task(bench.model(torch.float32)).test.clean.to(bench.device)

    @torch.no_grad()
    def passes() -> None:
        for _ in SPARSITIES:
            hugging_face(tokens, use_cache=False)

    with products_in("float32"):
        curve, rounds = curve_of(bench), max(2, bench.sizes.rounds // 4)
        ours = median_seconds(curve, bench.device, rounds=rounds, warm_up=1)
        theirs = median_seconds(passes, bench.device, rounds=rounds, warm_up=1)
        return {
            "milliseconds": 1e3 * ours,
            "hugging_face_milliseconds": 1e3 * theirs,
            "ratio": ours / theirs,
            "waits": waits(curve, bench.device),
        }


def _several(edges: int) -> str:
    return f", up to {edges} edges at once" if edges > 1 else ""


class _Stop(Exception):
    """The search has gone as far as it was to go."""


class _Watch:
    """A checkpoint that is never saved: it ends the search after some seconds or tests."""

    def __init__(self, limit: float, tests: float) -> None:
        self.end, self.tests, self.left = time.monotonic() + limit, tests, 0
        self.counts = {"tested": 0, "dropped": 0}

    def load(self) -> None:
        return None

    def due(self) -> bool:
        return True

    def save(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        self.counts, self.left = dict(state["counts"]), int(tensors["mask"].sum())
        if time.monotonic() > self.end or self.counts["tested"] >= self.tests:
            raise _Stop


def _acdc(
    bench: Bench,
    threshold: float,
    precision: str = "float32",
    *,
    graphs: bool = True,
    at_once: int = 1,
    tests: float = math.inf,
) -> Row:
    """Time per tested edge from `out` down, as far as the seconds or the tests suffice."""
    tokens = at_once * bench.sizes.prompts * bench.sizes.positions
    more = mock.patch.multiple("edgewise.batches", BATCH_TOKENS=max(tokens, batches.BATCH_TOKENS))
    with products_in(precision) as dtype, mock.patch.object(acdc, "AT_ONCE", at_once), more:
        model = bench.model(dtype)
        model.cuda_graphs = graphs
        watch = _Watch(bench.sizes.acdc_seconds, tests)
        start = time.perf_counter()
        finished = _search(bench, model, threshold, watch)
        synchronize(bench.device)
        taken = time.perf_counter() - start
    decided = watch.counts["tested"] + watch.counts["dropped"]
    return {
        "threshold": threshold,
        "seconds": taken,
        "finished": finished,
        "tested": watch.counts["tested"],
        "dropped": watch.counts["dropped"],
        "kept": watch.left - (model.graph.n_edges - decided),
        "milliseconds_per_test": 1e3 * taken / max(1, watch.counts["tested"]),
        "projected_seconds": taken * model.graph.n_edges / max(1, decided),
        "paper_seconds": PAPER_SECONDS["acdc"],
    }


def _search(bench: Bench, model: MaskedTransformer, threshold: float, watch: Any) -> bool:
    """Whether the search came to its end; the watch knows how far it came."""
    given = {"generator": bench.generator(), "checkpoint": watch}
    try:
        found = ACDC(threshold=threshold).discover(model, bench.task(model), **given)
    except _Stop:
        return False
    watch.counts, watch.left = dict(found.meta), found.n_edges
    return True
