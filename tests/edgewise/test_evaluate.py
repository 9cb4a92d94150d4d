"""The evaluator against each circuit and each prompt on its own."""

from typing import Any

import pytest
import torch
from torch import Tensor

from edgewise.batches import mean_activations
from edgewise.circuit import Circuit
from edgewise.evaluate import compare_with_truth, evaluate
from edgewise.graph import Ablation, Graph
from edgewise.metrics import ACCURACY, EXACT_MATCH, KL, LOGIT_DIFFERENCE
from edgewise.prompts import PromptPairs
from edgewise.transformer import MaskedTransformer
from tests.edgewise.conftest import Case
from tests.models import ABLATIONS, circuits_of, gpt2, random_masks, random_pairs

METRICS = {m.name: m for m in (KL, LOGIT_DIFFERENCE, ACCURACY, EXACT_MATCH)}
LENGTHS = [5, 7, 4, 7, 6, 3, 5]

close = torch.testing.assert_close


def one_at_a_time(
    model: MaskedTransformer,
    pairs: PromptPairs,
    circuits: list[Circuit],
    ablation: Ablation,
    mean_over: PromptPairs,
) -> dict[str, Tensor]:
    mean = mean_activations(model, mean_over)
    values = {name: torch.empty(len(circuits), len(pairs)) for name in METRICS}
    for column in range(len(pairs)):
        pair = pairs[torch.tensor([column])]
        full = model(pair.clean, targets=pair.targets)
        ablated = {
            "zero": None,
            "interchange": model.activations(pair.corrupted),
            "mean": mean[: pair.clean.shape[1]],
        }[ablation]
        for row, circuit in enumerate(circuits):
            logits = model(pair.clean, circuit.mask, ablated, pair.targets)
            for name, metric in METRICS.items():
                values[name][row, column] = metric(logits, full, pair)[0]
    return values


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_every_value_is_that_of_one_circuit_on_one_prompt(
    case: Case, ablation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many tokens run at once."""
    graph, pairs = case.model.graph, random_pairs(LENGTHS)
    circuits = circuits_of(random_masks(graph, 3, density=0.6), graph)
    expected = one_at_a_time(case.model, pairs, circuits, ablation, pairs)
    for batch_tokens in (1, 40, 4096):
        monkeypatch.setattr("edgewise.batches.BATCH_TOKENS", batch_tokens)
        values = evaluate(case.model, pairs, circuits, metrics=METRICS, ablation=ablation)
        assert values.keys() == METRICS.keys()
        for name in METRICS:
            close(values[name], expected[name], rtol=1e-4, atol=1e-5)


def test_the_full_circuit_is_faithful_and_the_empty_one_is_the_corrupted_prompt(
    case: Case,
) -> None:
    graph, pairs = case.model.graph, random_pairs(LENGTHS)
    circuits = circuits_of(torch.stack([graph.legal, torch.zeros_like(graph.legal)]), graph)
    values = evaluate(case.model, pairs, circuits, metrics=METRICS, ablation="interchange")
    assert values["kl"][0].abs().max() < 1e-5 and bool((values["exact_match"][0] == 1).all())
    corrupted = case.model(pairs.corrupted, targets=pairs.targets)
    clean = case.model(pairs.clean, targets=pairs.targets)
    close(values["kl"][1], KL(corrupted, clean, pairs), rtol=1e-4, atol=1e-5)
    difference = LOGIT_DIFFERENCE(corrupted, clean, pairs)
    close(values["logit_difference"][1], difference, rtol=1e-4, atol=1e-5)


def test_a_mean_can_come_from_other_prompts(case: Case) -> None:
    graph, pairs, others = case.model.graph, random_pairs(LENGTHS), random_pairs([9, 8], seed=1)
    circuits = circuits_of(random_masks(graph, 2, density=0.6), graph)
    options: Any = dict(metrics=METRICS, ablation="mean")
    values = evaluate(case.model, pairs, circuits, **options, mean_over=others)
    expected = one_at_a_time(case.model, pairs, circuits, "mean", others)
    close(values["kl"], expected["kl"], rtol=1e-4, atol=1e-5)
    own = evaluate(case.model, pairs, circuits, **options)
    assert not torch.allclose(own["kl"], values["kl"])


def test_a_circuit_of_another_graph_is_an_error_that_shows_both() -> None:
    model = MaskedTransformer(gpt2())
    joint = Graph(2, 3, ("embed",))
    with pytest.raises(ValueError, match=r"\(embed embeddings.*the model has 96 edges \(tok\+pos"):
        evaluate(
            model,
            random_pairs([5]),
            [Circuit(joint.legal, joint)],
            metrics=METRICS,
            ablation="zero",
        )


def test_no_circuits_are_an_error(case: Case) -> None:
    with pytest.raises(ValueError, match="no circuits"):
        evaluate(case.model, random_pairs(LENGTHS), [], metrics=METRICS, ablation="zero")


def test_a_circuit_is_compared_with_the_nearest_truth() -> None:
    graph = Graph(2, 2)
    near = graph.mask_of(["tok->a0.h0.q", "tok->m0", "a0.h0->out", "m0->out"])
    far = graph.mask_of(["pos->m1", "m1->out"])
    found = Circuit(graph.mask_of(["tok->m0", "m0->out", "tok->out"]), graph)
    comparison = compare_with_truth(found, [far, near])
    assert comparison == dict(precision=2 / 3, recall=2 / 4, missing=2, extra=1, exact=False)


def test_a_true_circuit_is_recovered_exactly_and_an_empty_one_has_no_wrong_edge() -> None:
    graph = Graph(2, 2)
    truth = graph.mask_of(["tok->m0", "m0->out"])
    exact = compare_with_truth(Circuit(truth, graph), [graph.legal, truth])
    assert exact == dict(precision=1, recall=1, missing=0, extra=0, exact=True)
    empty = compare_with_truth(Circuit(torch.zeros_like(truth), graph), [truth])
    assert empty == dict(precision=1, recall=0, missing=2, extra=0, exact=False)
    with pytest.raises(ValueError, match="no true circuit"):
        compare_with_truth(Circuit(truth, graph), [])
