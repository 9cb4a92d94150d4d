"""Hard-concrete masks of edges and of writers, for methods that train them towards sparsity.

The distribution is that of Louizos, Welling & Kingma 2018 (arXiv:1712.01312):
`z = clamp(σ((logit u + log α)/T)(r − l) + l, 0, 1)` with u uniform in [0, 1]. Its evaluation masks
are those of Edge Pruning (Bhaskar et al. 2024, arXiv:2406.16778).
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor
from torch.nn.functional import logsigmoid

from edgewise.graph import Graph
from edgewise.mask_training import Masks, SampledMasks

LEFT, RIGHT, TEMPERATURE, EPSILON = -0.1, 1.1, 2 / 3, 1e-6
REMOVED = -1e4
"""The log α of an edge that is removed for good, however training ends."""
EVALUATION_SLOPE = 0.8


class HardConcreteMasks(Masks):
    """A log-alpha for every edge, every writer or both. Masks of an edge and its writer multiply.

    They begin as normally distributed numbers with this `mean` and `deviation`. `n_samples` masks
    are drawn in each step.
    """

    def __init__(
        self,
        graph: Graph,
        generator: Generator,
        *,
        edges: bool = True,
        writers: bool = True,
        n_samples: int = 1,
        mean: float,
        deviation: float,
    ) -> None:
        device = generator.device
        super().__init__(graph, device)
        self.n_samples = n_samples
        self._has_edges, self._has_writers = edges, writers
        self._n_edges = graph.n_edges if edges else 0
        size = self._n_edges + (len(graph.writers) if writers else 0)
        initial = torch.randn(size, generator=generator, device=device)
        # One vector for edges and writers, float32 whatever the model's dtype.
        self.log_alpha = (mean + deviation * initial).requires_grad_()
        self._allowed: Tensor | None = None

    def start_from(
        self,
        log_alpha: Float[Tensor, "reader writer"] | None,
        allowed: Bool[Tensor, "reader writer"],
    ) -> None:
        """Start at these log α of the edges (default: where they are), before the first step.

        Edges that are not allowed have a mask of 0 in every step.
        """
        legal, own = self.graph.legal, self.log_alpha.data[: self._n_edges]
        self._allowed = allowed[legal].to(own)
        if log_alpha is not None:
            own.copy_(log_alpha[legal])

    def noise(self, generator: Generator) -> Float[Tensor, "sample edge_and_writer"]:
        shape = self.n_samples, len(self.log_alpha)
        return torch.rand(shape, generator=generator, device=self.log_alpha.device)

    def sample(self, noise: Float[Tensor, "sample edge_and_writer"]) -> tuple[SampledMasks, Tensor]:
        edges, writers = self.split(sampled_masks(self.log_alpha, noise))
        if self._allowed is not None:
            edges = edges * self._allowed
        return self.table(edges) * writers[:, None], self.penalty(edges, writers)

    @abstractmethod
    def penalty(
        self, edges: Float[Tensor, "sample edge"], writers: Float[Tensor, "sample writer"]
    ) -> Tensor:
        """What is added to the loss in a step, for its masks of edges and of writers."""

    def trained(self) -> dict[str, Tensor]:
        """Those of edges as `log_alpha` `[reader, writer]`, of writers as `node_log_alpha`."""
        edges, writers = self.split(self.log_alpha.detach())
        found: dict[str, Tensor] = {}
        if self._allowed is not None:
            edges = torch.where(self._allowed > 0, edges, REMOVED)
        if self._has_edges:
            found["log_alpha"] = self.table(edges)
        if self._has_writers:
            found["node_log_alpha"] = writers.clone()
        return found

    def split(
        self, values: Float[Tensor, "*sample edge_and_writer"]
    ) -> tuple[Float[Tensor, "*sample edge"], Float[Tensor, "*sample writer"]]:
        """The values of edges and of writers: ones where none are trained."""
        edges, writers = values[..., : self._n_edges], values[..., self._n_edges :]
        if not self._has_edges:
            edges = values.new_ones(*values.shape[:-1], self.graph.n_edges)
        if not self._has_writers:
            writers = values.new_ones(*values.shape[:-1], len(self.graph.writers))
        return edges, writers


def sampled_masks(
    log_alpha: Float[Tensor, " edge"], noise: Float[Tensor, "*sample edge"]
) -> Float[Tensor, "*sample edge"]:
    """Hard-concrete masks for `noise` uniform in [0, 1]."""
    logit = torch.logit(noise * (1 - 2 * EPSILON) + EPSILON)
    stretched = torch.sigmoid((logit + log_alpha) / TEMPERATURE) * (RIGHT - LEFT) + LEFT
    return stretched.clamp(0, 1)


def mask_without_noise(log_alpha: Float[Tensor, " edge"]) -> Float[Tensor, " edge"]:
    """The mask that is drawn where the noise is ½."""
    return sampled_masks(log_alpha, torch.full_like(log_alpha, 0.5))


def probability_of_zero(log_alpha: Float[Tensor, "*edge"]) -> Float[Tensor, "*edge"]:
    """How probable it is that a drawn mask is 0."""
    return torch.sigmoid(TEMPERATURE * math.log(-LEFT / RIGHT) - log_alpha)


def log_soft_mask(log_alpha: Float[Tensor, "*edge"]) -> Float[Tensor, "*edge"]:
    """The logarithm of the soft evaluation mask, by which edges are ranked; it is never 0."""
    return logsigmoid(EVALUATION_SLOPE / TEMPERATURE * log_alpha)


def tensor_sizes(graph: Graph) -> tuple[list[int], list[int]]:
    """The sizes of the mask tensors of Edge Pruning's published code, of edges and of writers.

    Edges have a tensor for each layer's q, k, v and MLP, and for `out`. Writers have one for each
    embedding table, and for each layer's heads and MLP. All follow the order of the graph, so each
    tensor is a contiguous range of edges or writers.
    """
    edges: list[int] = []
    nodes = [1] * len(graph.embeddings)
    for block in graph.blocks:
        n_readers = [block.readers.stop - block.readers.start]
        if block.kind == "attention":
            n_readers = [graph.n_heads, graph.n_kv_readers, graph.n_kv_readers]
        edges += [n * block.n_legal for n in n_readers]
        if block.kind != "out":
            nodes.append(block.writers.stop - block.writers.start)
    return edges, nodes


def evaluation_masks(
    log_alpha: Float[Tensor, " edge"], sizes: Sequence[int]
) -> Float[Tensor, " edge"]:
    """Deterministic masks: soft, but each tensor's smallest are 0, as many as are expected to be.

    `sizes` are those of the tensors, which follow one another in `log_alpha`.
    """
    zero = probability_of_zero(log_alpha)
    soft = torch.sigmoid(EVALUATION_SLOPE * log_alpha / TEMPERATURE)
    for expected, masks in zip(zero.split(list(sizes)), soft.split(list(sizes)), strict=True):
        n_zero = int(expected.sum().round())
        # `masks` is a view of `soft`, which this changes.
        masks[torch.sort(masks, stable=True).indices[:n_zero]] = 0
    return soft


def largest(soft: Float[Tensor, " edge"]) -> Bool[Tensor, " edge"]:
    """The largest evaluation masks, as many as all of them add up to; ties by position."""
    kept = torch.zeros(len(soft), dtype=torch.bool, device=soft.device)
    kept[torch.sort(soft, descending=True, stable=True).indices[: int(soft.sum().round())]] = True
    return kept


def cut_masks(
    trained: Mapping[str, Tensor], graph: Graph, keep: Callable[[Tensor], Tensor] = largest
) -> Bool[Tensor, "reader writer"]:
    """The circuit that trained log-alphas give: the edges that `keep` selects, of selected writers.

    `keep` selects among the evaluation masks of all edges, and then of all writers. `log_alpha` is
    `[reader, writer]`; where writers have masks, `node_log_alpha` is `[writer]`.
    """
    log_alpha, nodes = trained["log_alpha"], trained.get("node_log_alpha")
    legal = graph.legal.to(log_alpha.device)
    edge_sizes, node_sizes = tensor_sizes(graph)
    kept = torch.zeros_like(legal)
    kept[legal] = keep(evaluation_masks(log_alpha[legal], edge_sizes))
    return kept if nodes is None else kept & keep(evaluation_masks(nodes, node_sizes))
