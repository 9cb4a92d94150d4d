"""Matrix-product operations (2·m·n·k each) of the parts of a pass: the unit of all work counts.

Softmax, norms and other elementwise work are left out, as `torch.utils.flop_counter` does, which
confirms these formulas in the tests.
"""

from jaxtyping import Int
from torch import Tensor

from edgewise.architectures import Architecture
from edgewise.graph import Block
from edgewise.schedule import Part


def block_flops(
    architecture: Architecture,
    block: Block,
    batch: int,
    position: int,
    past: int = 0,
    *,
    n_heads: int | None = None,
    n_kv: int | None = None,
    backward: bool = False,
) -> int:
    """One attention block, one MLP, or the unembedding.

    For an attention block, `n_heads` heads and `n_kv` key and value projections are counted
    (default: the layer's own numbers). Each query sees `past` positions before the prompt's own.

    Weights are frozen, so a backward pass repeats each product once; the products of queries with
    keys and of patterns with values have two gradients each.
    """
    tokens = batch * position
    if block.kind == "out":
        return 2 * tokens * architecture.d_model * architecture.n_outputs
    if block.kind == "mlp":
        return 2 * tokens * architecture.mlp_parameters
    width, heads = architecture.d_head, n_heads or architecture.n_heads
    n_kv = n_kv or architecture.n_kv_heads
    projections = 2 * tokens * architecture.d_model * width * (2 * heads + 2 * n_kv)
    patterns = 4 * batch * heads * position * (past + position) * width
    return projections + (2 * patterns if backward else patterns)


def projection_flops(architecture: Architecture, tokens: int) -> int:
    """One attention block's queries, keys and values alone."""
    n_projections = architecture.n_heads + 2 * architecture.n_kv_heads
    return 2 * tokens * architecture.d_model * architecture.d_head * n_projections


def read_flops(architecture: Architecture, part: Part, tokens: int) -> int:
    """Mask times writers for a part's readers, at `tokens` tokens of each of its masks."""
    return 2 * tokens * part.n_reads * architecture.d_model


def forward_flops(
    architecture: Architecture, blocks: tuple[Block, ...], lengths: Int[Tensor, " prompt"]
) -> int:
    """One forward pass of the unmodified model: no padding, every position unembedded."""
    return sum(
        int(count) * block_flops(architecture, block, 1, int(length))
        for length, count in zip(*lengths.unique(return_counts=True), strict=True)
        for block in blocks
    )
