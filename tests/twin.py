"""The masked pass written as its definition: one prompt, one reader, one head, one edge at a time.

Slow, and apart from the engine in everything: norms, rotary positions and softmax are spelt out,
and which writers come before a reader follows from the order in which they are computed.
"""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torch.nn.functional import gelu, silu
from transformers import GPT2LMHeadModel

from edgewise.transformer import MaskedTransformer
from tests.models import HFModel

Writers = dict[str, Tensor]  # by name, each [position, d_model]


def twin_logits(
    hf: HFModel,
    model: MaskedTransformer,
    tokens: Tensor,
    mask: Tensor | None = None,
    ablated: Tensor | None = None,
) -> Tensor:
    """What `model(tokens, mask, ablated)` must be; of `model` only the names are used."""
    logits = []
    for one, prompt in enumerate(tokens):
        means = ablated if ablated is None or ablated.ndim == 3 else ablated[one]
        logits.append(_run(hf, model, prompt, mask, means)[1])
    return torch.stack(logits)


def twin_activations(hf: HFModel, model: MaskedTransformer, tokens: Tensor) -> Tensor:
    """What `model.activations(tokens)` must be."""
    runs = [_run(hf, model, prompt, None, None)[0] for prompt in tokens]
    return torch.stack([torch.stack([run[w] for w in model.graph.writers], 1) for run in runs])


def _run(
    hf: HFModel,
    model: MaskedTransformer,
    prompt: Tensor,
    mask: Tensor | None,
    ablated: Tensor | None,
) -> tuple[Writers, Tensor]:
    graph = model.graph
    clean: Writers = {}

    def read(reader: str) -> Tensor:
        total = torch.zeros(len(prompt), model.architecture.d_model)
        for writer, output in clean.items():
            row, column = graph.readers.index(reader), graph.writers.index(writer)
            weight = 1.0 if mask is None else mask[row, column]
            removed = torch.zeros_like(output) if ablated is None else ablated[:, column]
            total = total + removed + weight * (output - removed)
        return total

    part = _GPT2 if isinstance(hf, GPT2LMHeadModel) else _Llama
    network = part(hf, grouped=graph.n_kv_heads is not None)
    embedded = network.embed(prompt)
    if graph.embeddings == ("embed",):
        embedded = {"embed": embedded["tok"] + embedded["pos"]}
    clean.update(embedded)
    for layer in range(graph.n_layers):
        heads = {
            f"a{layer}.h{head}": network.head(layer, head, *(read(name) for name in names))
            for head, names in enumerate(network.inputs(layer))
        }
        clean.update(heads)
        clean[f"m{layer}"] = network.mlp(layer, read(f"m{layer}"))
    return clean, network.unembed(read("out"))


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    outputs = []
    for position in range(len(q)):
        scores = scale * (k[: position + 1] @ q[position])
        weights = (scores - scores.max()).exp()
        outputs.append((weights / weights.sum()) @ v[: position + 1])
    return torch.stack(outputs)


class _GPT2:
    def __init__(self, hf: HFModel, *, grouped: bool) -> None:
        assert not grouped
        self.weights: Mapping[str, Tensor] = hf.state_dict()
        self.heads, self.eps = hf.config.n_head, hf.config.layer_norm_epsilon

    def embed(self, prompt: Tensor) -> Writers:
        token, position = (self.weights[f"transformer.{name}.weight"] for name in ("wte", "wpe"))
        return {"tok": token[prompt], "pos": position[: len(prompt)]}

    def inputs(self, layer: int) -> Iterator[tuple[str, ...]]:
        for head in range(self.heads):
            yield tuple(f"a{layer}.h{head}.{kind}" for kind in "qkv")

    def head(self, layer: int, head: int, *inputs: Tensor) -> Tensor:
        block = f"transformer.h.{layer}"
        fused, bias = (self.weights[f"{block}.attn.c_attn.{name}"] for name in ("weight", "bias"))
        d_model = len(fused)
        d_head = d_model // self.heads
        parts = []
        for kind, x in enumerate(inputs):
            start = kind * d_model + head * d_head
            columns = slice(start, start + d_head)
            parts.append(self._norm(f"{block}.ln_1", x) @ fused[:, columns] + bias[columns])
        z = _attend(*parts, scale=1 / math.sqrt(d_head))
        output = self.weights[f"{block}.attn.c_proj.weight"][head * d_head : (head + 1) * d_head]
        return z @ output + self.weights[f"{block}.attn.c_proj.bias"] / self.heads

    def mlp(self, layer: int, x: Tensor) -> Tensor:
        block = f"transformer.h.{layer}"
        weights = self.weights
        x = self._norm(f"{block}.ln_2", x)
        hidden = x @ weights[f"{block}.mlp.c_fc.weight"] + weights[f"{block}.mlp.c_fc.bias"]
        hidden = gelu(hidden, approximate="tanh")
        return hidden @ weights[f"{block}.mlp.c_proj.weight"] + weights[f"{block}.mlp.c_proj.bias"]

    def unembed(self, x: Tensor) -> Tensor:
        return self._norm("transformer.ln_f", x) @ self.weights["lm_head.weight"].T

    def _norm(self, name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        deviation = (centred.square().mean(-1, keepdim=True) + self.eps).sqrt()
        return centred / deviation * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]


