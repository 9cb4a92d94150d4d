"""The check sees bugs of attribution methods: of their formulas and of the rules of gradients."""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from edgewise import attribution, backward_rules, wrapper
from edgewise.attribution import PromptBatch
from edgewise.backward_rules import BackwardRules
from edgewise.trace import Trace
from methods import atp, ceap, eap_ig, ensemble, exact, gim, mask_ig, noising_and_denoising, relp
from tests.benchmarks.check.planted import differences, scores_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unchecked")]  # as `edgewise check` runs

Patch = pytest.MonkeyPatch
IOI, BOOLEAN = "ioi-t1", "boolean-few-shot"


def other_sign(patch: Patch) -> None:
    """Clean minus ablated outputs."""
    difference = PromptBatch.difference
    patch.setattr(PromptBatch, "difference", lambda self, clean: -difference(self, clean))


def swapped_rules(patch: Patch) -> None:
    """The left rule takes the points of the right one, and the other way round."""
    scores, other = eap_ig.EAPIG.scores, {"left": "right", "right": "left"}

    def planted(self: Any, batch: PromptBatch) -> Tensor:
        return scores(replace(self, rule=other[self.rule]), batch)

    patch.setattr(eap_ig.EAPIG, "scores", planted)


def moved_the_wrong_way(patch: Patch) -> None:
    """The path leads away from the corrupted prompt."""
    moved = attribution.moved
    patch.setattr(attribution, "moved", lambda w, d, share, which: moved(w, d, -share, which))


def stale_difference(patch: Patch) -> None:
    """The outputs of the path's first point are never replaced by those of the next."""
    written = ceap.CEAP.scores

    def planted(self: Any, batch: PromptBatch) -> Tensor:
        return written(replace(self, steps=1), batch) * self.steps

    patch.setattr(ceap.CEAP, "scores", planted)


def no_temperature(patch: Patch) -> None:
    rules(patch, gim, softmax_temperature=1.0)


def no_frozen_norms(patch: Patch) -> None:
    rules(patch, gim, frozen_norms=False)
    rules(patch, relp, frozen_norms=False)


def no_factors(patch: Patch) -> None:
    rules(patch, gim, queries=1.0, keys=1.0, values=1.0)


def no_half_products(patch: Patch) -> None:
    rules(patch, gim, half_products=False)
    rules(patch, relp, half_products=False)


def no_secants(patch: Patch) -> None:
    rules(patch, relp, secant_activations=False)


def rules(patch: Patch, module: Any, **others: Any) -> None:
    """The method takes its rules with these others."""
    patch.setattr(module, "BackwardRules", lambda **given: BackwardRules(**{**given, **others}))


def leaking_rules(patch: Patch) -> None:
    """Rules hold on after their context, for the trace of the next batch and method."""

    @contextmanager
    def planted(self: BackwardRules) -> Any:
        if self != backward_rules.TRUE_GRADIENTS:
            backward_rules._RULES.set(self)
        yield

    patch.setattr(BackwardRules, "applied", planted)
    gim_rules = BackwardRules(frozen_norms=True, softmax_temperature=2.0)
    with gim_rules.applied():
        pass


def layers_not_cut_off(patch: Patch) -> None:
    scores = Trace.scores

    def planted(self: Trace, *given: Any, without_layer: int | None = None, **options: Any) -> Any:
        return scores(self, *given, **options)

    patch.setattr(Trace, "scores", planted)


def one_layer_too_many(patch: Patch) -> None:
    """The average over layers counts that of the reader itself."""
    scores = atp.AtP.scores

    def planted(self: Any, batch: PromptBatch) -> Tensor:
        n_layers = batch.model.graph.n_layers
        found = scores(self, batch)
        found[:, :-1] *= (n_layers - 1) / n_layers
        return found

    patch.setattr(atp.AtP, "scores", planted)


def one_mask_too_few(patch: Patch) -> None:
    """The path in mask space ends before the full mask."""
    scores = mask_ig.MaskIG.scores

    def planted(self: Any, batch: PromptBatch) -> Tensor:
        shorter = scores(replace(self, steps=self.steps - 1), batch)
        return shorter * self.steps / (self.steps + 1)

    patch.setattr(mask_ig.MaskIG, "scores", planted)


