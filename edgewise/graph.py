"""The computational graph of a transformer, edge by edge: an index table and one boolean matrix.

Writers add to the residual stream, readers read it; an edge is a (writer, reader) pair in which the
writer comes before the reader. The order is fixed: writers are the embedding tables, then per layer
the heads and the MLP; readers are, per layer, the q of all heads, the k, the v, the MLP, and `out`
last. So every reader's legal writers are a prefix of the writers (the first ones in the list), and
a model runs as a short list of blocks (attention, MLP, attention, ..., out), each of which reads a
prefix and writes a slice. If attention and MLP are parallel, both of a layer read the same prefix.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Ablation = Literal["interchange", "zero", "mean"]
Kind = Literal["attention", "mlp", "out"]
ABLATIONS: tuple[Ablation, ...] = ("interchange", "zero", "mean")


@dataclass(frozen=True)
class Block:
    """One part of the forward pass: `readers` read writers `[:n_legal]`, `writers` are added.

    `index` is its place among the graph's blocks, `first_later` the first reader that may read what
    it writes.
    """

    index: int
    kind: Kind
    layer: int
    readers: slice
    writers: slice
    n_legal: int
    first_later: int


@dataclass(frozen=True)
class Graph:
    """All edges of a model with `n_layers` layers of one attention block and one MLP.

    `embeddings` names the embedding writers. `n_kv_heads` is set when the k and v readers are per
    key-value head (`a3.kv1.k`) and None when they are per query head (`a3.h5.k`). If `parallel`, no
    edge leads from a layer's heads to its MLP. `coupled_heads` says that a norm over all heads of a
    layer makes what each writes depend on the inputs of all.
    """

    n_layers: int
    n_heads: int
    embeddings: tuple[str, ...] = ("tok", "pos")
    n_kv_heads: int | None = None
    parallel: bool = False
    coupled_heads: bool = False

    @property
    def n_kv_readers(self) -> int:
        """How many k readers (and as many v readers) a layer has."""
        return self.n_kv_heads or self.n_heads

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        blocks: list[Block] = []
        reader, writer = 0, len(self.embeddings)
        for layer in range(self.n_layers):
            n_before = writer
            sizes: dict[Kind, tuple[int, int]] = {
                "attention": (self.n_heads + 2 * self.n_kv_readers, self.n_heads),
                "mlp": (1, 1),
            }
            end_of_layer = reader + sum(n_readers for n_readers, _ in sizes.values())
            for kind, (n_readers, n_writers) in sizes.items():
                readers = slice(reader, reader + n_readers)
                writers = slice(writer, writer + n_writers)
                n_legal, later = writer, readers.stop
                if self.parallel:  # the MLP does not read the heads
                    n_legal, later = n_before, end_of_layer
                blocks.append(Block(len(blocks), kind, layer, readers, writers, n_legal, later))
                reader, writer = readers.stop, writers.stop
        end = slice(reader, reader + 1), slice(writer, writer)
        return (*blocks, Block(len(blocks), "out", self.n_layers, *end, writer, reader + 1))

    @cached_property
    def steps(self) -> tuple[tuple[Block, ...], ...]:
        """The blocks without `out`, those together that read the same residual stream."""
        inner = self.blocks[:-1]
        size = 2 if self.parallel else 1
        return tuple(inner[start : start + size] for start in range(0, len(inner), size))

    @cached_property
    def writers(self) -> tuple[str, ...]:
        layers = (
            [*(f"a{layer}.h{head}" for head in range(self.n_heads)), f"m{layer}"]
            for layer in range(self.n_layers)
        )
        return (*self.embeddings, *(name for layer in layers for name in layer))

    @cached_property
    def readers(self) -> tuple[str, ...]:
        kv = "h" if self.n_kv_heads is None else "kv"
        names: list[str] = []
        for layer in range(self.n_layers):
            names += [f"a{layer}.h{head}.q" for head in range(self.n_heads)]
            names += [f"a{layer}.{kv}{head}.{r}" for r in "kv" for head in range(self.n_kv_readers)]
            names.append(f"m{layer}")
        return (*names, "out")

    @cached_property
    def legal(self) -> Bool[Tensor, "reader writer"]:
        """True where the writer comes before the reader."""
        legal = torch.zeros(len(self.readers), len(self.writers), dtype=torch.bool)
        for block in self.blocks:
            legal[block.readers, : block.n_legal] = True
        return legal

    @cached_property
    def feeds(self) -> Bool[Tensor, "reader writer"]:
        """True where the reader is an input of the component that the writer is the output of."""
        feeds = torch.zeros_like(self.legal)
        heads = torch.arange(self.n_heads)
        shared = heads // (self.n_heads // self.n_kv_readers)  # the k and v reader of each head
        for block in self.blocks:
            if block.kind == "mlp":
                feeds[block.readers, block.writers] = True
            elif block.kind == "attention":
                keys = self.n_heads + shared
                for reader in (heads, keys, keys + self.n_kv_readers):
                    feeds[block.readers.start + reader, block.writers.start + heads] = True
        return feeds

    @cached_property
    def affects(self) -> Bool[Tensor, "reader writer"]:
        """True where the reader's input can change the output of the writer itself.

        Like `feeds`; but where heads are coupled, all readers of a layer's heads affect all heads.
        """
        if not self.coupled_heads:
            return self.feeds
        affects = self.feeds.clone()
        for block in self.blocks:
            if block.kind == "attention":
                affects[block.readers, block.writers] = True
        return affects

    def is_dead(self, mask: Bool[Tensor, "reader writer"], reader: int) -> bool:
        """Whether all that the reader affects has lost its outgoing edges; never so for `out`."""
        reached = self.affects[reader]
        return bool(reached.any()) and not bool(mask[:, reached].any())

    def between(self, writers: Bool[Tensor, " writer"]) -> Bool[Tensor, "reader writer"]:
        """All edges from these writers to each other's components and to `out`."""
        readers = (self.feeds.to(writers.device) & writers).any(-1)
        readers[-1] = True
        return self.legal.to(writers.device) & readers[:, None] & writers

    def weaker_end(self, scores: Float[Tensor, " writer"]) -> Float[Tensor, "reader writer"]:
        """Each edge's lower score of two: its writer's, and that of the component that reads it.

        The edges with at least a certain score are those `between` the writers with at least it.
        """
        fed = scores.expand(len(self.readers), -1).masked_fill(
            ~self.feeds.to(scores.device), -torch.inf
        )
        readers = fed.amax(-1)
        readers[-1] = torch.inf
        return torch.minimum(readers[:, None], scores)

    @cached_property
    def n_edges(self) -> int:
        return int(self.legal.sum())

    @cached_property
    def rerun_shares(self) -> Float[Tensor, " reader"]:
        """About the share of the model that must run again when a reader's input changes.

        All blocks count equally, including `out`. The blocks after the reader's own run again, and
        so does the part of its own block that it feeds.
        """
        shares = torch.ones(len(self.readers), dtype=torch.float64)
        for block in self.blocks[:-1]:
            n_writers = block.writers.stop - block.writers.start
            fed = self.affects[block.readers, block.writers].sum(1) / n_writers
            shares[block.readers] = fed + len(self.blocks) - 1 - block.index
        return shares / len(self.blocks)

    @property
    def passes_over_edges(self) -> float:
        """About how many forward passes it takes to change every edge, one after the other."""
        return float((self.legal.sum(1) * self.rerun_shares).sum())

    def live(
        self, mask: Bool[Tensor, "*circuits reader writer"], ablation: Ablation
    ) -> Bool[Tensor, "*circuits reader writer"]:
        """The live edges of `mask`: those that can change a logit.

        An edge is live if its reader can reach `out` along edges of the circuit and, under
        interchange, if its writer is reached from the token embedding: elsewhere a writer gives the
        same output with and without ablation. Under zero and mean ablation a component without
        inputs still emits a constant, so only the first condition applies.
        """
        live = mask & self.legal.to(mask.device)
        readers, _ = self.reaches_out(live)
        live = live & readers[..., :, None]
        if ablation != "interchange":
            return live
        # From `tok` alone: positions are the same in both prompts, so `pos` stays out.
        start = torch.zeros(len(self.writers), dtype=torch.bool, device=mask.device)
        start[0] = True
        return live & self.downstream(live, writers=start)[..., None, :]

    def downstream(
        self,
        mask: Bool[Tensor, "*circuits reader writer"],
        *,
        writers: Bool[Tensor, " writer"] | None = None,
        readers: Bool[Tensor, "*circuits reader"] | None = None,
    ) -> Bool[Tensor, "*circuits writer"]:
        """The given writers, and all writers that depend on given writers or readers.

        Dependence follows edges of the mask.
        """
        affects = self.affects.to(mask.device)
        shape = (*mask.shape[:-2], len(self.writers))
        depends = torch.zeros(shape, dtype=torch.bool, device=mask.device)
        if writers is not None:
            depends |= writers

        is_reached = False
        for block in self.blocks[:-1]:
            legal = slice(block.n_legal)
            given = None if readers is None else readers[..., block.readers]
            is_reached = (
                is_reached
                or bool(given is not None and given.any())
                or bool(depends[..., legal].any())
            )
            if not is_reached:
                continue
            fed = (mask[..., block.readers, legal] & depends[..., None, legal]).any(-1)
            if given is not None:
                fed |= given
            inputs = affects[block.readers, block.writers]
            depends[..., block.writers] |= (fed[..., :, None] & inputs).any(-2)
        return depends

    def reaches_out(
        self, mask: Bool[Tensor, "*circuits reader writer"], *, first: int = 0
    ) -> tuple[Bool[Tensor, "*circuits reader"], Bool[Tensor, "*circuits writer"]]:
        """The readers and the writers from which `out` can be reached along edges of the mask.

        Blocks before that of the writer `first` are not searched.
        """
        affects = self.affects.to(mask.device)
        readers = torch.zeros(mask.shape[:-1], dtype=torch.bool, device=mask.device)
        writers = readers.new_zeros(*mask.shape[:-2], len(self.writers))
        readers[..., -1] = True
        for block in reversed(self.blocks[:-1]):
            if block.writers.stop <= first:
                break
            later = slice(block.first_later, None)
            useful = (mask[..., later, block.writers] & readers[..., later, None]).any(-2)
            inputs = affects[block.readers, block.writers]
            writers[..., block.writers] = useful
            readers[..., block.readers] = (useful[..., None, :] & inputs).any(-1)
        return readers, writers

    def edge_names(self, mask: Bool[Tensor, "reader writer"]) -> list[str]:
        """The edges of `mask` as `writer->reader`, in the order of the readers."""
        return [f"{self.writers[w]}->{self.readers[r]}" for r, w in mask.nonzero().tolist()]

    def mask_of(self, edges: list[str]) -> Bool[Tensor, "reader writer"]:
        """The mask of edges given by name. Raises ValueError for one that the graph lacks."""
        mask = torch.zeros_like(self.legal)
        for edge in edges:
            writer, arrow, reader = edge.partition("->")
            if not arrow or writer not in self.writers or reader not in self.readers:
                raise ValueError(
                    f"no edge {edge!r} in this graph; expected writer->reader, such as "
                    f"{self.writers[0]}->{self.readers[0]}"
                )
            index = self.readers.index(reader), self.writers.index(writer)
            if not self.legal[index]:
                raise ValueError(
                    f"no edge {edge!r} in this graph: {writer} does not come before {reader}"
                )
            mask[index] = True
        return mask

    @property
    def convention(self) -> str:
        """The choices that fix the number of edges, in words, for captions and file headers."""
        kv = "query head" if self.n_kv_heads is None else "key-value head"
        parallel = ", attention and MLP in parallel" if self.parallel else ""
        embeddings = "+".join(self.embeddings)
        return f"{self.n_edges:,} edges ({embeddings} embeddings, k and v per {kv}{parallel})"

    def to_json(self) -> dict[str, Any]:
        """Without what does not hold, so that graphs of ordinary models keep their stored form."""
        return {name: value for name, value in asdict(self).items() if value is not False}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Graph":
        return cls(**{**fields, "embeddings": tuple(fields["embeddings"])})
