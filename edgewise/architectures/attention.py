"""What every architecture's attention shares: projections per reader, outputs per head."""

from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from edgewise.backward_rules import attended


def positions(
    start: int, length: int, forks: Int[Tensor, " batch"] | None, device: torch.device
) -> Int[Tensor, "prompt position"]:
    """The positions of tokens, for all prompts or for each; tokens after a fork have the fork's."""
    in_order = torch.arange(start, start + length, device=device)[None]
    return in_order if forks is None else in_order.minimum(start + forks[:, None])


def project(
    x: Float[Tensor, "batch position reader d_model"],
    weight: Float[Tensor, "head d_model d_head"],
    bias: Float[Tensor, "head d_head"] | None,
) -> Float[Tensor, "projection batch position d_head"]:
    """Each reader's input times its head's matrix.

    One reader for several heads is shared by all; several readers per head (query heads of one
    key-value head) each use that head's matrix.
    """
    batch, position, readers, d_model = x.shape
    heads, _, d_head = weight.shape
    if readers == 1:
        x = x.expand(batch, position, heads, d_model)
    elif readers > heads:
        weight = weight.repeat_interleave(readers // heads, 0)
        bias = None if bias is None else bias.repeat_interleave(readers // heads, 0)
    rows = x.flatten(0, 1).transpose(0, 1)
    y = torch.bmm(rows, weight) if bias is None else torch.baddbmm(bias[:, None], rows, weight)
    return y.view(-1, batch, position, d_head)


def combine(
    z: Float[Tensor, "head batch position d_head"],
    weight: Float[Tensor, "head d_head d_model"],
    bias: Float[Tensor, " d_model"] | None,
    n_heads: int,
) -> Float[Tensor, "batch position head d_model"]:
    """Each head's contribution to the residual stream.

    The output bias is shared evenly among the layer's `n_heads` heads, whether or not they are run
    here, so that ablating a head also removes its share (Edge Pruning's convention; it matters
    under zero ablation).
    """
    heads, batch, position, _ = z.shape
    rows = z.flatten(1, 2)
    y = torch.bmm(rows, weight) if bias is None else torch.baddbmm(bias / n_heads, rows, weight)
    return y.view(heads, batch, position, -1).permute(1, 2, 0, 3)


def attend(
    q: Float[Tensor, "head batch position d_head"],
    k: Float[Tensor, "reader batch position d_head"],
    v: Float[Tensor, "reader batch position d_head"],
    past: Float[Tensor, "2 kv_head past d_head"] | None = None,
    forks: Int[Tensor, " batch"] | None = None,
    *,
    scale: float | None = None,
    causal: bool = True,
    cap: float | None = None,
) -> Float[Tensor, "head batch position d_head"]:
    """Each head's mean of values; a key-value head may serve several query heads.

    `past` holds the keys and values of positions that stand before those of every prompt. From a
    prompt's fork on, each token sees only itself and the tokens before the fork. Scores are softly
    capped at `cap`.
    """
    k, v = _repeat_heads(k, len(q)), _repeat_heads(v, len(q))
    if past is not None:
        before = _repeat_heads(past.transpose(0, 1), len(q))[:, :, None].unbind(1)
        k, v = (
            torch.cat([seen.expand(-1, q.shape[1], -1, -1), own], 2)
            for seen, own in zip(before, (k, v), strict=True)
        )

    def visible() -> Bool[Tensor, "*batch position key"] | None:
        n_before = k.shape[2] - q.shape[2]
        seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device)
        if forks is None:
            return seen.tril(n_before) if causal else None
        keys = torch.arange(-n_before, q.shape[2], device=q.device)
        return seen.tril(n_before) & (keys < forks[:, None, None]) | (keys[n_before:, None] == keys)

    def scores(q: Tensor, k: Tensor) -> Float[Tensor, "head batch position key"]:
        products = q @ k.transpose(-2, -1) * (q.shape[-1] ** -0.5 if scale is None else scale)
        return soft_capped(products, cap)

    def capped(q: Tensor, k: Tensor, v: Tensor) -> Float[Tensor, "head batch position d_head"]:
        weights, shown = scores(q, k), visible()
        if shown is not None:
            weights = weights.masked_fill(~shown, -torch.inf)
        wide = torch.promote_types(q.dtype, torch.float32)
        return weights.softmax(-1, dtype=wide).to(v.dtype) @ v

    # With a past, `is_causal` would align the first query with the first key, which is earlier.
    is_plain = past is None and forks is None
    how = {"is_causal": causal} if is_plain else {"attn_mask": visible()}
    attention = partial(scaled_dot_product_attention, scale=scale, **how)
    return attended(attention if cap is None else capped, q, k, v, scores=scores, visible=visible)


def soft_capped(x: Float[Tensor, "..."], cap: float | None) -> Float[Tensor, "..."]:
    """`x` drawn smoothly into (−cap, cap)."""
    return x if cap is None else cap * (x / cap).tanh()


def _repeat_heads(x: Float[Tensor, "reader ..."], heads: int) -> Float[Tensor, "head ..."]:
    """Key or value heads, one for each query head."""
    return x if len(x) == heads else x.repeat_interleave(heads // len(x), 0)
