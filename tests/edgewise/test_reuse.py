"""Many random circuits one after the other on one buffer: what it held before never shows."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from edgewise.evaluate import evaluate
from edgewise.metrics import KL, LOGIT_DIFFERENCE
from edgewise.schedule import schedule_after
from edgewise.transformer import MaskedTransformer
from edgewise.writers import WriterBuffer
from tests.models import MODES, TOLERANCE, circuits_of, llama, random_pairs, random_tokens

STEPS, AT_ONCE = 10, 100
"""1,000 circuits in all, and how many of them run at once."""
METRICS = {"kl": KL, "logit_difference": LOGIT_DIFFERENCE}
close = partial(torch.testing.assert_close, **TOLERANCE)


class FilledBuffer(WriterBuffer):
    """Full of NaN where a run has to write first."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.delta[:, :, len(self.graph.embeddings) :] = torch.nan


@pytest.fixture(params=MODES)
def model(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, unchecked: None
) -> MaskedTransformer:
    """In every mode of the graph, with buffers full of NaN."""
    monkeypatch.setattr("edgewise.transformer.WriterBuffer", FilledBuffer)
    build, options = MODES[request.param]
    return MaskedTransformer(build(), **options)


def redrawn(masks: Tensor, generator: torch.Generator) -> Tensor:
    """The masks with a few rows drawn anew, or all, at a random density."""
    density, share = torch.rand(2, len(masks), 1, 1, generator=generator)
    drawn = torch.rand(masks.shape, generator=generator) < density
    rows = torch.rand(*masks.shape[:2], 1, generator=generator) < share
    return torch.where(rows, drawn, masks)


def random_circuits(model: MaskedTransformer) -> Tensor:
    """[step, circuit, reader, writer], each drawn from the one a step before."""
    generator = torch.Generator().manual_seed(0)
    masks = [torch.zeros(AT_ONCE, *model.graph.legal.shape, dtype=torch.bool)]
    for _ in range(STEPS):
        masks.append(redrawn(masks[-1], generator))
    return torch.stack(masks[1:])


def in_full(model: MaskedTransformer, tokens: Tensor, masks: Tensor, *given: Any) -> Tensor:
    """Every component of every circuit, as for a gradient."""
    return model(tokens, masks.float().requires_grad_(), *given).detach()


@pytest.mark.slow
def test_a_thousand_circuits_evaluated_together_are_those_of_passes_in_full(
    model: MaskedTransformer,
) -> None:
    """On one buffer, on fresh ones, and some of them each in an evaluation of its own."""
    pairs = random_pairs([4, 3])
    per_token = len(model.graph.writers) * model.architecture.d_model * model.dtype.itemsize
    model.batch_bytes = AT_ONCE * pairs.clean.numel() * per_token
    chosen = partial(evaluate, model, pairs, metrics=METRICS, ablation="interchange")
    masks = random_circuits(model)
    circuits = circuits_of(masks.flatten(0, 1), model.graph)
    together = chosen(circuits)
    ablated = model.activations(pairs.corrupted)
    full = model(pairs.clean, targets=pairs.targets)
    for run in (in_full, torch.no_grad()(MaskedTransformer.__call__)):
        logits = torch.cat(
            [run(model, pairs.clean, some, ablated, pairs.targets) for some in masks]
        )
        close(together, {name: metric(logits, full, pairs) for name, metric in METRICS.items()})
    for index in range(0, len(circuits), 20):
        alone = chosen(circuits[index : index + 1])
        close(alone, {name: of[index : index + 1] for name, of in together.items()})


@torch.no_grad()
def test_circuits_one_by_one_with_rows_that_change_in_between_are_those_of_passes_in_full(
    model: MaskedTransformer,
) -> None:
    tokens, corrupted = (random_tokens(2, 3, seed=seed) for seed in (0, 1))
    ablated = model.activations(corrupted)
    buffer = model.buffer(tokens, ablated)
    mask, masks, runs = torch.zeros_like(model.graph.legal), [], []
    generator = torch.Generator().manual_seed(0)
    for reader in torch.randint(len(model.graph.readers), (40,), generator=generator).tolist():
        mask = redrawn(mask[None], generator)[0]
        masks.append(mask)
        runs.append(model.run(buffer, mask))
        change = schedule_after(model.graph, mask, reader, n_masks=1, device=model.device)
        for _ in range(2):
            mask = mask.clone()
            mask[reader] = change.row & (torch.rand(mask[reader].shape, generator=generator) < 0.5)
            masks.append(mask)
            with buffer.held.changing_row(change, mask[None, reader]):
                runs.append(model.run(buffer, mask, parts=change.parts))
    with torch.enable_grad():
        expected = in_full(model, tokens, torch.stack(masks), ablated)
    close(torch.stack(runs), expected)


def test_heads_that_share_readers_are_stored_only_where_they_are_wanted() -> None:
    """The smallest case in which they differ: a1.h0 is cut off, then it leads to `out`."""
    model = MaskedTransformer(llama(), kv_heads="key-value")
    tokens, corrupted = (random_tokens(2, 5, seed=seed) for seed in (0, 1))
    ablated = model.activations(corrupted)
    edges = ["tok->m0", "m0->a1.h0.q", "tok->a1.h1.q", "tok->a1.kv0.v", "a1.h1->out"]
    first, second = (model.graph.mask_of(chosen) for chosen in (edges, [*edges, "a1.h0->out"]))
    buffer = model.buffer(tokens, ablated)
    model.run(buffer, first)
    close(model.run(buffer, second), model(tokens, second, ablated))


def test_a_writer_that_leads_nowhere_while_a_row_before_it_changes_runs_again() -> None:
    """The smallest case in which that shows: m0 is cut off, its input goes, then it is back."""
    model = MaskedTransformer(llama())
    tokens, corrupted = (random_tokens(2, 5, seed=seed) for seed in (0, 1))
    ablated = model.activations(corrupted)
    through = model.graph.mask_of(["tok->m0", "m0->out", "tok->out"])
    cut_off, back = (model.graph.mask_of([edge, "tok->out"]) for edge in ("tok->m0", "m0->out"))
    buffer = model.buffer(tokens, ablated)
    model.run(buffer, through)
    model.run(buffer, cut_off)
    reader = model.graph.readers.index("m0")
    change = schedule_after(model.graph, cut_off, reader, n_masks=1, device=model.device)
    with buffer.held.changing_row(change, back[None, reader]):
        model.run(buffer, back & cut_off, parts=change.parts)
    close(model.run(buffer, back), model(tokens, back, ablated))
