"""The suites for real models run to their end on tiny ones of the same kind."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import (
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from benchmarks.grid.overrides import Overrides
from benchmarks.grid.settings import Settings
from benchmarks.grid.suite import load_suite
from benchmarks.record import FINISHED
from benchmarks.run import execute
from benchmarks.store import Store
from tasks.models.bundled import FOLDER
from tests.benchmarks.run.small_runs import run_small

SIZES = {"train": 4, "validation": 2, "test": 3}
SHORT: Settings = {"steps": 4, "batch_size": 2}
SCHEDULE: Settings = SHORT | {"warmup_steps": 1, "target_warmup_steps": 3}
SETTINGS: dict[str, Settings] = {
    "random": {"draws": 2},
    "acdc": {"threshold": 0.5},
    "edge-pruning": SCHEDULE,
    "edge-pruning-curve": SCHEDULE | {"circuits": 3},
    "warm-start": {
        "methods": "eap, edge-pruning(steps=4, batch_size=2, warmup_steps=1, target_warmup_steps=3)"
    },
    "node-pruning": SCHEDULE,
    "matryoshka": SHORT,
    "subnetwork-probing": SHORT,
    "ugs": {"steps": 4, "samples": 2},
}
WIDTH, LAYERS, HEADS = 16, 2, 2
ENDS = {"bos_token_id": 0, "eos_token_id": 0}


def gpt2(vocabulary: int) -> PreTrainedModel:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary,
            n_positions=40,
            n_embd=WIDTH,
            n_layer=LAYERS,
            n_head=HEADS,
            **ENDS,
        )
    )


def pythia(vocabulary: int) -> PreTrainedModel:
    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=vocabulary,
            max_position_embeddings=40,
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            **ENDS,
        )
    )


def smollm(vocabulary: int) -> PreTrainedModel:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            max_position_embeddings=40,
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=1,
            tie_word_embeddings=True,
            **ENDS,
        )
    )


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("build", [gpt2, pythia, smollm])
def test_a_suite_for_a_real_model_runs_to_its_end_on_a_tiny_one(
    build: Callable[[int], PreTrainedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "release_freed_memory", lambda: None)  # takes longer than a cell
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    build(len(tokenizer)).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    suite = load_suite(build.__name__)
    methods = {cell.method for cell in suite.cells}
    overrides = Overrides(
        [str(tmp_path / "model")],
        ["ioi"],
        SIZES,
        {method: SETTINGS[method] for method in methods & SETTINGS.keys()},
    )
    cells = load_suite(build.__name__, overrides=overrides).cells
    of_a_seed = [replace(cell, sparsities=(0.5,)) for cell in cells if cell.bench.seed == 0]
    outcomes = run_small(of_a_seed, tmp_path / "results")
    assert set(outcomes.values()) == {FINISHED}
    records = Store(tmp_path / "results").records()
    assert {record.definition.method for record in records} == methods
