"""Edge Pruning (Bhaskar, Wettig, Friedman & Chen, NeurIPS 2024, arXiv:2406.16778).

Every edge and every writer has a hard-concrete mask
z = clamp(σ((logit u + log α)/T)(r − l) + l, 0, 1), trained to minimise
KL + λ₁(s − t) + λ₂(s − t)²,  s being the sparsity of the sampled masks, t a target that rises
linearly, and λ₁, λ₂ raised by gradient ascent. Untouched masks open by weight decay alone, which is
part of the method.
Cost: one masked forward and one backward pass of a batch per step, plus one full and one corrupted
run per prompt, kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
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

LEFT, RIGHT, TEMPERATURE, EPSILON = -0.1, 1.1, 2 / 3, 1e-6
EVALUATION_SLOPE = 0.8
LOG_ALPHA_MEAN, LOG_ALPHA_SD = 10.0, 0.01
MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class EdgePruning(Method):
    """The paper's settings for GPT-2 small on IOI.

    A `target_sparsity` above 1 cannot be reached, so the pressure never relents. `node_masks`
    multiplies each edge's mask with its writer's; `node_loss` adds the same constraint on them with
    `node_target` (off in the published runs, where they are trained and decay all the same).
    `cut` makes the masks binary: by `sparsity`, the largest are kept, as many as the evaluation
    masks add up to; by `threshold`, all that exceed it (the paper's way for Tracr). Evaluation
    masks are soft, but in each tensor of masks the smallest are 0, as many as are expected to be.

    Ours, not the paper's: `noise_samples` draws several masks in a step, each for its own part of
    the batch (at most one per prompt); s is then their mean sparsity, and a step costs the same.
    With `cut` by `ranking` nothing is made binary: all edges are ranked, to be cut at any size.

    Repaired here: zeros are expected of the legal edges alone, the node masks' sparsity counts
    every writer, and sparsity targets above 1 work in every schedule. In the published code a
    tensor also holds entries that are no edges. Nothing trains them, so their log α decays towards
    0, where each adds 0.17 to the zeros expected. In the first layers, where they are many and
    edges few, every edge with a log α below 0 is lost to them; edges above 0 are spared.

    Two differences from the published code are left. Without node loss its language models still
    count the gradients of the node multipliers, which train nothing there, in the norm that is
    clipped; its Tracr models do not, and neither do we: no one rule follows both. And under
    interchange the node mask of `pos`, which changes no logit, takes full steps of Adam there from
    rounding noise; here it only decays.
    """

    target_sparsity: float = 0.98
    steps: int = 3000
    learning_rate: float = 0.8
    lagrangian_learning_rate: float = 0.8
    warmup_steps: int = 200
    target_warmup_steps: int = 2500
    batch_size: int = 32
    noise_samples: int = 1
    weight_decay: float = 0.01
    node_masks: bool = True
    node_loss: bool = False
    node_target: float = 0.72
    cut: Literal["sparsity", "threshold", "ranking"] = "sparsity"
    threshold: float = 0.005
    name: ClassVar[str] = "edge-pruning"
    label: ClassVar[str] = "Edge Pruning"
    family: ClassVar[Family] = "masks"
    version: ClassVar[int] = 2
    sweeps: ClassVar[str | None] = "target_sparsity"
    after_training: ClassVar[tuple[str, ...]] = ("cut", "threshold")

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "target_warmup_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; expected 1 or more")
        if not 1 <= self.noise_samples <= self.batch_size:
            raise ValueError(
                f"noise_samples={self.noise_samples}; expected 1 to {self.batch_size} (batch_size)"
            )
        if not 0 <= self.warmup_steps < self.steps:
            raise ValueError(
                f"warmup_steps={self.warmup_steps}; expected 0 to {self.steps - 1} (steps − 1)"
            )
        for name in ("target_sparsity", "learning_rate", "lagrangian_learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)}; expected a positive number")
        if self.cut not in ("sparsity", "threshold", "ranking"):
            raise ValueError(f"cut={self.cut!r}; expected 'sparsity', 'threshold' or 'ranking'")
        if self.node_loss and not self.node_masks:
            raise ValueError("node_loss=True needs node_masks=True")

    def discover(
        self,
        model: MaskedTransformer,
        task: Task,
        *,
        generator: Generator,
        checkpoint: Checkpoint | None = None,
    ) -> Circuit | EdgeScores:
        """The circuit or the ranking; the log-alphas of edges and nodes are kept beside it."""
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
        """What a training that ended with these log-alphas gives; they are kept as its `extra`.

        `log_alpha` is `[reader, writer]`; `node_log_alpha`, `[writer]`, is there with node masks
        alone.
        """
        log_alpha, nodes = trained["log_alpha"], trained.get("node_log_alpha")
        if self.cut == "ranking":
            # Evaluation masks times their writers', none of them set to 0, as logarithms.
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
        """The masks made binary."""
        soft = evaluation_masks(log_alpha, sizes)
        if self.cut == "threshold":
            return soft > self.threshold
        n_kept = int(soft.sum().round())
        kept = torch.zeros(len(soft), dtype=torch.bool, device=soft.device)
        kept[torch.sort(soft, descending=True, stable=True).indices[:n_kept]] = True
        return kept


class Training:
    """One run: log-alphas of edges and nodes, multipliers, their optimiser, and the prompts."""

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
        """One batch, samples of the masks, one update."""
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
        """A batch of distinct pairs, uniformly from all of them; all, if there are fewer."""
        order = torch.randperm(
            len(self._task.train), generator=self._generator, device=self._generator.device
        )
        return order[: self._batch_size]

    def _one_step(
        self, drawn: Int[Tensor, " batch"], noise: Float[Tensor, "sample edge_and_node"]
    ) -> None:
        """The gradient of the masks, with which that of all else begins, and one update."""
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
        """Of the mean loss over the batch, which runs in slices where its writers take too much."""
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
        """Which sample of the masks the prompts at these places of a batch run with."""
        return places * self._n_samples // self._batch_size

    def log_alphas(self) -> dict[str, Tensor]:
        """Of the edges, `[reader, writer]`, and, if they have masks, of the nodes, `[writer]`."""
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
        """All that is needed to go on at `step`."""
        tensors = {"generator": self._generator.get_state()}
        for name, parameter in self._parameters().items():
            tensors[name] = parameter
            for key, value in self._optimiser.state[parameter].items():
                tensors[f"{name}.{key}"] = value
        return tensors, {"step": step}

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> int:
        """Take up a saved state; the step to go on with."""
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
        """A recorded optimiser reads its rate from the device's memory."""
        return torch.tensor(rate, device=self._model.device) if self._is_recorded else rate


def _is_recordable(batches: Batches) -> bool:
    """Whether a step is the same kernels on the same shapes, whatever it draws."""
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
    """How many edges each mask tensor of the published code holds, and how many writers.

    Edges: the q of a layer, its k, its v, its MLP, `out`; writers: each embedding table, the heads
    of a layer, its MLP. All follow the graph's order, so each tensor is a run of edges or writers.
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
    """Deterministic masks: as many of each tensor's smallest are 0 as are expected, the rest soft.

    `sizes` are those of the tensors, which follow one another in `log_alpha`.
    """
    zero = torch.sigmoid(
        TEMPERATURE * torch.log(torch.tensor(-LEFT / RIGHT, device=log_alpha.device)) - log_alpha
    )
    soft = torch.sigmoid(EVALUATION_SLOPE * log_alpha / TEMPERATURE)
    for expected, masks in zip(zero.split(list(sizes)), soft.split(list(sizes)), strict=True):
        n_zero = int(expected.sum().round())
        # A view of `soft`, so it is there that they become 0.
        masks[torch.sort(masks, stable=True).indices[:n_zero]] = 0
    return soft
