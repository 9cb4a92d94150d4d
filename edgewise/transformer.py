"""A transformer's forward pass whose every edge can be masked.

For reader r: input_r = Σ_w ablated_w + Σ_w mask[r, w] · (clean_w − ablated_w) over its legal
writers, then the layer's own norm, per reader. `clean_w` is what writer w produced in this masked
pass. A mask of ones is the unmodified model; a mask of zeros under interchange ablation is the
model on the corrupted prompt. Cost: one forward pass plus 2 · d_model · edges operations per token.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from edgewise import flops
from edgewise.architectures import Architecture, architecture_of
from edgewise.graph import Graph
from edgewise.masked_run import Run, running
from edgewise.prefix import NO_PREFIX, Prefix
from edgewise.pretrained import load_model
from edgewise.schedule import Part, whole
from edgewise.self_check import check_forward
from edgewise.targets import check_range, distinct_rows, rows_of
from edgewise.writers import WriterBuffer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Mask = Float[Tensor, "*mask reader writer"] | Bool[Tensor, "*mask reader writer"]
Logits = (
    Float[Tensor, "*mask batch target vocab"]
    | Float[Tensor, "*mask batch vocab"]
    | Float[Tensor, "batch *target vocab"]
)
"""Without an axis of masks where there is one mask, or one for each prompt."""


class MaskedTransformer:
    """A loaded model, its graph, and the masked pass over it.

    `embeddings="joint"` makes one writer of all embedding tables; `kv_heads="key-value"` gives a
    grouped-query model one k and one v reader per key-value head instead of per query head. The
    model's parameters are frozen in place: only masks take gradients. Unless `check` is false, one
    short pair of prompts is run to see that the masked pass is the model's own forward pass; a
    difference raises ValueError (`edgewise/self_check.py`).
    """

    def __init__(
        self,
        model: "PreTrainedModel | Architecture",
        *,
        embeddings: Literal["separate", "joint"] = "separate",
        kv_heads: Literal["query", "key-value"] = "query",
        id: str | None = None,
        check: bool = True,
    ) -> None:
        if embeddings not in ("separate", "joint"):
            raise ValueError(f"embeddings={embeddings!r}; expected 'separate' or 'joint'")
        if kv_heads not in ("query", "key-value"):
            raise ValueError(f"kv_heads={kv_heads!r}; expected 'query' or 'key-value'")
        own = None if isinstance(model, Architecture) else model
        if not isinstance(model, Architecture):
            id = id or model.config.name_or_path
            model = architecture_of(model.eval().requires_grad_(False))
        self.architecture = model
        self.id = id or "unnamed"
        grouped = kv_heads == "key-value" and model.n_kv_heads < model.n_heads
        self.graph = Graph(
            model.n_layers,
            model.n_heads,
            ("embed",) if embeddings == "joint" and len(model.embeddings) > 1 else model.embeddings,
            model.n_kv_heads if grouped else None,
            parallel=model.parallel,
            coupled_heads=model.coupled_heads,
        )
        weight = next(iter(model.weights().values()))
        self.device, self.dtype = weight.device, weight.dtype
        self.flops = 0
        """Matrix-product operations executed so far, forward and backward."""
        self.recompute = False
        """Whether backward passes run each block again instead of keeping what is inside it."""
        self.batch_bytes = 2 * 2**30
        """The most that the writers' outputs of prompts that run at once may take."""
        self.memory_bytes: int | None = None
        """The most that a pass may take in all, instead of `batch_bytes`."""
        self.cuda_graphs = False
        """Whether methods may record a step as a CUDA graph and replay it."""
        if own is not None and check:
            check_forward(self, own)

    @classmethod
    def from_pretrained(
        cls,
        id_or_folder: str | Path,
        *,
        id: str | None = None,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        device_map: str | Mapping[str, int | str | torch.device] | None = None,
        embeddings: Literal["separate", "joint"] = "separate",
        kv_heads: Literal["query", "key-value"] = "query",
        check: bool = True,
    ) -> "MaskedTransformer":
        """Load a Hugging Face model by hub id or folder; `id` is what results call it.

        `device_map` spreads the layers over several devices, as in Hugging Face's own
        `from_pretrained` ("auto", "balanced_low_0", or a device for each module), instead of
        `device`. The writers' outputs stay with the embedding, so its device needs room for them.

        Raises ValueError for an architecture that is not supported, before any weight is read, for
        weights that are missing, unexpected or of another shape, and for a model that fails the
        check of its masked pass (`check=False` leaves that out); OSError for a model that cannot be
        found. Python code in the model's folder is never run.
        """
        model: Any = load_model(id_or_folder, dtype=dtype, device_map=device_map)
        model = model.to(device) if device_map is None else model
        options: Any = {"embeddings": embeddings, "kv_heads": kv_heads, "check": check}
        return cls(model, id=id or str(id_or_folder), **options)

    @classmethod
    def from_tracr(cls, program: Any, **options: Any) -> "MaskedTransformer":
        """Compile a RASP program and wrap it; options as in `TracrArchitecture.compile`."""
        from edgewise.architectures.tracr import TracrArchitecture  # pulls in jax

        return cls(TracrArchitecture.compile(program, **options), id=f"tracr/{program.name}")

    @cached_property
    def weight_hash(self) -> str:
        """SHA-256 of all weights and their names, in hexadecimal."""
        digest = hashlib.sha256()
        for name, weight in sorted(self.architecture.weights().items()):
            digest.update(name.encode())
            values = weight.detach().cpu().contiguous().view(-1)
            digest.update(values.view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @property
    def causal(self) -> bool:
        """Whether right padding is harmless. Otherwise all prompts must have equal lengths."""
        return self.architecture.causal

    def forward_flops(self, lengths: Int[Tensor, " prompt"]) -> int:
        """Operations of one Hugging Face forward pass of prompts of these lengths."""
        return flops.forward_flops(self.architecture, self.graph.blocks, lengths)

    def __call__(
        self,
        tokens: Int[Tensor, "batch position"],
        mask: Mask | None = None,
        ablated: Float[Tensor, "*batch_position writer d_model"] | None = None,
        targets: Int[Tensor, "batch *target"] | None = None,
        prefix: Prefix = NO_PREFIX,
        *,
        paired: bool = False,
    ) -> Logits:
        """Logits `[batch, position, vocab]`, with the mask's leading axis in front if it has one.

        `mask=None` is the full model. `ablated` is what removed edges carry, as `activations` gives
        it; `[position, writer, d_model]` for a mean; None for zero ablation. It may have a gradient
        if the mask has one. `targets` restricts the logits to those positions. Entries of the mask
        outside `graph.legal` are ignored. `prefix` stands before the tokens; a masked pass takes it
        under interchange ablation alone. Every mask runs on every prompt, unless they are `paired`:
        then there is one mask for each prompt, and the logits have no axis of masks.
        """
        if mask is None:
            tokens = self.checked(tokens, prefix)
            return self._logits(self._full_pass(tokens, prefix)[0], targets)
        n_masks = len(mask) if mask.ndim == 3 and not paired else 1
        buffer = self.buffer(tokens, ablated, n_masks=n_masks, prefix=prefix, paired=paired)
        return self.run(buffer, mask, targets)

    @torch.no_grad()
    def activations(
        self, tokens: Int[Tensor, "batch position"], prefix: Prefix = NO_PREFIX
    ) -> Float[Tensor, "batch position writer d_model"]:
        """Every writer's output in the full model, at the positions after the prefix."""
        return self._full_pass(self.checked(tokens, prefix), prefix, len(tokens))[1]

    @torch.no_grad()
    def logits_and_activations(
        self,
        clean: Int[Tensor, "batch position"],
        corrupted: Int[Tensor, "batch position"],
        targets: Int[Tensor, "batch *target"],
        prefix: Prefix = NO_PREFIX,
    ) -> tuple[Logits, Float[Tensor, "batch position writer d_model"]]:
        """The full model's logits on clean prompts, its activations on corrupted ones.

        Both run at once, which is faster than one after the other.
        """
        n_recorded = len(corrupted)
        tokens = self.checked(torch.cat([corrupted, clean]), prefix)
        residual, record = self._full_pass(tokens, prefix, n_recorded)
        return self._logits(residual[n_recorded:], targets), record

    @torch.no_grad()
    def prefix(self, tokens: Int[Tensor, " position"]) -> Prefix:
        """The full model's keys and values for tokens with which all prompts begin.

        Raises ValueError for a model that is not causal, and for no tokens.
        """
        if not self.causal or not len(tokens):
            raise ValueError(
                f"a prefix of {len(tokens)} tokens for {self.id}; expected at least one token, and "
                "a causal model"
            )
        written = self.activations(tokens[None])
        keys_values: list[Tensor] = []
        for block in self.graph.blocks:
            if block.kind == "attention":
                residual = written[:, :, : block.n_legal].sum(2, keepdim=True)
                keys_values.append(self.architecture.keys_values(block.layer, residual))
                self.flops += flops.projection_flops(self.architecture, len(tokens))
        return Prefix(tuple(keys_values))

    def buffer(
        self,
        tokens: Int[Tensor, "batch position"],
        ablated: Float[Tensor, "*batch_position writer d_model"] | None,
        *,
        n_masks: int = 1,
        prefix: Prefix = NO_PREFIX,
        paired: bool = False,
    ) -> WriterBuffer:
        """A buffer for masked runs on these prompts, which can be rerun from any block.

        It has room for `n_masks` masks on every prompt or, if `paired`, for one mask per prompt.
        """
        tokens = self.checked(tokens, prefix)
        shape = [*tokens.shape, len(self.graph.writers), self.architecture.d_model]
        if ablated is not None and list(ablated.shape) not in (shape, shape[1:], [1, *shape[1:]]):
            raise ValueError(
                f"ablated activations of shape {tuple(ablated.shape)}; expected [batch, position, "
                f"writer, d_model] = {shape}, or one for all prompts, without the first axis"
            )
        return WriterBuffer(
            self.graph,
            tokens,
            self.embed(tokens, prefix),
            None if ablated is None else ablated.to(self.device, self.dtype),
            n_masks=n_masks,
            prefix=prefix,
            paired=paired,
        )

    def run(
        self,
        buffer: WriterBuffer,
        mask: Mask,
        targets: Int[Tensor, "batch *target"] | None = None,
        parts: Sequence[Part] | None = None,
    ) -> Logits:
        """The masked pass.

        Outputs are reused from the buffer's last run where they are still valid. Only components
        from which `out` can be reached are run. With a gradient all are run, because the gradient
        can be nonzero where the mask is zero. `parts` are passed on to `running`.
        """
        if mask.shape[-2:] != self.graph.legal.shape or mask.ndim not in (2, 3):
            raise ValueError(
                f"mask of shape {tuple(mask.shape)}; expected [reader, writer] = "
                f"{list(self.graph.legal.shape)}, with at most one axis of masks in front"
            )
        masks = mask.view(-1, *self.graph.legal.shape)
        if buffer.paired and len(masks) != len(buffer.tokens):
            raise ValueError(
                f"{len(masks)} masks for {len(buffer.tokens)} prompts; expected one for each, as "
                "they are paired"
            )
        assert buffer.paired or len(masks) <= buffer.n_masks
        for_gradient = masks.requires_grad and torch.is_grad_enabled()
        with running(buffer, masks, parts) as run:
            logits = self._run_parts(run, targets, for_gradient=for_gradient)
        return logits if mask.ndim == 3 and not buffer.paired else logits[0]

    def _run_parts(
        self, run: Run, targets: Int[Tensor, "batch *target"] | None, *, for_gradient: bool
    ) -> Logits:
        rows, shape = rows_of(run.buffer.tokens.shape, targets, self.device)
        distinct = rows
        if rows is not None:
            distinct = distinct_rows(rows, targets, for_gradient=for_gradient)
        run_part = self._run_part
        if self.recompute and for_gradient:
            run_part = partial(checkpoint, run_part, use_reentrant=False, early_stop=False)
        last_mlp = len(self.graph.blocks) - 2
        inputs: list[Tensor] = []
        for part in run.parts:
            if part.block.kind == "out":
                count_backward = self._count(part, math.prod(shape), 1, NO_PREFIX)
                inputs.append(run.read(part, rows, count_backward))
            else:  # only the targets of the last MLP's outputs are read
                some = distinct if part.block.index == last_mlp else None
                run.write(part, run_part(run, part, some))
        ordered = inputs[0]
        if len(inputs) > 1:
            outs = (part for part in run.parts if part.block.kind == "out")
            order = torch.tensor([mask for part in outs for mask in part.masks]).argsort()
            ordered = torch.cat(inputs)[order.to(self.device)]
        return self.architecture.unembed(ordered.view(-1, *shape, ordered.shape[-1]))

    def _run_part(
        self, run: Run, part: Part, rows: Int[Tensor, " row"] | None
    ) -> Float[Tensor, "batch token head d_model"]:
        """The part's outputs.

        If only some token rows are run, each counts as a prompt of one token.
        """
        prefix = run.buffer.prefix
        batch, position = run.buffer.tokens.shape if rows is None else (len(rows), 1)
        inputs = run.read(part, rows, self._count(part, batch, position, prefix))
        return self.outputs(part, inputs.view(-1, position, *inputs.shape[2:]), prefix)

    def _full_pass(
        self,
        tokens: Int[Tensor, "batch position"],
        prefix: Prefix,
        n_recorded: int = 0,
    ) -> tuple[
        Float[Tensor, "batch position d_model"], Float[Tensor, "recorded position writer d_model"]
    ]:
        """The unmodified model's residual stream, and the first prompts' writers' outputs."""
        batch, position = tokens.shape
        recorded = (n_recorded, position, len(self.graph.writers), self.architecture.d_model)
        record = torch.empty(recorded, dtype=self.dtype, device=self.device)
        embedded = self.embed(tokens, prefix)
        residual = embedded.sum(2)
        record[:, :, : embedded.shape[2]] = embedded[:n_recorded]
        for step in self.graph.steps:
            added: list[Tensor] = []
            for block in step:
                outputs = self.outputs(whole(block), residual[:, :, None], prefix)
                added.append(outputs.sum(2))
                record[:, :, block.writers] = outputs[:n_recorded]
                shape = (batch, position, len(prefix))
                self.flops += flops.block_flops(self.architecture, block, *shape)
            residual = sum(added, residual)
        return residual, record

    def _logits(
        self,
        residual: Float[Tensor, "batch position d_model"],
        targets: Int[Tensor, "batch *target"] | None,
    ) -> Logits:
        rows, shape = rows_of(residual.shape[:2], targets, self.device)
        residual = residual.flatten(0, 1)
        residual = residual if rows is None else residual[rows]
        self.flops += flops.block_flops(self.architecture, self.graph.blocks[-1], 1, len(residual))
        return self.architecture.unembed(residual.view(*shape, -1))

    def checked(
        self, tokens: Int[Tensor, "batch position"], prefix: Prefix
    ) -> Int[Tensor, "batch position"]:
        """The tokens, on the model's device. Raises ValueError for ones that it cannot take."""
        limit = self.architecture.max_positions
        if tokens.ndim != 2:
            raise ValueError(f"tokens of shape {tuple(tokens.shape)}; expected [batch, position]")
        length = len(prefix) + tokens.shape[1]
        if limit is not None and length > limit:
            raise ValueError(f"prompts of {length} tokens; {self.id} takes up to {limit}")
        known = self.architecture.n_tokens
        check_range(tokens, known, "token ids", f"{self.id} knows 0 to {known - 1}")
        return tokens.to(self.device)

    def embed(
        self, tokens: Int[Tensor, "batch position"], prefix: Prefix
    ) -> Float[Tensor, "batch position embedding d_model"]:
        """What the embedding writers of the graph add."""
        outputs = self.architecture.embed(tokens, len(prefix), prefix.forks_of(len(tokens)))
        joint = len(self.graph.embeddings) == 1
        return torch.stack([sum(outputs[1:], outputs[0])] if joint else outputs, 2)

    def outputs(
        self, part: Part, inputs: Float[Tensor, "batch position reader d_model"], prefix: Prefix
    ) -> Float[Tensor, "batch position writer d_model"]:
        """What the heads or the MLP of a part add, for these inputs of its readers."""
        layer = part.block.layer
        if part.block.kind == "attention":
            seen = prefix.past(layer), prefix.forks_of(len(inputs))
            return self.architecture.attention(layer, inputs, part.chosen, *seen)
        return self.architecture.mlp(layer, inputs.squeeze(2))[:, :, None]

    def _count(self, part: Part, batch: int, position: int, prefix: Prefix) -> Callable[[], None]:
        """Count a masked part's forward pass; the function returned counts its backward pass."""
        n_heads = None if part.chosen is None else len(part.chosen)
        heads = {"n_heads": n_heads, "n_kv": n_heads or self.graph.n_kv_readers}
        shape = (self.architecture, part.block, len(part.masks) * batch, position, len(prefix))
        read = flops.read_flops(self.architecture, part, batch * position)
        self._add_flops(read + flops.block_flops(*shape, **heads))
        backward = 2 * read + flops.block_flops(*shape, **heads, backward=True)
        return partial(self._add_flops, backward)

    def _add_flops(self, operations: int) -> None:
        self.flops += operations
