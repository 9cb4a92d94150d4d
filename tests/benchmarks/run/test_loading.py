"""A cell is known by all that shapes its logits, wherever the model lies and whatever its name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from benchmarks.grid.cell import Bench, ModelOptions
from benchmarks.run.loading import Loader, identity_of, tokenizer_hash
from tests.models import HFModel, gpt2, llama
from tests.tasks.own_prompts import word_tokenizer

CHANGES: list[tuple[Callable[[], HFModel], dict[str, Any]]] = [
    (gpt2, {"activation_function": "relu"}),
    (gpt2, {"n_head": 4}),
    (gpt2, {"layer_norm_epsilon": 1e-3}),
    (gpt2, {"scale_attn_weights": False}),
    (gpt2, {"scale_attn_by_inverse_layer_idx": True}),
    (llama, {"hidden_act": "gelu"}),
    (llama, {"rms_norm_eps": 1e-3}),
    (llama, {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
    (llama, {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}}),
]


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[Callable[[], HFModel]], Path]:
    def save(build: Callable[[], HFModel]) -> Path:
        build().save_pretrained(tmp_path / "model")
        word_tokenizer().save_pretrained(tmp_path / "model")
        return tmp_path / "model"

    return save


def definition(folder: Path) -> dict[str, Any]:
    """A cell's definition on the model in a folder."""
    bench = Bench("ioi", 1, 0, model=ModelOptions(str(folder)))
    known = identity_of(bench, Loader(torch.device("cpu")))
    return Bench("ioi", 1, 0, model=bench.model, **known).definition()


@pytest.mark.parametrize(("build", "change"), CHANGES)
def test_the_same_weights_in_another_architecture_are_another_model(
    folder: Callable[..., Path], build: Callable[[], HFModel], change: dict[str, Any]
) -> None:
    model = folder(build)
    before = definition(model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, **change}))
    after = definition(model)
    assert after["weights"] == before["weights"]
    assert after["architecture"] != before["architecture"]


def test_a_copy_under_another_name_is_the_same_model(folder: Callable[..., Path]) -> None:
    model = folder(gpt2)
    shutil.copytree(model, model.parent / "copy")
    config = json.loads((model / "config.json").read_text())
    other = {**config, "_name_or_path": "elsewhere", "use_cache": False}
    (model.parent / "copy" / "config.json").write_text(json.dumps(other))
    assert definition(model) == definition(model.parent / "copy")


def test_another_tokenizer_is_another_model(folder: Callable[..., Path]) -> None:
    model = folder(gpt2)
    before = definition(model)
    content = json.loads((model / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    first, second, *_ = (word for word in vocabulary if word.isalpha())
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (model / "tokenizer.json").write_text(json.dumps(content))
    after = definition(model)
    assert after["tokenizer"] != before["tokenizer"]
    assert {**after, "tokenizer": None} == {**before, "tokenizer": None}


def test_how_a_batch_is_padded_or_cut_is_not_part_of_a_tokenizer() -> None:
    tokenizer = word_tokenizer()
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    before = tokenizer_hash(tokenizer)
    tokenizer.backend_tokenizer.enable_truncation(3)
    tokenizer.backend_tokenizer.enable_padding()
    assert tokenizer_hash(tokenizer) == before
    tokenizer.backend_tokenizer.add_tokens(["xyzzy"])
    assert tokenizer_hash(tokenizer) != before


def test_a_model_or_tokenizer_that_is_not_whole_is_an_error_in_one_line(
    folder: Callable[..., Path],
) -> None:
    model = folder(gpt2)
    bench = Bench("ioi", 1, 0, model=ModelOptions(str(model)))
    for name, message in (
        ("tokenizer.json", f"no tokenizer of '{model}': "),
        ("model.safetensors", f"model '{model}' holds no loadable model: "),
    ):
        (model / name).unlink()
        with pytest.raises(ValueError, match=message) as error:
            identity_of(bench, Loader(torch.device("cpu")))
        assert len(str(error.value).splitlines()) == 1
