"""A model is loaded with all of its weights and none of its code, or not at all."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from edgewise.pretrained import load_model, load_tokenizer
from tests.models import MODELS, HFModel, gpt2, llama, mistral, qwen2
from tests.tasks.own_prompts import word_tokenizer

Tensors = dict[str, Tensor]
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
tied = partial(llama, tie_word_embeddings=True)


def saved(folder: Path, model: HFModel, change: Callable[[Tensors], Any] = lambda _: None) -> Path:
    """The folder, with the model's checkpoint after a change to its tensors."""
    model.save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def error_of(folder: Path) -> str:
    with pytest.raises(ValueError) as error:
        load_model(folder)
    (line,) = str(error.value).splitlines()
    return line


def without(name: str) -> Callable[[Tensors], Any]:
    return lambda tensors: tensors.pop(name)


def add(tensors: Tensors, names: list[str]) -> None:
    tensors.update({name: torch.ones(3) for name in names})


@pytest.mark.parametrize("name", MODELS)
def test_a_checkpoint_gives_the_model_that_was_saved(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    loaded = load_model(saved(tmp_path, model)).state_dict()
    assert loaded.keys() == model.state_dict().keys()
    assert all(torch.equal(loaded[key], weight) for key, weight in model.state_dict().items())


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (gpt2, "transformer.h.1.attn.c_attn.bias"),
        (gpt2, "transformer.wpe.weight"),
        (llama, "model.layers.0.mlp.up_proj.weight"),
        (llama, HEAD),
        (mistral, "model.norm.weight"),
        (qwen2, "model.layers.1.self_attn.k_proj.bias"),
    ],
)
def test_a_missing_weight_is_an_error_that_names_it(
    build: Callable[[], HFModel], name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = saved(tmp_path, build(), without(name))
    assert error_of(folder) == f"the weights of {folder} do not fit its config; missing: {name}"
    assert "REPORT" not in capfd.readouterr().err


def test_all_that_does_not_fit_is_named_up_to_five_of_a_kind(tmp_path: Path) -> None:
    def spoil(tensors: Tensors) -> None:
        for name in [name for name in tensors if name.startswith("model.layers.0.")]:
            tensors[name.replace("layers.0", "layers.2")] = tensors.pop(name)
        tensors[HEAD] = torch.zeros(5, 24)

    _, missing, unexpected, shapes = error_of(saved(tmp_path, llama(), spoil)).split("; ")
    start = "model.layers.0.input_layernorm.weight, model.layers.0.mlp.down_proj.weight, "
    assert missing.startswith(f"missing: {start}")
    assert missing.count(",") == 4
    assert missing.endswith(" and 4 more")
    assert unexpected.startswith("unexpected: model.layers.2.input_layernorm.weight, ")
    assert unexpected.endswith(" and 4 more")
    assert shapes == f"of another shape: {HEAD}"


def test_of_tied_weights_one_is_enough_and_none_is_an_error(tmp_path: Path) -> None:
    def rename(tensors: Tensors) -> None:
        tensors[HEAD] = tensors.pop(EMBEDDING)

    def double(tensors: Tensors) -> None:
        tensors[HEAD] = tensors[EMBEDDING].clone()

    expected = tied().state_dict()[EMBEDDING]
    for change in (rename, double, lambda tensors: None):
        loaded = load_model(saved(tmp_path, tied(), change)).state_dict()
        assert torch.equal(loaded[HEAD], expected)
        assert torch.equal(loaded[EMBEDDING], expected)
    assert f"missing: {HEAD}, {EMBEDDING}" in error_of(saved(tmp_path, tied(), without(EMBEDDING)))


def test_the_constants_of_old_checkpoints_are_passed_over(tmp_path: Path) -> None:
    def old_gpt2(tensors: Tensors) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)
        add(
            tensors,
            [f"h.{layer}.attn.{name}" for layer in (0, 1) for name in ("bias", "masked_bias")],
        )

    def old_llama(tensors: Tensors) -> None:
        add(tensors, [f"model.layers.{layer}.self_attn.rotary_emb.inv_freq" for layer in (0, 1)])

    for build, change in ((gpt2, old_gpt2), (llama, old_llama)):
        folder = saved(tmp_path / build.__name__, build(), change)
        loaded = load_model(folder).state_dict()
        assert all(torch.equal(loaded[key], weight) for key, weight in build().state_dict().items())


def test_a_truncated_checkpoint_is_an_error(tmp_path: Path) -> None:
    weights = saved(tmp_path, gpt2()) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert error_of(tmp_path).startswith(f"the weights of {tmp_path} cannot be read: ")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The questions that the user is asked; each is answered with yes."""
    questions: list[str] = []

    def answer(question: str = "") -> str:
        questions.append(question)
        return "y"

    monkeypatch.setattr("builtins.input", answer)
    return questions


def with_code(folder: Path, **changes: Any) -> Path:
    """The folder of a model that brings a module of its own; importing that leaves a file."""
    config = json.loads((folder / "config.json").read_text())
    code = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    config = {**config, "auto_map": code, **changes}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    return folder


def test_code_beside_an_unknown_model_is_an_error_without_a_question(
    tmp_path: Path, asked: list[str]
) -> None:
    folder = with_code(saved(tmp_path, llama()), model_type="mystery")
    assert error_of(folder).startswith(f"model type 'mystery' of {folder} is not supported; ")
    assert not asked
    assert not (folder / "ran").exists()


def test_code_beside_a_known_model_is_not_run(tmp_path: Path, asked: list[str]) -> None:
    folder = with_code(saved(tmp_path, llama()))
    word_tokenizer().save_pretrained(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config = {**config, "auto_map": {"AutoTokenizer": ["own.Slow", "own.Fast"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    load_model(folder)
    assert load_tokenizer(folder).get_vocab() == word_tokenizer().get_vocab()
    assert not asked
    assert not (folder / "ran").exists()


def test_a_config_without_a_model_type_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert error_of(tmp_path).startswith(f"model type None of {tmp_path} is not supported; ")
