"""Is the masked pass of a wrapped model the model's own forward pass?

A prompt and a corrupted twin run once through Hugging Face's forward pass and once through the
masked pass. A mask of ones must give the first one's logits, a mask of zeros the second one's. This
finds an architecture that is cut wrongly, and a change inside transformers that moves a number.
Cost: 2.5 forward passes of one pair of four tokens. Only attention over prompts that fit every
sliding window is checked, and only as many digits as the weights' number format has.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from edgewise.transformer import MaskedTransformer

LENGTH = 4
"""Tokens of a prompt."""
TOLERANCES = {torch.float64: 1e-5, torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.1}
"""The largest difference by type of the weights, in units of the logits' standard deviation.

In float64 it is that of float32, in which Hugging Face computes norms and rotary angles.
"""
_ROUNDED_PRODUCTS = 0.02
"""The same for float32 weights whose products a GPU computes in TF32 or bfloat16."""


@torch.no_grad()
def check_forward(model: "MaskedTransformer", own: "PreTrainedModel") -> None:
    """Raises ValueError if the masked pass of `model` differs from the forward pass of `own`.

    Nothing is compared if the model's own logits are not finite, or its weights hold no data.
    """
    if model.device.type == "meta":
        return
    length = min(LENGTH, model.architecture.max_positions or LENGTH)
    generator = torch.Generator().manual_seed(0)
    shape = (2, length)
    tokens = torch.randint(0, model.architecture.n_tokens, shape, generator=generator)
    tokens = tokens.to(model.device)
    with _soft_caps_kept(own):
        theirs = own(tokens, attention_mask=torch.ones_like(tokens), use_cache=False).logits
    theirs = theirs.to(model.device)
    clean, corrupted = tokens[:1], tokens[1:]
    n_before = model.flops
    masks = torch.stack([torch.ones(model.graph.legal.shape), torch.zeros(model.graph.legal.shape)])
    ours = model(clean, masks, model.activations(corrupted))[:, 0]
    model.flops = n_before
    if not bool(theirs.isfinite().all()):
        return
    largest, allowed = _difference(ours, theirs), _tolerance(model)
    if largest <= allowed:
        return
    kind = f"{own.config.model_type}, {str(model.dtype).removeprefix('torch.')}"
    raise ValueError(
        f"the self-check of {model.id} ({kind}) failed: masked passes with all edges and with none "
        f"differ from the model's own forward pass by {largest:.2g} standard deviations of its "
        f"logits; expected at most {allowed:g}"
    )


@contextmanager
def _soft_caps_kept(own: "PreTrainedModel") -> Iterator[None]:
    """Attention scores are capped as they were in the model's training.

    `sdpa`, the default of some releases of transformers for Gemma 2 (5.17 is one), silently leaves
    the cap out; `eager` does not.
    """
    implementation = getattr(own.config, "_attn_implementation", None)
    if implementation != "sdpa" or not getattr(own.config, "attn_logit_softcapping", None):
        yield
        return
    own.set_attn_implementation("eager")
    try:
        yield
    finally:
        own.set_attn_implementation(implementation)


def _difference(
    ours: Float[Tensor, "prompt position vocab"], theirs: Float[Tensor, "prompt position vocab"]
) -> float:
    """The root-mean-square difference of the worse prompt, in standard deviations of its logits."""
    ours, theirs = ours.double(), theirs.double()
    spread = (theirs - theirs.mean(-1, keepdim=True)).square().mean((1, 2)).sqrt()
    apart = (ours - theirs).square().mean((1, 2)).sqrt()
    return float((apart / spread.clamp(min=1e-12)).max().nan_to_num(torch.inf))


def _tolerance(model: "MaskedTransformer") -> float:
    is_rounded = torch.get_float32_matmul_precision() != "highest"
    if model.dtype == torch.float32 and model.device.type == "cuda" and is_rounded:
        return _ROUNDED_PRODUCTS
    return TOLERANCES[model.dtype]
