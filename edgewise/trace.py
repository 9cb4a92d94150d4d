"""A full pass that can be differentiated with respect to every reader's input.

In the unmodified model all readers of a block have the same input, but the gradients at these
inputs differ. A trace runs the model block by block and keeps each block's graph apart. Its
backward pass goes through the blocks in reverse order and holds the gradients of one block's
readers at a time.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from edgewise import flops
from edgewise.backward_rules import TRUE_GRADIENTS, BackwardRules
from edgewise.graph import Block
from edgewise.prefix import NO_PREFIX, Prefix
from edgewise.schedule import whole
from edgewise.targets import rows_of
from edgewise.transformer import MaskedTransformer


class Trace:
    """A full pass that has run, with the graph of its gradient.

    `embedded` stands for the embeddings of the tokens, for instance somewhere between those of a
    clean and of a corrupted prompt. `outputs` are what some blocks write instead of what they
    compute, by the index of the block: constants, which no gradient passes. With `gradient=False`
    the trace cannot be differentiated, which saves memory.
    """

    def __init__(
        self,
        model: MaskedTransformer,
        tokens: Int[Tensor, "batch position"],
        targets: Int[Tensor, "batch target"],
        prefix: Prefix = NO_PREFIX,
        *,
        embedded: Float[Tensor, "batch position embedding d_model"] | None = None,
        outputs: Mapping[int, Float[Tensor, "batch position part_writer d_model"]] | None = None,
        rules: BackwardRules = TRUE_GRADIENTS,
        gradient: bool = True,
    ) -> None:
        self._model, self._prefix, self._rules = model, prefix, rules
        tokens = model.checked(tokens, prefix)
        embedded = model.embed(tokens, prefix) if embedded is None else embedded
        self._shape, outputs = tokens.shape, outputs or {}
        self._n_kv = model.graph.n_kv_readers if gradient else None
        size = len(tokens), len(model.graph.writers), tokens.shape[1], embedded.shape[3]
        self.written: Float[Tensor, "batch writer position d_model"] = embedded.new_empty(size)
        """Every writer's output."""
        self.written[:, : embedded.shape[2]] = embedded.transpose(1, 2)
        self._inputs: dict[int, Tensor] = {}
        self._added: dict[int, Tensor] = {}
        residual = embedded.sum(2)
        for step in model.graph.steps:
            sums: list[Tensor] = []
            for block in step:
                if block.index in outputs:
                    output = outputs[block.index]
                    added = output.sum(2)
                else:
                    output, added = self._run(block, residual, gradient=gradient)
                sums.append(added)
                self.written[:, block.writers] = output.transpose(1, 2)
            residual = sum(sums, residual)
        self._rows, shape = rows_of(self._shape, targets, model.device)
        last = residual.flatten(0, 1)
        self._last = (last if self._rows is None else last[self._rows]).requires_grad_(gradient)
        with torch.set_grad_enabled(gradient), rules.applied():
            self.logits: Float[Tensor, "batch target vocab"] = model.architecture.unembed(
                self._last.view(*shape, -1)
            )
            """At the targets."""
        self._count(model.graph.blocks[-1])

    def scores(
        self,
        loss: Float[Tensor, " batch"],
        difference: Float[Tensor, "batch writer position d_model"],
        *,
        without_layer: int | None = None,
        again: bool = False,
        attention_anew: bool = False,
    ) -> Float[Tensor, "batch reader writer"]:
        """Each prompt's ⟨difference_w, ∂loss/∂input_r⟩, summed over positions; 0 for no edge.

        `loss` is computed from `logits`. The gradient does not pass the outputs of the layer
        `without_layer`, only what skips it. Say `again` if the trace is differentiated once more.
        With `attention_anew`, an edge into a query or key counts by what the attention gives if it
        is computed with the difference in that input, and by the gradient only from there on.
        """
        graph = self._model.graph
        scores = difference.new_zeros(len(difference), *graph.legal.shape)
        (last,) = torch.autograd.grad(loss.sum(), self._last, retain_graph=again)
        self._count(graph.blocks[-1], backward=True)
        residual = last
        if self._rows is not None:
            residual = last.new_zeros(self._shape.numel(), last.shape[-1])
            residual.index_add_(0, self._rows, last)
        residual = residual.view(*self._shape, -1)
        self._multiply(graph.blocks[-1], residual[:, :, None], difference, scores)
        for step in reversed(graph.steps):
            sums: list[Tensor] = []
            for block in reversed(step):
                if block.index in self._inputs and block.layer != without_layer:
                    inputs = self._gradient(block, residual, again=again)
                    self._multiply(block, inputs, difference, scores)
                    if attention_anew and block.kind == "attention":
                        self._attend_anew(block, residual, difference, scores)
                    sums.append(inputs.sum(2))
            residual = sum(sums, residual)
        return scores

    def _run(
        self, block: Block, residual: Float[Tensor, "batch position d_model"], *, gradient: bool
    ) -> tuple[
        Float[Tensor, "batch position part_writer d_model"],
        Float[Tensor, "batch position d_model"],
    ]:
        """The block's outputs, and their sum. Its graph is kept unless the model recomputes it."""
        keeps = gradient and not self._model.recompute
        n_readers = block.readers.stop - block.readers.start if gradient else 1
        inputs = residual[:, :, None].expand(-1, -1, n_readers, -1)
        if gradient:
            self._inputs[block.index] = inputs = inputs.detach().requires_grad_()
        output, added = self._computed(block, inputs, gradient=keeps)
        if keeps:
            self._added[block.index] = added
        return output.detach(), added.detach()

    def _computed(self, block: Block, inputs: Tensor, *, gradient: bool) -> tuple[Tensor, Tensor]:
        self._count(block)
        with torch.set_grad_enabled(gradient), self._rules.applied():
            output = self._model.outputs(whole(block), inputs, self._prefix)
            return output, output.sum(2)

    def _gradient(
        self, block: Block, residual: Float[Tensor, "batch position d_model"], *, again: bool
    ) -> Float[Tensor, "batch position part_reader d_model"]:
        """The gradient at each reader of the block, from that at the residual stream after it."""
        inputs, kept = self._inputs[block.index], self._added
        if block.index in kept:
            added = kept[block.index] if again else kept.pop(block.index)
        else:
            added = self._computed(block, inputs, gradient=True)[1]
        self._count(block, backward=True)
        return torch.autograd.grad(added, inputs, residual, retain_graph=again)[0]

    def _attend_anew(
        self,
        block: Block,
        residual: Float[Tensor, "batch position d_model"],
        difference: Float[Tensor, "batch writer position d_model"],
        scores: Float[Tensor, "batch reader writer"],
    ) -> None:
        """Overwrite the scores of edges into queries and keys; `residual` is the gradient after it.

        Heads read apart, so one run of the block moves the queries, or the keys, of all of them.
        """
        graph, inputs = self._model.graph, self._inputs[block.index].detach()
        readers = torch.arange(inputs.shape[2])
        queries, keys, _ = readers.split([graph.n_heads, graph.n_kv_readers, graph.n_kv_readers])
        plain, _ = self._computed(block, inputs, gradient=False)
        for moved in (queries, keys):
            rows = block.readers.start + moved
            feeds = graph.feeds[rows][:, block.writers].T.to(scores)
            for writer in range(block.n_legal):
                changed = inputs.clone()
                changed[:, :, moved] += difference[:, writer, :, None]
                output, _ = self._computed(block, changed, gradient=False)
                by_head = ((output - plain) * residual[:, :, None]).sum((1, 3))
                scores[:, rows, writer] = by_head @ feeds

    def _multiply(
        self,
        block: Block,
        gradient: Float[Tensor, "batch position part_reader d_model"],
        difference: Float[Tensor, "batch writer position d_model"],
        scores: Float[Tensor, "batch reader writer"],
    ) -> None:
        by_reader = gradient.transpose(1, 2).flatten(2)
        by_writer = difference[:, : block.n_legal].flatten(2)
        into = scores[:, block.readers, : block.n_legal]
        into.copy_(by_reader @ by_writer.transpose(1, 2))
        architecture, tokens = self._model.architecture, self._shape.numel()
        self._model.flops += flops.read_flops(architecture, whole(block), tokens)

    def _count(self, block: Block, *, backward: bool = False) -> None:
        batch, position = self._shape
        n_prompts = (batch, position) if block.kind != "out" else (1, len(self._last))
        self._model.flops += flops.block_flops(
            self._model.architecture,
            block,
            *n_prompts,
            len(self._prefix),
            n_kv=self._n_kv,
            backward=backward,
        )
