"""Models and tokenizers from a folder or the Hugging Face hub: complete, and without own code.

transformers fills weights that a checkpoint lacks with random numbers, and asks whether to run
Python code that lies beside a model. Here the first is an error, and such code never runs. Its
import takes seconds, so it waits until a model is loaded.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from edgewise.architectures import check_supported, check_type

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NAMED = 5
"""The most tensors of a kind that an error names."""
_CONSTANT = re.compile(r"\.attn\.masked_bias$")
"""A buffer in old checkpoints of GPT-2. transformers itself passes over the others."""


def load_model(
    id_or_folder: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device_map: str | Mapping[str, int | str | torch.device] | None = None,
) -> "PreTrainedModel":
    """A causal language model by hub id or folder.

    Raises ValueError for a model type that is not supported, before any weight is read, and for a
    checkpoint whose tensors are not the model's; OSError for a model that is neither on disk nor
    downloadable.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig
    from transformers.utils.import_utils import is_accelerate_available

    if device_map is not None and not is_accelerate_available():
        raise ValueError(
            f"device_map={device_map!r} needs the package accelerate: pip install 'edgewise[large]'"
        )
    fields, _ = PreTrainedConfig.get_config_dict(id_or_folder)
    check_type(fields.get("model_type"), str(id_or_folder))
    check_supported(AutoConfig.from_pretrained(id_or_folder, trust_remote_code=False))
    try:
        with _quiet():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                id_or_folder,
                dtype=dtype,
                device_map=device_map,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # an error below, with what is missing
                output_loading_info=True,
            )
    except SafetensorError as error:
        raise ValueError(f"the weights of {id_or_folder} cannot be read: {error}") from None
    model, found = loaded
    _check_tensors(found, str(id_or_folder))
    return model


def load_tokenizer(id_or_folder: str | Path) -> "PreTrainedTokenizerBase":
    """A tokenizer by hub id or folder."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(id_or_folder, trust_remote_code=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the table of missing tensors, some lines long, that transformers logs."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _check_tensors(found: Mapping[str, Collection[Any]], name: str) -> None:
    """Raises ValueError if the checkpoint's tensors are not those of the model, shape by shape."""
    kinds = {
        "missing": found["missing_keys"],
        "unexpected": [key for key in found["unexpected_keys"] if not _CONSTANT.search(key)],
        "of another shape": [key for key, *_ in found["mismatched_keys"]],
    }
    faults = [f"{kind}: {_listed(keys)}" for kind, keys in kinds.items() if keys]
    if faults:
        raise ValueError(f"the weights of {name} do not fit its config; {'; '.join(faults)}")


def _listed(keys: Collection[str]) -> str:
    named = sorted(keys)[:NAMED]
    more = len(keys) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")
