"""Hard-concrete masks that training starts from, made of a ranking of edges."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from edgewise.circuit import EdgeScores
from edgewise.hard_concrete import LEFT, RIGHT, TEMPERATURE
from edgewise.wrapper import rank_shares, shares_not_above

SLOPE = 0.25
"""The temperature of the sigmoid that makes masks of ranks."""
BISECTIONS = 60


def starting_log_alpha(
    ranking: EdgeScores, allowed: Bool[Tensor, "reader writer"], sparsity: float
) -> Float[Tensor, "reader writer"]:
    """The log α whose masks without noise are larger for better edges; 0 where none is allowed.

    In each block of readers these masks have the mean 1 − `sparsity`. With q the share of the
    block's allowed edges that do not rank above an edge, its mask is `p = σ((q − b)/0.25)`, as in
    the entry of LMU to the MIB track of BlackboxNLP 2025. Edges of equal score have equal masks.
    """
    graph, shares = ranking.graph, rank_shares(ranking)
    log_alpha = torch.zeros(graph.legal.shape)
    for block in graph.blocks:
        into = allowed[block.readers]
        if into.any():
            rank = shares_not_above(shares[block.readers][into])
            log_alpha[block.readers][into] = _of_masks(_masks(rank, 1 - sparsity)).float()
    return log_alpha


def _masks(rank: Float[Tensor, " edge"], mean: float) -> Float[Tensor, " edge"]:
    """`σ((q − b)/0.25)` for these q, with the b that makes this mean."""
    low, high = -10.0, 11.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if ((rank - middle) / SLOPE).sigmoid().mean() > mean:
            low = middle
        else:
            high = middle
    return ((rank - low) / SLOPE).sigmoid()


def _of_masks(masks: Float[Tensor, " edge"]) -> Float[Tensor, " edge"]:
    """The log α with these masks where u is ½."""
    return TEMPERATURE * torch.logit((masks - LEFT) / (RIGHT - LEFT))
