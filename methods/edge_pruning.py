"""Edge Pruning (Bhaskar, Wettig, Friedman & Chen, NeurIPS 2024, arXiv:2406.16778).

Every edge and every writer has a hard-concrete mask
`z = clamp(σ((logit u + log α)/T)(r − l) + l, 0, 1)`. The masks are trained to minimise
`KL + λ₁(s − t) + λ₂(s − t)²`. Here s is the sparsity of the sampled masks and t a target that rises
linearly; λ₁ and λ₂ are raised by gradient ascent. A mask that gets no gradient still moves, since
weight decay pulls its log α towards 0; this is part of the method.
Cost: one masked forward and one backward pass of a batch per step, plus one full and one corrupted
run per prompt in all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Interval
from jaxtyping import Float, Int
from torch import Generator, Tensor
from torch.nn.functional import logsigmoid

from edgewise import parallel
from edgewise.batches import Batches
from edgewise.circuit import Circuit, EdgeScores
from edgewise.cuda_graph import RecordedStep, can_record
from edgewise.discovery import Checkpoint
from edgewise.graph import Graph
from edgewise.method import Family, Method
from edgewise.progress import track
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer

Count = Annotated[int, Interval(ge=1, le=10**9)]
Positive = Annotated[float, Gt(0)]

LEFT, RIGHT, TEMPERATURE, EPSILON = -0.1, 1.1, 2 / 3, 1e-6
EVALUATION_SLOPE = 0.8
LOG_ALPHA_MEAN, LOG_ALPHA_SD = 10.0, 0.01
MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class EdgePruning(Method):
    """The defaults are the paper's settings for GPT-2 small on IOI.

    Circuits are cut from evaluation masks. These are soft, but in each mask tensor the smallest are
    set to 0: as many as are expected to be 0.

    Three things are corrected here. Only legal edges count as expected zeros, the sparsity of the
    node masks counts every writer, and sparsity targets above 1 work with every schedule. In the
    published code a mask tensor also has entries that are not edges. Nothing trains them, so their
    log α decays towards 0, where each adds 0.17 to the number of expected zeros. The first layers
    have many such entries and few edges: there, every edge with log α below 0 is set to 0 because
    of them. Edges with log α above 0 are not affected.

    Two differences from the published code remain. Gradients are clipped by their norm. Without the
    node loss, the published code for language models includes in this norm the gradients of the
    node multipliers, although these train nothing; its code for Tracr models does not, and neither
    does this one. Under interchange ablation the node mask of `pos` changes no logit. In the
    published code rounding noise moves it by full steps of Adam; here it only decays.
    """

    target_sparsity: Positive = 0.98
    """The sparsity that training aims at. Above 1 it is never reached: the pressure remains."""
    steps: Count = 3000
    """The number of updates of the masks."""
    learning_rate: Positive = 0.8
    """The peak learning rate of the log α."""
    lagrangian_learning_rate: Positive = 0.8
    """The peak learning rate of the multipliers λ₁ and λ₂."""
    warmup_steps: Annotated[int, Ge(0)] = 200
    """Steps in which the learning rates rise linearly. After that they fall linearly to 0."""
    target_warmup_steps: Count = 2500
    """Steps in which the targets rise linearly from 0."""
    batch_size: Count = 32
    """Training pairs per step; all of them, if there are fewer."""
    noise_samples: Count = 1
    """Masks drawn in each step, each for its own part of the batch, at most one per prompt. Then s
    is their mean sparsity, and a step costs the same. The paper draws one."""
    weight_decay: Annotated[float, Interval(ge=0, lt=1)] = 0.01
    """AdamW's, for the log α and the multipliers."""
    node_masks: bool = True
    """Whether writers have masks too; an edge's mask is then multiplied by its writer's."""
    node_loss: bool = False
    """Whether the sparsity of the node masks has a target of its own. Without one, node masks are
    still trained and still decay."""
    node_target: Positive = 0.72
    """The target sparsity of the node masks, with `node_loss`."""
    cut: Literal["sparsity", "threshold", "ranking"] = "sparsity"
    """How masks become circuits. `sparsity` keeps the largest evaluation masks, as many as all of
    them add up to. `threshold` keeps those above `threshold`, as the paper does for Tracr.
    `ranking`, which the paper does not have, ranks all edges, for circuits of any size."""
    threshold: Annotated[float, Interval(ge=0, le=1)] = 0.005
    """What an evaluation mask has to exceed where `cut` is `threshold`."""
    name: ClassVar[str] = "edge-pruning"
    label: ClassVar[str] = "Edge Pruning"
    family: ClassVar[Family] = "masks"
    version: ClassVar[int] = 2
    sweeps: ClassVar[str | None] = "target_sparsity"
    aims_at: ClassVar[str | None] = "target_sparsity"
    after_training: ClassVar[tuple[str, ...]] = ("cut", "threshold")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noise_samples > self.batch_size:
            raise ValueError(
                f"noise_samples={self.noise_samples}; expected 1 to {self.batch_size} (batch_size)"
            )
        if self.warmup_steps >= self.steps:
            raise ValueError(
                f"warmup_steps={self.warmup_steps}; expected 0 to {self.steps - 1} (steps − 1)"
            )
        if self.node_loss and not self.node_masks:
            raise ValueError("node_loss=True needs node_masks=True")

    def most_passes(self, graph: Graph, n_prompts: int) -> float:
        """In each step a batch runs forwards, and backwards with as much work as three passes."""
        return 3.0 + 4 * self.steps * min(self.batch_size, n_prompts) / n_prompts

    def discover(
        self,
        model: MaskedTransformer,
        task: Task,
        *,
        generator: Generator,
        checkpoint: Checkpoint | None = None,
    ) -> Circuit | EdgeScores:
        """The circuit or the ranking, with the trained log-alphas as its `extra`."""
        training = Training(self, model, task, generator)
        first = 0
        if checkpoint is not None and (saved := checkpoint.load()) is not None:
            first = training.restore(*saved)
        for step in track(range(first, self.steps), "edge-pruning", total=self.steps, done=first):
            if checkpoint is not None and checkpoint.due():
                checkpoint.save(*training.state(step))
            training.step(step)
        return self.finish(training.log_alphas(), model.graph)

    @torch.no_grad()
    def finish(self, trained: Mapping[str, Tensor], graph: Graph) -> Circuit | EdgeScores:
        """The circuit or the ranking for trained log-alphas, which are kept as its `extra`.

        `log_alpha` is `[reader, writer]`; with node masks, `node_log_alpha` is `[writer]`.
        """
        log_alpha, nodes = trained["log_alpha"], trained.get("node_log_alpha")
        if self.cut == "ranking":
            # The log of each edge's soft mask times its writer's; none is set to 0.
            scale = EVALUATION_SLOPE / TEMPERATURE
            scores = logsigmoid(scale * log_alpha)
            if nodes is not None:
                scores += logsigmoid(scale * nodes)
            return EdgeScores(scores, graph, extra=trained)
        legal = graph.legal.to(log_alpha.device)
        edge_sizes, node_sizes = tensor_sizes(graph)
        kept = torch.zeros_like(legal)
        kept[legal] = self._kept(log_alpha[legal], edge_sizes)
        if nodes is not None:
            kept &= self._kept(nodes, node_sizes)
        return Circuit(kept, graph, extra=trained)

    def _kept(self, log_alpha: Float[Tensor, " edge"], sizes: Sequence[int]) -> Tensor:
        """Which edges, or nodes, are kept."""
        soft = evaluation_masks(log_alpha, sizes)
        if self.cut == "threshold":
            return soft > self.threshold
        n_kept = int(soft.sum().round())
        kept = torch.zeros(len(soft), dtype=torch.bool, device=soft.device)
        kept[torch.sort(soft, descending=True, stable=True).indices[:n_kept]] = True
        return kept


