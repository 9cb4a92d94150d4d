"""Programs compiled by Tracr (Lindner et al., NeurIPS 2023): known algorithms as weights.

The weights are the compiled model's own, and so is the unembedding, which names the output's place
in the residual stream. There is no norm and no causal mask (unless compiled with one); the
activation is relu. A categorical program has one logit per output value, a numerical one a single
output. Prompts begin with BOS and are encoded by the compiled model's encoder.
"""

import copy
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from edgewise.architectures.attention import attend, combine, positions, project

if TYPE_CHECKING:
    from tracr.compiler.assemble import AssembledTransformerModel
    from tracr.rasp.rasp import RASPExpr, SOp

BOS = "BOS"
_FIRST_LABEL = 1000


class TracrArchitecture:
    """A compiled program's weights as tensors, with its encoders."""

    parallel = coupled_heads = False
    embeddings: tuple[str, ...] = ("tok", "pos")

    def __init__(
        self,
        compiled: "AssembledTransformerModel",
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        config = compiled.model_config
        if config.layer_norm:
            raise ValueError("layer_norm=True: compiled models with a norm are not supported")
        if compiled.input_encoder is None or compiled.output_encoder is None:
            raise ValueError(
                "the compiled model lacks an encoder; expected Tracr's compiler output"
            )
        self._input, self._output = compiled.input_encoder, compiled.output_encoder
        self._weights = {
            f"{module}/{name}": torch.tensor(np.asarray(weight), dtype=dtype, device=device)
            for module, weights in compiled.params.items()
            for name, weight in weights.items()
        }
        unembedding = torch.tensor(_unembedding(compiled), dtype=dtype, device=device)
        self._weights["unembed/w"] = unembedding
        self.causal = config.causal
        self.n_layers, self.n_heads = config.num_layers, config.num_heads
        self.n_kv_heads, self.d_head = config.num_heads, config.key_size
        self.d_model, self.n_outputs = unembedding.shape
        self.n_tokens = len(self._weights["token_embed/embeddings"])
        self.mlp_parameters = 2 * self.d_model * config.mlp_hidden_size
        self.max_positions: int | None = len(self._weights["pos_embed/embeddings"])
        self.trained_positions: int | None = self.max_positions
        self._fused_qkv = [self._fused(layer) for layer in range(self.n_layers)]

    @classmethod
    def compile(
        cls,
        program: "SOp",
        *,
        vocab: Iterable[Any],
        max_seq_len: int,
        compiler_bos: str = BOS,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        **options: Any,
    ) -> "TracrArchitecture":
        """Compile a RASP program for prompts of BOS and up to `max_seq_len` tokens of `vocab`.

        `options` are the compiler's own (`causal`, `mlp_exactness`). Raises ValueError for a
        program that Tracr cannot compile.
        """
        with _quiet_jax(), _initialised_by_shape():
            from tracr.compiler import compile_rasp_to_model

            try:
                compiled = compile_rasp_to_model(
                    _with_fixed_labels(program),
                    set(vocab),
                    max_seq_len,
                    compiler_bos=compiler_bos,
                    **options,
                )
            except (NotImplementedError, TypeError) as error:
                raise ValueError(f"Tracr cannot compile {program.name}: {error}") from None
            return cls(compiled, dtype=dtype, device=device)

    @property
    def categorical(self) -> bool:
        """Whether the logits stand for values; otherwise they are the value itself."""
        return hasattr(self._output, "encoding_map")

    def encode(self, prompts: Sequence[Sequence[Any]]) -> Int[Tensor, "batch position"]:
        """Token ids of prompts of equal lengths, each beginning with BOS.

        Raises ValueError for a token that is not in the vocabulary.
        """
        ids = [self._input.encode(list(prompt)) for prompt in prompts]
        return torch.tensor(ids, device=self.device)

    def decode(self, logits: Float[Tensor, "batch position vocab"]) -> list[list[Any]]:
        """The program's output values: the likeliest one, or the number itself."""
        values = logits.argmax(-1) if self.categorical else logits.squeeze(-1)
        return [self._output.decode(row) for row in values.tolist()]

    @property
    def device(self) -> torch.device:
        return self._weights["unembed/w"].device

    def weights(self) -> dict[str, Tensor]:
        return self._weights

    def configuration(self) -> dict[str, Any]:
        return {"type": "tracr", "heads": self.n_heads, "causal": self.causal}

    def embed(
        self,
        tokens: Int[Tensor, "batch position"],
        start: int = 0,
        forks: Int[Tensor, " batch"] | None = None,
    ) -> list[Tensor]:
        places = positions(start, tokens.shape[1], forks, tokens.device)
        position = self._weights["pos_embed/embeddings"][places]
        token = self._weights["token_embed/embeddings"][tokens]
        return [token, position.expand_as(token)]

    def attention(
        self,
        layer: int,
        x: Float[Tensor, "batch position reader d_model"],
        heads: Int[Tensor, " head"] | None = None,
        past: Float[Tensor, "2 kv_head past d_head"] | None = None,
        forks: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch position head d_model"]:
        output = f"transformer/layer_{layer}/attn/linear"
        chosen = slice(None) if heads is None else heads
        past = None if past is None else past[:, chosen]
        q, k, v = self._qkv(layer, x, chosen)
        z = attend(q, k, v, past, forks, causal=self.causal)
        weight = self._weights[f"{output}/w"].view(self.n_heads, self.d_head, -1)
        return combine(z, weight[chosen], self._weights[f"{output}/b"], self.n_heads)

    def keys_values(
        self, layer: int, x: Float[Tensor, "1 position 1 d_model"]
    ) -> Float[Tensor, "2 kv_head position d_head"]:
        return self._qkv(layer, x, slice(None))[1:].squeeze(2)

    def _qkv(
        self,
        layer: int,
        x: Float[Tensor, "batch position reader d_model"],
        heads: slice | Int[Tensor, " head"],
    ) -> Float[Tensor, "3 projection batch position d_head"]:
        weight, bias = (
            fused.unflatten(0, (3, self.n_heads))[:, heads].flatten(0, 1)
            for fused in self._fused_qkv[layer]
        )
        qkv = project(x, weight, bias)
        return qkv.view(3, -1, *qkv.shape[1:])

    def _fused(self, layer: int) -> tuple[Tensor, Tensor]:
        """The matrices and biases of the q of all heads, the k, the v."""
        names = [f"transformer/layer_{layer}/attn/{name}" for name in ("query", "key", "value")]
        shape = self.n_heads, self.d_head
        weight = torch.cat([self._weights[f"{name}/w"].view(-1, *shape) for name in names], 1)
        bias = torch.cat([self._weights[f"{name}/b"].view(shape) for name in names])
        return weight.transpose(0, 1).contiguous(), bias

    def mlp(
        self, layer: int, x: Float[Tensor, "batch position d_model"]
    ) -> Float[Tensor, "batch position d_model"]:
        part = f"transformer/layer_{layer}/mlp"
        hidden = self._linear(f"{part}/linear_1", x).relu()
        return self._linear(f"{part}/linear_2", hidden)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self._weights[f"{name}/w"] + self._weights[f"{name}/b"]

    def unembed(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... vocab"]:
        return x @ self._weights["unembed/w"]


def _unembedding(compiled: "AssembledTransformerModel") -> np.ndarray:
    """The unembedding matrix `[d_model, vocab]`, obtained by unembedding every basis vector.

    Its columns come in the order of the output encoder, as both follow the output's basis.
    """
    import haiku

    def unembed(x: np.ndarray) -> Any:
        return compiled.get_compiled_model().unembed(x, use_unembed_argmax=False)

    axes = np.eye(len(compiled.residual_labels), dtype=np.float32)
    image = haiku.without_apply_rng(haiku.transform(unembed)).apply(compiled.params, axes)
    return np.asarray(image).reshape(len(axes), -1)


def _with_fixed_labels(program: "SOp") -> "SOp":
    """A copy whose expressions are numbered from the output backwards.

    Tracr numbers expressions by a counter of the process and sorts the residual stream by name and
    number. With equally long numbers of our own, a program has the same weights, and the same
    hash, in every process.
    """
    program = copy.deepcopy(program)
    queue: list[RASPExpr] = [program]
    seen = {id(program)}
    for number, expression in enumerate(queue, _FIRST_LABEL):
        vars(expression)["unique_id"] = number
        for child in expression.children:
            if id(child) not in seen:
                seen.add(id(child))
                queue.append(child)
    return program


@contextmanager
def _quiet_jax() -> Iterator[None]:
    """jax logs a warning on machines whose accelerator it was not built for: of no concern here."""
    logger = logging.getLogger("jax._src.xla_bridge")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _initialised_by_shape() -> Iterator[None]:
    """haiku initialises a model without running it.

    To run it, jax compiles every operation, which takes seconds, and Tracr then overwrites the
    random weights. Here weights are zeros, but for embeddings that the model is given.
    """
    import haiku
    import jax

    transform, embed = haiku.transform, haiku.Embed.__init__

    def transform_by_shape(function: Callable[..., Any]) -> Any:
        def noted(*inputs: Any) -> Any:
            with haiku.custom_creator(note):
                return function(*inputs)

        def note(_: Any, shape: Any, dtype: Any, value_of: Any, context: Any) -> Any:
            given = isinstance(context.module, haiku.Embed)
            value = np.asarray(value_of(shape, dtype)) if given else np.zeros(shape, dtype)
            weights.setdefault(context.module.module_name, {})[context.name] = value
            return jax.numpy.asarray(value)

        def initial(*inputs: Any) -> Any:
            jax.eval_shape(transform(noted).init, *inputs)
            return weights

        weights: dict[str, dict[str, np.ndarray]] = {}
        transformed = transform(function)
        vars(initial).update(vars(transformed.init))
        return haiku.Transformed(initial, transformed.apply)

    def embed_values(*given: Any, **options: Any) -> None:
        with jax.ensure_compile_time_eval():
            embed(*given, **options)

    with (
        mock.patch.object(haiku, "transform", transform_by_shape),
        mock.patch.object(haiku.Embed, "__init__", embed_values),
    ):
        yield