class _Llama:
    def __init__(self, hf: HFModel, *, grouped: bool) -> None:
        config = hf.config
        self.weights: Mapping[str, Tensor] = hf.state_dict()
        self.grouped, self.eps = grouped, config.rms_norm_eps
        self.heads, self.d_head = config.num_attention_heads, config.head_dim
        self.per_kv = config.num_attention_heads // config.num_key_value_heads

    def embed(self, prompt: Tensor) -> Writers:
        return {"tok": self.weights["model.embed_tokens.weight"][prompt]}

    def inputs(self, layer: int) -> Iterator[tuple[str, ...]]:
        for head in range(self.heads):
            shared = f"kv{head // self.per_kv}" if self.grouped else f"h{head}"
            yield f"a{layer}.h{head}.q", f"a{layer}.{shared}.k", f"a{layer}.{shared}.v"

    def head(self, layer: int, head: int, *inputs: Tensor) -> Tensor:
        block = f"model.layers.{layer}"
        x_q, x_k, x_v = (self._norm(f"{block}.input_layernorm", x) for x in inputs)
        q = self._project(f"{block}.self_attn.q_proj", head, x_q)
        k = self._project(f"{block}.self_attn.k_proj", head // self.per_kv, x_k)
        v = self._project(f"{block}.self_attn.v_proj", head // self.per_kv, x_v)
        z = _attend(self._rotate(q), self._rotate(k), v, scale=1 / math.sqrt(self.d_head))
        columns = slice(head * self.d_head, (head + 1) * self.d_head)
        output = z @ self.weights[f"{block}.self_attn.o_proj.weight"][:, columns].T
        bias = self.weights.get(f"{block}.self_attn.o_proj.bias")
        return output if bias is None else output + bias / self.heads

    def _project(self, name: str, head: int, x: Tensor) -> Tensor:
        rows = slice(head * self.d_head, (head + 1) * self.d_head)
        y = x @ self.weights[f"{name}.weight"][rows].T
        bias = self.weights.get(f"{name}.bias")
        return y if bias is None else y + bias[rows]

    def _rotate(self, x: Tensor) -> Tensor:
        """Dimension i turns with i + d_head / 2, by position · 10000^(−2i / d_head)."""
        half = self.d_head // 2
        speed = 10000.0 ** (-torch.arange(half) / half)
        angle = torch.arange(len(x))[:, None] * speed
        first, second = x[:, :half], x[:, half:]
        cos, sin = angle.cos(), angle.sin()
        return torch.cat([first * cos - second * sin, second * cos + first * sin], 1)

    def mlp(self, layer: int, x: Tensor) -> Tensor:
        block = f"model.layers.{layer}"
        x = self._norm(f"{block}.post_attention_layernorm", x)
        gate, up, down = (
            self.weights[f"{block}.mlp.{name}_proj.weight"] for name in ("gate", "up", "down")
        )
        return (silu(x @ gate.T) * (x @ up.T)) @ down.T

    def unembed(self, x: Tensor) -> Tensor:
        return self._norm("model.norm", x) @ self.weights["lm_head.weight"].T

    def _norm(self, name: str, x: Tensor) -> Tensor:
        scale = (x.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        return x * scale * self.weights[f"{name}.weight"]
