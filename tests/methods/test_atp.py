"""AtP's fix for queries and keys against patching, where everything after the softmax is linear."""

import pytest
import torch
from torch import Generator, Tensor

from edgewise.attribution import Attribution
from edgewise.discovery import Unsupported
from edgewise.task import Task
from edgewise.trace import Trace
from edgewise.transformer import MaskedTransformer
from methods.atp import AtP
from methods.exact import Exact
from tests.families import FAMILIES
from tests.methods import toys
from tests.methods.linear import LinearButForSoftmax
from tests.models import random_pairs

PLAIN, FIXED = AtP(grad_drop=False), AtP(grad_drop=False, qk_fix=True)


@pytest.fixture(scope="module")
def setting() -> tuple[MaskedTransformer, Task]:
    return MaskedTransformer(LinearButForSoftmax()), toys.task(random_pairs([6, 5, 4]))


def by_prompt(method: Attribution, model: MaskedTransformer, task: Task) -> Tensor:
    ((index, scores),) = method.prompt_scores(model, task)
    return scores[index.argsort()].abs()


def rows(model: MaskedTransformer, kinds: str, layer: int | None = None) -> list[int]:
    """The readers that are the q, k or v inputs named, of one layer or of all."""
    start = "a" if layer is None else f"a{layer}."
    readers = enumerate(model.graph.readers)
    return [place for place, name in readers if name.startswith(start) and name[-1] in kinds]


def test_edges_into_the_last_queries_and_keys_have_the_score_of_patching(
    setting: tuple[MaskedTransformer, Task],
) -> None:
    exact, plain, fixed = (by_prompt(method, *setting) for method in (Exact(), PLAIN, FIXED))
    last = rows(setting[0], "qk", layer=1)
    assert len(last) == 4
    # The loss is float32.
    torch.testing.assert_close(fixed[:, last].float(), exact[:, last], rtol=1e-4, atol=1e-6)
    assert (plain[:, last] - exact[:, last]).abs().max() > 0.1 * exact[:, last].max()


def test_all_other_edges_keep_their_scores(setting: tuple[MaskedTransformer, Task]) -> None:
    plain, fixed = (by_prompt(method, *setting) for method in (PLAIN, FIXED))
    changed = rows(setting[0], "qk")
    others = [row for row in range(plain.shape[1]) if row not in changed]
    assert torch.equal(fixed[:, others], plain[:, others])
    assert (fixed[:, changed] != plain[:, changed]).any()


@pytest.mark.parametrize("kv_heads", ["query", "key-value"])
def test_a_small_difference_gives_what_the_gradient_says(kv_heads: str) -> None:
    """Also where several heads share a key: prompts that differ little are linear."""
    model = toys.llama(kv_heads=kv_heads)  # type: ignore[arg-type]
    task = toys.task(random_pairs([6, 5]))
    scale = 1e-5
    trace = Trace(model, task.train.clean, task.train.targets)
    noise = torch.randn(trace.written.shape, generator=Generator().manual_seed(0))
    difference = scale * noise.to(model.dtype)
    loss = task.attribution_loss(trace.logits, trace.logits.detach(), task.train)
    by_gradient = trace.scores(loss, difference, again=True) / scale
    anew = trace.scores(loss, difference, attention_anew=True) / scale
    torch.testing.assert_close(anew, by_gradient, rtol=1e-3, atol=1e-4)
    assert by_gradient[:, rows(model, "qk")].abs().max() > 0.01


def test_it_goes_with_grad_drop(setting: tuple[MaskedTransformer, Task]) -> None:
    """Of two layers, a query in the last has the score of the one pass that does not drop it."""
    both = by_prompt(AtP(qk_fix=True), *setting)
    fixed = by_prompt(FIXED, *setting)
    last = rows(setting[0], "qk", layer=1)
    torch.testing.assert_close(both[:, last], fixed[:, last])


def test_it_is_refused_where_a_norm_couples_heads() -> None:
    model = MaskedTransformer(FAMILIES["gemma2"]())
    with pytest.raises(Unsupported, match=r"qk_fix=true on .*; expected qk_fix=false"):
        FIXED.prompt_scores(model, toys.task(random_pairs([6, 5])))