def pads_are_read(patch: Patch) -> None:
    """One position too many counts, and the last one not."""
    real = PromptBatch.real.fget
    assert real is not None
    patch.setattr(PromptBatch, "real", property(lambda self: real(self).roll(1, 1).triu(-1)))


def corrupted_answers(patch: Patch) -> None:
    """The loss has answer and distractor exchanged."""
    loss = PromptBatch.loss
    patch.setattr(PromptBatch, "loss", lambda self, *given: -loss(self, *given))


def edges_removed_for_good(patch: Patch) -> None:
    """Exact patching: an edge that was removed never comes back."""
    zeros: list[Tensor] = []
    run = exact.Exact.scores

    def planted(self: Any, batch: PromptBatch) -> Tensor:
        original = type(batch.model).run

        def without(model: Any, buffer: Any, mask: Tensor, *given: Any) -> Tensor:
            for before in zeros:
                mask = mask & before
            zeros.append(mask.all(0))
            return original(model, buffer, mask, *given)

        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(type(batch.model), "run", without)
            return run(self, batch)

    patch.setattr(exact.Exact, "scores", planted)


def answers_keep_their_side(patch: Patch) -> None:
    """Denoising differentiates the loss of noising."""
    exchanged = noising_and_denoising.exchanged
    patch.setattr(
        noising_and_denoising,
        "exchanged",
        lambda task: replace(exchanged(task), attribution_loss=task.attribution_loss),
    )


def places_from_the_bottom(patch: Patch) -> None:
    """A share of edges that are ranked above takes the place of those that are not."""
    shares = wrapper.rank_shares
    for module in (ensemble, noising_and_denoising):
        patch.setattr(module, "rank_shares", lambda ranking: 1 - shares(ranking))


def prompts_drawn_without_replacement(patch: Patch) -> None:
    """Every resample is all prompts, so every edge is consistent."""

    def planted(high: int, size: tuple[int, int], **options: Any) -> Tensor:
        return torch.arange(high).expand(size)

    patch.setattr(torch, "randint", planted)


BUGS: list[tuple[Callable[[Patch], None], str, str]] = [
    (other_sign, "eap-ig", IOI),
    (other_sign, "gim", IOI),
    (swapped_rules, "eap-ig", IOI),
    (moved_the_wrong_way, "ceap", IOI),
    (moved_the_wrong_way, "eap-ig", IOI),
    (stale_difference, "ceap", IOI),
    (no_temperature, "gim", IOI),
    (no_frozen_norms, "gim", IOI),
    (no_frozen_norms, "relp", BOOLEAN),
    (no_factors, "gim", IOI),
    (no_half_products, "gim", BOOLEAN),
    (no_half_products, "relp", BOOLEAN),
    (no_secants, "relp", BOOLEAN),
    (leaking_rules, "eap", IOI),
    (layers_not_cut_off, "atp", IOI),
    (one_layer_too_many, "atp", IOI),
    (one_mask_too_few, "mask-ig", IOI),
    (pads_are_read, "activation-difference", IOI),
    (corrupted_answers, "clean-corrupted", IOI),
    (corrupted_answers, "eap-ig-activations", IOI),
    (edges_removed_for_good, "exact", "tracr-reverse"),
    (answers_keep_their_side, "noising-and-denoising", IOI),
    (places_from_the_bottom, "ensemble", IOI),
    (prompts_drawn_without_replacement, "bootstrap", IOI),
]


@pytest.mark.parametrize(
    "plant, method, task", BUGS, ids=[f"{plant.__name__}-{method}" for plant, method, _ in BUGS]
)
def test_a_planted_bug_is_seen_in_the_scores(
    plant: Callable[[Patch], None],
    method: str,
    task: str,
    monkeypatch: Patch,
    request: pytest.FixtureRequest,
) -> None:
    before = backward_rules._RULES.get()
    request.addfinalizer(lambda: backward_rules._RULES.set(before))
    plant(monkeypatch)
    assert scores_of({difference.metric for difference in differences(method, task)})