class Training:
    """The state of one training: log-alphas, multipliers, their optimiser, and the prompts."""

    def __init__(
        self, method: EdgePruning, model: MaskedTransformer, task: Task, generator: Generator
    ) -> None:
        self._method, self._model, self._task = method, model, task
        self._generator = generator
        self._batch_size = min(method.batch_size, len(task.train))
        self._n_samples = min(method.noise_samples, self._batch_size)
        self._batches = Batches(model, task.train, task.ablation)
        self._legal = model.graph.legal.to(model.device)
        self._edge_index = self._legal.flatten().nonzero().flatten()
        self._n_edges, self._n_writers = model.graph.n_edges, len(model.graph.writers)
        size = self._n_edges + (self._n_writers if method.node_masks else 0)
        initial = torch.randn(size, generator=generator, device=model.device)
        # One vector for edges and nodes, float32 whatever the model's dtype.
        self._log_alpha = (LOG_ALPHA_MEAN + LOG_ALPHA_SD * initial).requires_grad_()
        n_targets = 2 if method.node_loss else 1
        self._targets = torch.zeros(n_targets, device=model.device)
        self._multipliers = torch.zeros(2 * n_targets, device=model.device, requires_grad=True)
        self._is_recorded = _is_recordable(self._batches)
        self._rates = [method.learning_rate, method.lagrangian_learning_rate]
        parameters = self._log_alpha, self._multipliers
        self._optimiser = torch.optim.AdamW(
            [
                {"params": [parameter], "lr": self._rate(rate), "maximize": maximize}
                for parameter, rate, maximize in zip(
                    parameters, self._rates, (False, True), strict=True
                )
            ],
            weight_decay=method.weight_decay,
            capturable=self._is_recorded,
        )
        self._train = RecordedStep(self._one_step, model) if self._is_recorded else self._one_step

    def step(self, step: int) -> None:
        """Draw a batch and masks, and update once."""
        self._set_schedule(step)
        drawn = self._draw()
        noise = torch.rand(
            (self._n_samples, len(self._log_alpha)),
            generator=self._generator,
            device=self._log_alpha.device,
        )
        if self._is_recorded:
            drawn = drawn.to(self._model.device, non_blocking=True)
        self._train(drawn, noise)

    def _set_schedule(self, step: int) -> None:
        """The targets, which rise linearly, and the rates, which rise and then fall to zero."""
        method = self._method
        progress = min(1.0, step / method.target_warmup_steps)
        for target, value in zip(
            self._targets, (method.target_sparsity, method.node_target), strict=False
        ):
            target.fill_(value * progress)
        if step < method.warmup_steps:
            factor = step / method.warmup_steps
        else:
            factor = (method.steps - step) / (method.steps - method.warmup_steps)
        for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
            if self._is_recorded:
                group["lr"].fill_(rate * factor)
            else:
                group["lr"] = rate * factor

    def _draw(self) -> Tensor:
        """Indices of distinct pairs, drawn uniformly; of all pairs, if a batch would have more."""
        order = torch.randperm(
            len(self._task.train), generator=self._generator, device=self._generator.device
        )
        return order[: self._batch_size]

    def _one_step(
        self, drawn: Int[Tensor, " batch"], noise: Float[Tensor, "sample edge_and_node"]
    ) -> None:
        """One update: the masks' gradient, then from it the gradients of what is trained."""
        masks, penalty = self._sample(noise)
        gradient = self._gradient(masks.detach().requires_grad_(), drawn)
        self._optimiser.zero_grad()
        torch.autograd.backward([masks, penalty], [gradient, torch.ones_like(penalty)])
        torch.nn.utils.clip_grad_norm_([self._log_alpha, self._multipliers], MAX_GRADIENT_NORM)
        self._optimiser.step()

    def _sample(
        self, noise: Float[Tensor, "sample edge_and_node"]
    ) -> tuple[Float[Tensor, "sample reader writer"], Tensor]:
        """Masks, each shared by a part of the batch, and the Lagrangian's penalty."""
        edges, nodes = self._split(sampled_masks(self._log_alpha, noise))
        means = [edges.mean(), nodes.mean()][: len(self._targets)]
        gap = 1 - torch.stack(means) - self._targets
        penalty = (self._multipliers * torch.cat([gap, gap.square()])).sum()
        masks = edges.new_zeros(len(edges), self._legal.numel())
        masks = masks.index_copy(1, self._edge_index, edges)
        return masks.view(-1, *self._legal.shape) * nodes[:, None], penalty

    def _gradient(
        self, masks: Float[Tensor, "sample reader writer"], drawn: Int[Tensor, " batch"]
    ) -> Float[Tensor, "sample reader writer"]:
        """The mean loss's gradient; a batch whose writers take too much memory runs in slices."""
        total = torch.zeros_like(masks)
        paired = len(masks) > 1
        mine = parallel.share(torch.arange(len(drawn), device=drawn.device))
        for places in mine.split(self._batches.n_prompts_at_once):
            batch = self._batches.batch(drawn[places])
            mask = masks[self._samples_of(places)] if paired else masks[0]
            given = batch.tokens, mask, batch.ablated, batch.targets, batch.prefix
            logits = self._model(*given, paired=paired)
            loss = self._task.training_loss(logits, batch.full_logits, batch.pairs).sum()
            total += torch.autograd.grad(loss / len(drawn), masks)[0]
        return parallel.total(total)

    def _samples_of(self, places: Int[Tensor, " prompt"]) -> Int[Tensor, " prompt"]:
        """The number of the sampled mask that each of these prompts of a batch runs with."""
        return places * self._n_samples // self._batch_size

    def log_alphas(self) -> dict[str, Tensor]:
        """Those of edges, `[reader, writer]`, and, with node masks, of nodes, `[writer]`."""
        edges, nodes = self._split(self._log_alpha.detach())
        log_alpha = torch.zeros(self._legal.shape, device=edges.device)
        log_alpha[self._legal] = edges
        found = {"log_alpha": log_alpha}
        if self._method.node_masks:
            found["node_log_alpha"] = nodes.clone()
        return found

    def _split(self, values: Tensor) -> tuple[Tensor, Tensor]:
        edges, nodes = values[..., : self._n_edges], values[..., self._n_edges :]
        if not self._method.node_masks:
            nodes = torch.ones(*values.shape[:-1], self._n_writers, device=values.device)
        return edges, nodes

    def state(self, step: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that is needed to resume at `step`."""
        tensors = {"generator": self._generator.get_state()}
        for name, parameter in self._parameters().items():
            tensors[name] = parameter
            for key, value in self._optimiser.state[parameter].items():
                tensors[f"{name}.{key}"] = value
        return tensors, {"step": step}

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> int:
        """Restore a saved state; gives the step to resume at."""
        self._generator.set_state(tensors["generator"])
        for name, parameter in self._parameters().items():
            parameter.data.copy_(tensors[name])
            prefix = f"{name}."
            self._optimiser.state[parameter] = {
                key.removeprefix(prefix): (
                    value.to(parameter.device if self._is_recorded else "cpu")
                    if key.endswith(".step")
                    else value.to(parameter)
                )
                for key, value in tensors.items()
                if key.startswith(prefix)
            }
        return state["step"]

    def _parameters(self) -> dict[str, Tensor]:
        return {"log_alpha": self._log_alpha, "multipliers": self._multipliers}

    def _rate(self, rate: float) -> float | Tensor:
        """The rate as the optimiser takes it: a tensor on the device, if steps are recorded."""
        return torch.tensor(rate, device=self._model.device) if self._is_recorded else rate


def _is_recordable(batches: Batches) -> bool:
    """Whether every step runs the same kernels on the same shapes, whatever it draws."""
    model = batches.model
    return (
        can_record(model)
        and not model.recompute
        and batches.n_kept == len(batches.pairs)
        and batches.pairs.targets.shape[1] == 1
    )


def sampled_masks(
    log_alpha: Float[Tensor, " edge"], noise: Float[Tensor, "*sample edge"]
) -> Float[Tensor, "*sample edge"]:
    """Hard-concrete masks for `noise` uniform in [0, 1]."""
    logit = torch.logit(noise * (1 - 2 * EPSILON) + EPSILON)
    stretched = torch.sigmoid((logit + log_alpha) / TEMPERATURE) * (RIGHT - LEFT) + LEFT
    return stretched.clamp(0, 1)


def tensor_sizes(graph: Graph) -> tuple[list[int], list[int]]:
    """The sizes of the published code's mask tensors, of edges and of writers.

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
    zero = torch.sigmoid(
        TEMPERATURE * torch.log(torch.tensor(-LEFT / RIGHT, device=log_alpha.device)) - log_alpha
    )
    soft = torch.sigmoid(EVALUATION_SLOPE * log_alpha / TEMPERATURE)
    for expected, masks in zip(zero.split(list(sizes)), soft.split(list(sizes)), strict=True):
        n_zero = int(expected.sum().round())
        # `masks` is a view of `soft`, which this changes.
        masks[torch.sort(masks, stable=True).indices[:n_zero]] = 0
    return soft
