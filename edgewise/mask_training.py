"""The training loop of all methods that learn masks.

In every step prompts and masks are drawn, the loss of the masked passes is differentiated with
respect to the masks, and AdamW updates the trained tensors from that gradient and from the gradient
of a penalty, which usually asks for sparsity.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from edgewise import parallel
from edgewise.batches import Batches
from edgewise.circuit import Circuit, EdgeScores
from edgewise.cuda_graph import RecordedStep, can_record
from edgewise.discovery import Checkpoint
from edgewise.graph import Graph
from edgewise.memory import training_bytes, writers_bytes
from edgewise.method import Count, Family, Method
from edgewise.progress import note, track
from edgewise.task import Loss, Task
from edgewise.transformer import MaskedTransformer

SampledMasks = Float[Tensor, "sample reader writer"]


class Masks(ABC):
    """What a method trains, and the masks that come of it."""

    parameters: Mapping[str, Tensor]
    """The trained tensors by name: float32 leaves on the model's device."""
    rates: Mapping[str, float]
    """The peak learning rate of each."""
    ascending: tuple[str, ...] = ()
    """Those updated by gradient ascent, such as the multipliers of a constraint."""
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    ablated: Tensor | None = None
    """One of the trained tensors, `[writer, d_model]`: what removed edges carry at every position,
    instead of what the task's ablation gives."""
    max_gradient_norm: float | None = None
    """Gradients of all trained tensors together, but `ablated`, are scaled down to this norm."""

    def __init__(self, graph: Graph, device: torch.device) -> None:
        self.graph, legal = graph, graph.legal.to(device)
        self._edge_index = legal.flatten().nonzero().flatten()

    def table(
        self, values: Float[Tensor, "*sample edge"]
    ) -> Float[Tensor, "*sample reader writer"]:
        """Values of all edges in their places; 0 elsewhere."""
        lead, shape = values.shape[:-1], self.graph.legal.shape
        flat = values.new_zeros(*lead, shape.numel()).index_copy(-1, self._edge_index, values)
        return flat.view(*lead, *shape)

    def start_step(self, step: int) -> float:
        """Set what changes from step to step.

        Returns the factor by which the peak learning rates are multiplied.
        """
        return 1.0

    @abstractmethod
    def noise(self, generator: Generator) -> Tensor:
        """All the random numbers of one step."""

    @abstractmethod
    def sample(self, noise: Tensor) -> tuple[SampledMasks, Tensor | None]:
        """Masks, each for an equal part of the batch, and the penalty, if there is one.

        Both can be differentiated. Nothing is copied between a GPU and the CPU here.
        """

    @property
    def noted(self) -> Mapping[str, Tensor]:
        """Tensors that checkpoints hold besides the trained ones."""
        return {}

    @property
    def facts(self) -> Mapping[str, Tensor]:
        """Single numbers of the last step that tell how a training goes."""
        return {}

    @abstractmethod
    def trained(self) -> dict[str, Tensor]:
        """The tensors that `finish` makes the result from, and that are saved with it."""


