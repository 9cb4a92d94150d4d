"""The memory that a pass is expected to take is what it takes, and a budget is kept."""

import json
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from edgewise.attribution import Attribution
from edgewise.circuit import EdgeScores
from edgewise.evaluate import evaluate
from edgewise.memory import evaluation_bytes, trace_bytes, training_bytes
from edgewise.method import setting_types
from edgewise.transformer import MaskedTransformer
from methods import METHODS
from methods.edge_pruning import EdgePruning
from tests import models
from tests.methods import toys

N_PROMPTS, N_TOKENS = 40, 10


ALL = {name: kind for name, kind in METHODS.items() if issubclass(kind, Attribution)}
MODELS = {
    "gpt2": lambda: models.gpt2(n_embd=256, n_layer=4, n_head=16),
    "llama": lambda: models.llama(
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", sorted(ALL.keys() - {"exact", "activation-difference"}))
def test_a_batchs_peak_is_the_expected_one_within_a_quarter(
    name: str, model: str, tmp_path: Path, unchecked: None
) -> None:
    # The steps of a path follow one another: more of them take no more memory.
    few: dict[str, Any] = {"steps": 2} if "steps" in setting_types(ALL[name]) else {}
    method, transformer = ALL[name](**few), MaskedTransformer(MODELS[model]())
    task = toys.task(models.random_pairs([N_TOKENS] * N_PROMPTS))
    peak = _peak_of_tensors(
        lambda: method.discover(transformer, task, generator=torch.Generator()),
        tmp_path / "trace.json",
    )
    per_token = trace_bytes(transformer, traces=method.traces, outputs=method.outputs)
    expected = per_token * N_TOKENS * N_PROMPTS
    if method.traces:
        assert peak == pytest.approx(expected, rel=0.25)
    else:  # without gradients a pass takes less than a whole copy of the outputs
        assert expected / 2 < peak < expected


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("n_circuits", [1, 3])
def test_an_evaluations_peak_is_the_expected_one_within_a_quarter(
    model: str, n_circuits: int, tmp_path: Path, unchecked: None
) -> None:
    transformer = MaskedTransformer(MODELS[model]())
    pairs = models.random_pairs([N_TOKENS] * N_PROMPTS)
    graph = transformer.graph
    scores = EdgeScores(torch.rand(graph.legal.shape), graph)
    circuits = [scores.circuit(graph.n_edges - 100 * place) for place in range(n_circuits)]
    options: Any = {"metrics": toys.task(pairs).metrics, "ablation": "interchange"}
    peak = _peak_of_tensors(
        lambda: evaluate(transformer, pairs, circuits, **options), tmp_path / "trace.json"
    )
    expected = evaluation_bytes(transformer) * n_circuits * N_TOKENS * N_PROMPTS
    assert peak == pytest.approx(expected, rel=0.25)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("recompute", [False, True])
def test_a_training_steps_peak_is_the_expected_one_within_a_quarter(
    model: str, recompute: bool, tmp_path: Path, unchecked: None
) -> None:
    transformer = MaskedTransformer(MODELS[model]())
    transformer.recompute = recompute
    task = toys.task(models.random_pairs([N_TOKENS] * N_PROMPTS))
    method = EdgePruning(steps=2, warmup_steps=1, target_warmup_steps=1, batch_size=N_PROMPTS)
    training = method.training(transformer, task, torch.Generator())
    peak = _peak_of_tensors(lambda: training.step(0), tmp_path / "trace.json")
    expected = training_bytes(transformer) * N_TOKENS * N_PROMPTS
    assert peak == pytest.approx(expected, rel=0.25)


def _peak_of_tensors(run: Callable[[], object], trace: Path) -> int:
    """The most bytes that the tensors made by `run` take at once: the same in every process."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    recorded.export_chrome_trace(str(trace))
    events = json.loads(trace.read_text())["traceEvents"]
    memory = [event for event in events if event["name"] == "[memory]"]
    memory.sort(key=lambda event: event["ts"])
    return max(accumulate(event["args"]["Bytes"] for event in memory))
