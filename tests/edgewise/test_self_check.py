"""A wrapped model is compared with its own forward pass, cheaply and without a trace."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from edgewise.architectures import attention, decoder
from edgewise.architectures.gpt2 import GPT2Architecture
from edgewise.architectures.gpt_neox import GPTNeoXArchitecture
from edgewise.architectures.llama import LlamaArchitecture
from edgewise.architectures.norms import normed
from edgewise.self_check import LENGTH, check_forward
from edgewise.transformer import MaskedTransformer
from tests.families import FAMILIES
from tests.models import Build, gpt2, llama, mistral, random_tokens

BUILDS: dict[str, Build] = {"gpt2": gpt2, "llama": llama}


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model is checked, whether or not another test has wrapped its like."""
    monkeypatch.setattr("edgewise.transformer.check_forward", check_forward)


@pytest.mark.parametrize("name", BUILDS)
def test_the_check_takes_less_than_three_forward_passes_and_counts_as_none(name: str) -> None:
    hf = BUILDS[name]()
    pair = random_tokens(2, LENGTH)
    with FlopCounterMode(display=False) as one_pass:
        hf(pair)
    with FlopCounterMode(display=False) as checked:
        model = MaskedTransformer(hf)
    reads = 2 * model.architecture.d_model * model.graph.n_edges * LENGTH
    assert 0 < checked.get_total_flops() < 3 * one_pass.get_total_flops() + reads
    assert model.flops == 0


def test_the_check_draws_no_random_numbers() -> None:
    hf = gpt2()
    torch.manual_seed(3)
    expected = torch.rand(5)
    torch.manual_seed(3)
    MaskedTransformer(hf)
    assert torch.equal(torch.rand(5), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_right_model_passes_in_every_number_format(dtype: torch.dtype) -> None:
    for build in BUILDS.values():
        MaskedTransformer(build().to(dtype))


def test_a_model_whose_logits_do_not_differ_passes() -> None:
    hf = gpt2()
    for weight in hf.parameters():
        weight.data.zero_()
    MaskedTransformer(hf)


def test_a_prompt_is_no_longer_than_the_model_takes() -> None:
    MaskedTransformer(gpt2(n_positions=2))
    MaskedTransformer(mistral(sliding_window=LENGTH))


def doubled(method: Any) -> Any:
    return lambda *args, **options: 2 * method(*args, **options)


@pytest.mark.parametrize("part", ["attention", "mlp", "unembed"])
@pytest.mark.parametrize("architecture", [GPT2Architecture, LlamaArchitecture])
def test_a_wrong_part_is_an_error_that_says_by_how_much(
    architecture: Any, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, name = (gpt2, "gpt2") if architecture is GPT2Architecture else (llama, "llama")
    monkeypatch.setattr(architecture, part, doubled(getattr(architecture, part)))
    message = rf"self-check of unnamed \({name}, float32\) failed.* by [\d.e-]+ standard deviations"
    with pytest.raises(ValueError, match=message):
        MaskedTransformer(build())
    MaskedTransformer(build(), check=False)


def serial(patch: pytest.MonkeyPatch) -> None:
    """The MLP reads the heads of its own layer, which work beside it."""
    patch.setattr(GPTNeoXArchitecture, "parallel", property(lambda self: False, lambda *_: None))


def unscaled(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decoder, "_rounded", lambda factor, weight: None)


def logits_uncapped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decoder, "soft_capped", lambda x, cap: x)


def scores_uncapped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(attention, "soft_capped", lambda x, cap: x)


def normed_before_the_sum(patch: pytest.MonkeyPatch) -> None:
    """Each head's output is normed on its own."""
    patch.setattr(decoder, "shared_norm", normed)


def last_dimensions_turned(patch: pytest.MonkeyPatch) -> None:
    """Where only a part of a head's dimensions turn, they are the first."""
    turned = decoder._turned

    def planted(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, ...]:
        width = cos.shape[-1]
        both = turned(q.roll(width, -1), k.roll(width, -1), cos, sin)
        return tuple(x.roll(-width, -1) for x in both)

    patch.setattr(decoder, "_turned", planted)


@pytest.mark.parametrize(
    ("plant", "name"),
    [
        (serial, "gpt_neox"),
        (unscaled, "gemma2"),
        (unscaled, "granite"),
        (logits_uncapped, "gemma2"),
        (scores_uncapped, "gemma2"),
        (normed_before_the_sum, "gemma3"),
        (normed_before_the_sum, "olmo2"),
        (last_dimensions_turned, "gpt_neox"),
        (last_dimensions_turned, "phi3"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_wrong_architecture_does_not_pass(
    plant: Callable[[pytest.MonkeyPatch], None], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    MaskedTransformer(FAMILIES[name]())
    plant(monkeypatch)
    with pytest.raises(ValueError, match="the self-check of unnamed"):
        MaskedTransformer(FAMILIES[name]())


def test_a_loaded_model_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpt2().save_pretrained(tmp_path)
    monkeypatch.setattr(GPT2Architecture, "mlp", doubled(GPT2Architecture.mlp))
    with pytest.raises(ValueError, match=f"the self-check of {tmp_path}"):
        MaskedTransformer.from_pretrained(tmp_path)
    MaskedTransformer.from_pretrained(tmp_path, check=False)