class MaskTraining:
    """The state of one training: the masks, their optimiser, and the prompts.

    Each prompt drawn for a step runs `repeats` times. Each of these runs has a mask of its own if
    as many are sampled.
    """

    def __init__(
        self,
        masks: Masks,
        model: MaskedTransformer,
        task: Task,
        generator: Generator,
        *,
        batch_size: int,
        loss: Loss | None = None,
        repeats: int = 1,
    ) -> None:
        self.masks, self._model, self._generator = masks, model, generator
        self._loss = task.training_loss if loss is None else loss
        self._n_drawn, self._repeats = min(batch_size, len(task.train)), repeats
        needed, ablation = training_bytes(model), task.ablation
        if masks.ablated is not None:  # the values of all tokens, and their gradients
            needed, ablation = needed + 2 * writers_bytes(model), "zero"
        self.batches = Batches(model, task.train, ablation, pass_bytes=needed)
        self._is_recorded = masks.ablated is None and _is_recordable(self.batches)
        self._rates = [masks.rates[name] for name in masks.parameters]
        self._optimiser = torch.optim.AdamW(
            [
                {"params": [tensor], "lr": self._rate(rate), "maximize": name in masks.ascending}
                for (name, tensor), rate in zip(masks.parameters.items(), self._rates, strict=True)
            ],
            betas=masks.betas,
            weight_decay=masks.weight_decay,
            capturable=self._is_recorded,
        )
        self._train = RecordedStep(self._one_step, model) if self._is_recorded else self._one_step

    def step(self, step: int) -> None:
        """Draw a batch and masks, and update once."""
        share = self.masks.start_step(step)
        for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
            if self._is_recorded:
                group["lr"].fill_(rate * share)
            else:
                group["lr"] = rate * share
        drawn = self._draw()
        noise = self.masks.noise(self._generator)
        if self._is_recorded:
            drawn = drawn.to(self._model.device, non_blocking=True)
        self._train(drawn, noise)

    def _draw(self) -> Int[Tensor, " batch"]:
        """Indices of distinct pairs, drawn uniformly; of all pairs, if a batch would have more."""
        order = torch.randperm(
            len(self.batches.pairs), generator=self._generator, device=self._generator.device
        )
        return order[: self._n_drawn].repeat_interleave(self._repeats)

    def _one_step(self, drawn: Int[Tensor, " batch"], noise: Tensor) -> None:
        """One update: the masks' gradient, then from it the gradients of what is trained."""
        masks, penalty = self.masks.sample(noise)
        self._optimiser.zero_grad()
        gradient = self.gradient(masks.detach().requires_grad_(), drawn)
        if penalty is None:
            masks.backward(gradient)
        else:
            torch.autograd.backward([masks, penalty], [gradient, torch.ones_like(penalty)])
        if self.masks.max_gradient_norm is not None:
            of_masks = [
                tensor
                for tensor in self.masks.parameters.values()
                if tensor is not self.masks.ablated
            ]
            torch.nn.utils.clip_grad_norm_(of_masks, self.masks.max_gradient_norm)
        self._optimiser.step()

    def gradient(self, masks: SampledMasks, drawn: Int[Tensor, " batch"]) -> SampledMasks:
        """The mean loss's gradient; a batch whose writers take too much memory runs in slices.

        If the ablated values are trained, this also sets their `grad`.
        """
        values = self.masks.ablated
        leaves = [masks] if values is None else [masks, values]
        totals = [torch.zeros_like(leaf) for leaf in leaves]
        self._last_loss = torch.zeros((), device=masks.device)
        paired = len(masks) > 1
        mine = parallel.share(torch.arange(len(drawn), device=drawn.device))
        for places in mine.split(self.batches.n_prompts_at_once):
            batch = self.batches.batch(drawn[places])
            mask = masks[samples_of(places, len(masks), len(drawn))] if paired else masks[0]
            ablated = batch.ablated
            if values is not None:
                ablated = values.expand(batch.tokens.shape[1], -1, -1)
            given = batch.tokens, mask, ablated, batch.targets, batch.prefix
            logits = self._model(*given, paired=paired)
            loss = self._loss(logits, batch.full_logits, batch.pairs).sum()
            found = torch.autograd.grad(loss / len(drawn), leaves)
            for total, gradient in zip(totals, found, strict=True):
                total += gradient
            self._last_loss += loss.detach() / len(drawn)
        if values is not None:
            values.grad = parallel.total(totals[1])
        return parallel.total(totals[0])

    def facts(self) -> dict[str, float]:
        """The last step's loss, of this rank's prompts, and what the masks say."""
        found = {"loss": self._last_loss, **self.masks.facts}
        return {name: float(value) for name, value in found.items()}

    def state(self, step: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that is needed to resume at `step`."""
        tensors = {"generator": self._generator.get_state(), **self.masks.noted}
        for name, parameter in self.masks.parameters.items():
            tensors[name] = parameter
            for key, value in self._optimiser.state[parameter].items():
                tensors[f"{name}.{key}"] = value
        return tensors, {"step": step}

    def restore(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> int:
        """Restore a saved state; gives the step to resume at."""
        self._generator.set_state(tensors["generator"])
        for name, noted in self.masks.noted.items():
            noted.copy_(tensors[name])
        for name, parameter in self.masks.parameters.items():
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

    def _rate(self, rate: float) -> float | Tensor:
        """The rate as the optimiser takes it: a tensor on the device, if steps are recorded."""
        return torch.tensor(rate, device=self._model.device) if self._is_recorded else rate


@dataclass(frozen=True)
class MaskMethod(Method):
    """A method that trains masks and makes a circuit or a ranking of them."""

    steps: Count = 3000
    """The number of updates of the masks."""
    batch_size: Count = 32
    """Training pairs per step; all of them, if there are fewer."""
    family: ClassVar[Family] = "masks"

    @abstractmethod
    def masks(self, graph: Graph, n_prompts: int, generator: Generator) -> Masks:
        """Masks before their first step, on the generator's device; `n_prompts` are trained on."""

    @property
    def repeats(self) -> int:
        """How many times each of a step's pairs runs."""
        return 1

    def loss(self, task: Task) -> Loss:
        """What the masks are trained to minimise, beside their penalty."""
        return task.training_loss

    def training(self, model: MaskedTransformer, task: Task, generator: Generator) -> MaskTraining:
        """The training before its first step."""
        return MaskTraining(
            self.masks(model.graph, len(task.train), generator),
            model,
            task,
            generator,
            batch_size=self.batch_size,
            loss=self.loss(task),
            repeats=self.repeats,
        )

    def most_passes(self, graph: Graph, n_prompts: int) -> float:
        """In each step a batch runs forwards, and backwards with as much work as three passes."""
        drawn = self.repeats * min(self.batch_size, n_prompts)
        return 3.0 + 4 * self.steps * drawn / n_prompts

    def discover(
        self,
        model: MaskedTransformer,
        task: Task,
        *,
        generator: Generator,
        checkpoint: Checkpoint | None = None,
    ) -> Circuit | EdgeScores:
        """The circuit or the ranking, with the trained tensors as its `extra`."""
        return self.complete(self.training(model, task, generator), checkpoint)

    def complete(
        self, training: MaskTraining, checkpoint: Checkpoint | None = None
    ) -> Circuit | EdgeScores:
        """What comes of a training that has not begun, or goes on from the checkpoint."""
        first = 0
        if checkpoint is not None and (saved := checkpoint.load()) is not None:
            first = training.restore(*saved)
        for step in track(range(first, self.steps), self.name, total=self.steps, done=first):
            if checkpoint is not None and checkpoint.due():
                checkpoint.save(*training.state(step))
            training.step(step)
            note(training.facts)
        return self.finish(training.masks.trained(), training.masks.graph)

    @abstractmethod
    def finish(self, trained: Mapping[str, Tensor], graph: Graph) -> Circuit | EdgeScores:
        """The circuit or ranking for these trained tensors, which are kept as its `extra`."""


def samples_of(
    places: Int[Tensor, " prompt"], n_samples: int, n_drawn: int
) -> Int[Tensor, " prompt"]:
    """The number of the sampled mask that each of these prompts of a batch runs with."""
    return places * n_samples // n_drawn


def _is_recordable(batches: Batches) -> bool:
    """Whether every step runs the same kernels on the same shapes, whatever it draws."""
    model = batches.model
    return (
        can_record(model)
        and not model.recompute
        and batches.n_kept == len(batches.pairs)
        and batches.pairs.targets.shape[1] == 1
    )
