"""The suites for real models run to their end on tiny ones of the same kind."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

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
WIDTH, LAYERS, HEADS, POSITIONS = 16, 2, 2, 40
ROTARY = {
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": POSITIONS,
}
MODELS: dict[str, dict[str, Any]] = {
    "gpt2": {
        "model_type": "gpt2",
        "n_embd": WIDTH,
        "n_layer": LAYERS,
        "n_head": HEADS,
        "n_positions": POSITIONS,
    },
    "pythia": {"model_type": "gpt_neox", **ROTARY},
    "smollm": {"model_type": "llama", "num_key_value_heads": 1, **ROTARY},
}
"""A tiny model of the kind that each suite is for."""


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", MODELS)
def test_a_suite_for_a_real_model_runs_to_its_end_on_a_tiny_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "release_freed_memory", lambda: None)  # takes longer than a cell
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    config = AutoConfig.for_model(
        **MODELS[name], vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=0
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    suite = load_suite(name)
    methods = {cell.method for cell in suite.cells}
    overrides = Overrides(
        [str(tmp_path / "model")],
        ["ioi"],
        SIZES,
        {method: SETTINGS[method] for method in methods & SETTINGS.keys()},
    )
    cells = load_suite(name, overrides=overrides).cells
    of_a_seed = [replace(cell, sparsities=(0.5,)) for cell in cells if cell.bench.seed == 0]
    outcomes = run_small(of_a_seed, tmp_path / "results")
    assert set(outcomes.values()) == {FINISHED}
    records = Store(tmp_path / "results").finished()
    assert {record.definition.method for record in records} == methods
