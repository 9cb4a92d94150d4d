"""The masked pass of every family, written as its definition: one edge, one head, one token.

Slow, and apart from the engine in everything: weights come by name from the state, and norms,
rotary positions, caps and softmax are spelt out, all in the weights' own number format.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

from edgewise.transformer import MaskedTransformer
from tests.models import HFModel

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": gelu,
    "gelu_new": lambda x: gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: gelu(x, approximate="tanh"),
    "relu": torch.relu,
    "silu": silu,
}


@dataclass
class Names:
    """Where a family keeps its parts, and what is special about it. `L` stands for the layer."""

    layer: str = "model.layers.L."
    tok: str = "model.embed_tokens"
    pos: str = ""
    pos_offset: int = 0
    final: str = "model.norm"
    q: str = "self_attn.q_proj"
    k: str = "self_attn.k_proj"
    v: str = "self_attn.v_proj"
    fused: str = ""
    fused_by_head: bool = False
    out: str = "self_attn.o_proj"
    norm_attention: str = "input_layernorm"
    norm_mlp: str = "post_attention_layernorm"
    norm_q: str = ""
    norm_k: str = ""
    after_attention: str = ""
    after_mlp: str = ""
    up: tuple[str, ...] = ("mlp.gate_proj", "mlp.up_proj")
    down: str = "mlp.down_proj"
    centred: bool = False
    offset: float = 0.0
    parallel: bool = False
    rotary: bool = True
    activation: str = "hidden_act"
    epsilon: str = "rms_norm_eps"


_GPT2_LIKE: dict[str, Any] = dict(
    layer="transformer.h.L.",
    tok="transformer.wte",
    pos="transformer.wpe",
    final="transformer.ln_f",
    norm_attention="ln_1",
    norm_mlp="ln_2",
    up=("mlp.c_fc",),
    down="mlp.c_proj",
    centred=True,
    rotary=False,
    activation="activation_function",
    epsilon="layer_norm_epsilon",
)
_GEMMA: dict[str, Any] = dict(
    norm_mlp="pre_feedforward_layernorm",
    after_attention="post_attention_layernorm",
    after_mlp="post_feedforward_layernorm",
    offset=1.0,
    activation="hidden_activation",
)
_QK: dict[str, Any] = dict(norm_q="self_attn.q_norm", norm_k="self_attn.k_norm")
NAMES: dict[str, Names] = {
    "gpt_neox": Names(
        layer="gpt_neox.layers.L.",
        tok="gpt_neox.embed_in",
        final="gpt_neox.final_layer_norm",
        fused="attention.query_key_value",
        fused_by_head=True,
        out="attention.dense",
        up=("mlp.dense_h_to_4h",),
        down="mlp.dense_4h_to_h",
        centred=True,
        parallel=True,
        epsilon="layer_norm_eps",
    ),
    "gpt_neo": Names(
        q="attn.attention.q_proj",
        k="attn.attention.k_proj",
        v="attn.attention.v_proj",
        out="attn.attention.out_proj",
        **_GPT2_LIKE,
    ),
    "gpt_bigcode": Names(fused="attn.c_attn", out="attn.c_proj", **_GPT2_LIKE),
    "opt": Names(
        layer="model.decoder.layers.L.",
        tok="model.decoder.embed_tokens",
        pos="model.decoder.embed_positions",
        pos_offset=2,
        final="model.decoder.final_layer_norm",
        out="self_attn.out_proj",
        norm_attention="self_attn_layer_norm",
        norm_mlp="final_layer_norm",
        up=("fc1",),
        down="fc2",
        centred=True,
        rotary=False,
        activation="activation_function",
        epsilon="",
    ),
    "qwen3": Names(**_QK),
    "phi3": Names(fused="self_attn.qkv_proj", up=("mlp.gate_up_proj",)),
    "olmo2": Names(
        norm_attention="",
        norm_mlp="",
        after_attention="post_attention_layernorm",
        after_mlp="post_feedforward_layernorm",
        **_QK,
    ),
    "gemma2": Names(**_GEMMA),
    "gemma3_text": Names(**_GEMMA, **_QK),
    "starcoder2": Names(up=("mlp.c_fc",), down="mlp.c_proj", centred=True, epsilon="norm_epsilon"),
    "granite": Names(),
    "phi": Names(
        final="model.final_layernorm",
        out="self_attn.dense",
        norm_mlp="input_layernorm",
        norm_q="self_attn.q_layernorm",
        norm_k="self_attn.k_layernorm",
        up=("mlp.fc1",),
        down="mlp.fc2",
        centred=True,
        parallel=True,
        epsilon="layer_norm_eps",
    ),
}


def twin_of_family(
    hf: HFModel, model: MaskedTransformer, prompt: Tensor, mask: Tensor, ablated: Tensor | None
) -> Tensor:
    """What `model(prompt[None], mask, ablated)[0]` must be; of `model` only the names are used.

    `ablated` is `[position, writer, d_model]`, or None for zero ablation.
    """
    return _Twin(hf).logits(model, prompt, mask, ablated)


class _Twin:
    def __init__(self, hf: HFModel) -> None:
        config = hf.config
        self.config, self.state, self.names = config, hf.state_dict(), NAMES[config.model_type]
        self.heads = config.num_attention_heads
        self.kv = getattr(config, "num_key_value_heads", None) or self.heads
        if config.model_type == "gpt_bigcode":
            self.kv = 1 if config.multi_query else self.heads
        self.d_model = config.hidden_size
        self.width = getattr(config, "head_dim", None) or self.d_model // self.heads
        self.eps = getattr(config, self.names.epsilon) if self.names.epsilon else 1e-5
        self.scale = self.width**-0.5
        if config.model_type == "gpt_neo":
            self.scale = 1.0
        if "gemma" in config.model_type:
            self.scale = config.query_pre_attn_scalar**-0.5
        self.is_granite = config.model_type == "granite"
        if self.is_granite:
            self.scale = config.attention_multiplier
        self.cap = config.attn_logit_softcapping if config.model_type == "gemma2" else None

    def logits(
        self, model: MaskedTransformer, prompt: Tensor, mask: Tensor, ablated: Tensor | None
    ) -> Tensor:
        graph, names = model.graph, self.names
        written: dict[str, Tensor] = {}

        def read(reader: str, writers: list[str]) -> Tensor:
            total: Any = 0.0
            for writer in writers:
                row, column = graph.readers.index(reader), graph.writers.index(writer)
                clean, weight = written[writer], mask[row, column]
                removed = torch.zeros_like(clean) if ablated is None else ablated[:, column]
                total = total + weight * clean + (1 - weight) * removed
            return total

        written["tok"] = self.state[f"{names.tok}.weight"][prompt] * self.embedding_scale()
        if names.pos:
            table = self.state[f"{names.pos}.weight"][names.pos_offset :]
            written["pos"] = table[: len(prompt)]
        is_parallel = names.parallel and getattr(self.config, "use_parallel_residual", True)
        for layer in range(graph.n_layers):
            before = list(written)
            inputs = [
                [
                    read(f"a{layer}.{self.reader(graph.n_kv_heads, head, kind)}.{kind}", before)
                    for kind in "qkv"
                ]
                for head in range(self.heads)
            ]
            for head, output in enumerate(self.attention(layer, inputs)):
                written[f"a{layer}.h{head}"] = output
            stream = read(f"m{layer}", before if is_parallel else list(written))
            written[f"m{layer}"] = self.mlp(layer, stream)
        return self.unembed(read("out", list(written)))

    def reader(self, grouped: int | None, head: int, kind: str) -> str:
        return f"h{head}" if kind == "q" or not grouped else f"kv{head // (self.heads // self.kv)}"

    def embedding_scale(self) -> float:
        if "gemma" in self.config.model_type:
            return math.sqrt(self.d_model)
        return self.config.embedding_multiplier if self.is_granite else 1.0

    def write_scale(self) -> float:
        return self.config.residual_multiplier if self.is_granite else 1.0

    def get(self, layer: int, name: str, kind: str = "weight") -> Tensor | None:
        return self.state.get(f"{self.names.layer.replace('L', str(layer), 1)}{name}.{kind}")

    def linear(self, layer: int, name: str, x: Tensor) -> Tensor:
        weight, bias = self.get(layer, name), self.get(layer, name, "bias")
        assert weight is not None
        return x @ weight.T + (0 if bias is None else bias)

    def norm(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        if self.names.centred:
            x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + self.eps).sqrt()
        x = x if weight is None else x * (weight + self.names.offset)
        return x if bias is None else x + bias

    def layer_norm(self, layer: int, name: str, x: Tensor) -> Tensor:
        if not name:
            return x
        return self.norm(x, self.get(layer, name), self.get(layer, name, "bias"))

    def rows(self, layer: int, kind: int, head: int) -> tuple[Tensor, Any]:
        """The matrix and bias of one head's q, k or v (0, 1, 2)."""
        names, width = self.names, self.width
        name = names.fused or (names.q, names.k, names.v)[kind]
        own = head if kind == 0 else head // (self.heads // self.kv)
        start = own * width
        if names.fused_by_head or (names.fused == "attn.c_attn" and self.kv == self.heads):
            start = (3 * head + kind) * width
        elif names.fused:
            start += (0, self.heads, self.heads + self.kv)[kind] * width
        weight, bias = self.get(layer, name), self.get(layer, name, "bias")
        assert weight is not None
        part = slice(start, start + width)
        return weight[part], 0 if bias is None else bias[part]

    def attention(self, layer: int, inputs: list[list[Tensor]]) -> list[Tensor]:
        names = self.names
        qkv: list[list[Tensor]] = []
        for head, streams in enumerate(inputs):
            parts: list[Tensor] = []
            for kind, stream in enumerate(streams):
                weight, bias = self.rows(layer, kind, head)
                x = self.layer_norm(layer, names.norm_attention, stream)
                parts.append(x @ weight.T + bias)
            qkv.append(parts)
        for kind, name in enumerate((names.norm_q, names.norm_k)):
            self.norm_heads(layer, name, kind, qkv)
        outputs = [self.head(layer, head, *qkv[head]) for head in range(self.heads)]
        if names.after_attention:
            weight = self.get(layer, names.after_attention)
            assert weight is not None
            total = torch.stack(outputs).sum(0)
            size = (total.square().mean(-1, keepdim=True) + self.eps).sqrt()
            outputs = [output / size * (weight + names.offset) for output in outputs]
        return [output * self.write_scale() for output in outputs]

    def norm_heads(self, layer: int, name: str, kind: int, qkv: list[list[Tensor]]) -> None:
        weight = self.get(layer, name) if name else None
        if weight is None:
            return
        if len(weight) == self.width:
            for parts in qkv:
                parts[kind] = self.norm(parts[kind], weight, self.get(layer, name, "bias"))
            return
        every = torch.cat([parts[kind] for parts in qkv], -1)  # of all heads, each by its own input
        size = (every.square().mean(-1, keepdim=True) + self.eps).sqrt()
        for head, parts in enumerate(qkv):
            own = head if kind == 0 else head // (self.heads // self.kv)
            parts[kind] = parts[kind] / size * weight[own * self.width : (own + 1) * self.width]

    def head(self, layer: int, head: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.names.rotary:
            q, k = self.turned(layer, q), self.turned(layer, k)
        rows: list[Tensor] = []
        for token in range(len(q)):
            scores = self.scale * (k[: token + 1] @ q[token])
            if self.cap is not None:
                scores = self.cap * (scores / self.cap).tanh()
            weights = scores.exp()
            rows.append((weights / weights.sum()) @ v[: token + 1])
        out, bias = self.get(layer, self.names.out), self.get(layer, self.names.out, "bias")
        assert out is not None
        own = out[:, head * self.width : (head + 1) * self.width]
        return torch.stack(rows) @ own.T + (0 if bias is None else bias / self.heads)

    def turned(self, layer: int, x: Tensor) -> Tensor:
        """Of the first n dimensions, i turns with i + n / 2, by position · base^(−2i / n)."""
        how = self.config.rope_parameters
        if self.config.model_type == "gemma3_text":
            how = how[self.config.layer_types[layer]]
        width = int(self.width * how.get("partial_rotary_factor", 1.0))
        half = width // 2
        speed = how["rope_theta"] ** (-torch.arange(half, dtype=x.dtype) * 2 / width)
        size = 1.0
        if how["rope_type"] == "longrope":
            speed = speed / torch.tensor(how["short_factor"], dtype=x.dtype)
            longest = how["original_max_position_embeddings"]
            size = math.sqrt(1 + math.log(how["factor"]) / math.log(longest))
        angle = torch.arange(len(x), dtype=x.dtype)[:, None] * speed
        cos, sin = size * angle.cos(), size * angle.sin()
        first, second, rest = x[:, :half], x[:, half:width], x[:, width:]
        return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], 1)

    def mlp(self, layer: int, x: Tensor) -> Tensor:
        names = self.names
        x = self.layer_norm(layer, names.norm_mlp, x)
        parts = [self.linear(layer, name, x) for name in names.up]
        if names.up == ("mlp.gate_up_proj",):
            parts = list(parts[0].chunk(2, -1))
        hidden = ACTIVATIONS[getattr(self.config, names.activation)](parts[0])
        hidden = hidden * parts[1] if len(parts) == 2 else hidden
        written = self.linear(layer, names.down, hidden)
        return self.layer_norm(layer, names.after_mlp, written) * self.write_scale()

    def unembed(self, x: Tensor) -> Tensor:
        norm = (self.state.get(f"{self.names.final}.{kind}") for kind in ("weight", "bias"))
        head = "embed_out" if "embed_out.weight" in self.state else "lm_head"
        logits = self.norm(x, *norm) @ self.state[f"{head}.weight"].T
        logits = logits + self.state.get(f"{head}.bias", 0)
        if self.is_granite:
            logits = logits / self.config.logits_scaling
        cap = getattr(self.config, "final_logit_softcapping", None)
        return logits if cap is None else cap * (logits / cap).tanh()
