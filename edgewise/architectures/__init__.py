"""How a model is cut into writers and readers: one file per family, one line here for each."""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from edgewise.architectures.spread import spread

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


@runtime_checkable
class Architecture(Protocol):
    """The parts of a model between reads of the residual stream and writes to it.

    `batch` holds one axis of prompts, or masks × prompts. Where `x` has a reader axis it holds the
    inputs of the q of all heads, the k, the v, in that order; if that axis has size 1, all readers
    share the input.
    """

    causal: bool
    parallel: bool
    """Whether a layer's MLP reads what its attention reads, without the heads' outputs."""
    coupled_heads: bool
    """Whether, through a norm, what a head writes depends on the inputs of its layer's others."""
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    d_head: int
    mlp_parameters: int
    """Weights in the matrices of one MLP."""
    n_tokens: int
    """Token ids that the model knows."""
    n_outputs: int
    """Width of the logits: the vocabulary, or 1 for a numerical program."""
    max_positions: int | None
    """The longest prompt, if there is a limit."""
    trained_positions: int | None
    """The longest prompt that the model was trained on, if it is known."""
    embeddings: tuple[str, ...]

    def weights(self) -> dict[str, Tensor]:
        """Every weight by name."""
        ...

    def configuration(self) -> dict[str, Any]:
        """What shapes the logits besides the weights, as JSON values."""
        ...

    def embed(
        self,
        tokens: Int[Tensor, "batch position"],
        start: int = 0,
        forks: Int[Tensor, " batch"] | None = None,
    ) -> list[Tensor]:
        """What each embedding writer adds, `[batch, position, d_model]`, in order.

        `start` is the position of the first token. `forks` says at which of its tokens a prompt
        forks, as in `PromptPairs`.
        """
        ...

    def attention(
        self,
        layer: int,
        x: Float[Tensor, "batch position reader d_model"],
        heads: Int[Tensor, " head"] | None = None,
        past: Float[Tensor, "2 kv_head past d_head"] | None = None,
        forks: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch position head d_model"]:
        """What each head adds, with its share of the output bias; the norm is applied here.

        With `heads`, only those are run, each with its own q, k and v reader. `past` holds what
        `keys_values` gives for the tokens that stand before every prompt; `forks` is as in `embed`.
        """
        ...

    def keys_values(
        self, layer: int, x: Float[Tensor, "1 position 1 d_model"]
    ) -> Float[Tensor, "2 kv_head position d_head"]:
        """What later tokens see of a prompt's first ones; the norm is applied here."""
        ...

    def mlp(
        self, layer: int, x: Float[Tensor, "batch position d_model"]
    ) -> Float[Tensor, "batch position d_model"]:
        """What the MLP adds; the norm is applied here."""
        ...

    def unembed(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... vocab"]:
        """The final norm and the unembedding."""
        ...


ARCHITECTURES = {
    "gpt2": "gpt2:GPT2Architecture",
    "llama": "llama:LlamaArchitecture",
    "mistral": "llama:LlamaArchitecture",
    "qwen2": "llama:LlamaArchitecture",
    "qwen3": "qwen3:Qwen3Architecture",
    "phi3": "phi3:Phi3Architecture",
    "olmo2": "olmo2:Olmo2Architecture",
    "gemma2": "gemma2:Gemma2Architecture",
    "gemma3_text": "gemma3:Gemma3Architecture",
    "gpt_neox": "gpt_neox:GPTNeoXArchitecture",
    "gpt_neo": "gpt_neo:GPTNeoArchitecture",
    "opt": "opt:OPTArchitecture",
    "gpt_bigcode": "gpt_bigcode:GPTBigCodeArchitecture",
    "starcoder2": "starcoder2:Starcoder2Architecture",
    "granite": "granite:GraniteArchitecture",
    "phi": "phi:PhiArchitecture",
}
"""Module and class for each type of model; imported when needed, as transformers takes seconds."""

_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_EXPECTED = "which is not supported; expected float32, bfloat16 or float16 throughout"


def check_type(model_type: str | None, name: str | None) -> None:
    """Raises ValueError for a model type that is not supported. `name` is the model's, if known."""
    if model_type not in ARCHITECTURES:
        model = f" of {name}" if name else ""
        raise ValueError(
            f"model type {model_type!r}{model} is not supported; "
            f"supported: {', '.join(ARCHITECTURES)}"
        )


def check_supported(config: "PreTrainedConfig") -> None:
    """Raises ValueError for a model type that is not supported, and for quantised weights."""
    check_type(config.model_type, config.name_or_path)
    if getattr(config, "quantization_config", None) is not None:
        model = f" of {config.name_or_path}" if config.name_or_path else ""
        raise ValueError(f"the weights{model} are quantised, {_EXPECTED}")


def architecture_of(model: "PreTrainedModel") -> Architecture:
    """The architecture of a loaded Hugging Face model, by its `model_type`.

    Its layers may lie on several devices.
    Raises ValueError for a type that is not supported, quantised or offloaded weights, or a bare
    model without its language-modelling head.
    """
    check_supported(model.config)
    if model.get_output_embeddings() is None:
        raise ValueError(f"{type(model).__name__} has no language-modelling head")
    for name, weight in model.named_parameters():
        if weight.dtype not in _DTYPES:
            raise ValueError(f"weight {name} is {weight.dtype}, {_EXPECTED}")
    family = resolve_name(f"{__name__}.{ARCHITECTURES[model.config.model_type]}")
    return spread(family(model), model)
