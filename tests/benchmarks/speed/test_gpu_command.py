"""The command for a borrowed GPU, tried on the CPU at toy size."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.speed.gpu.__main__ import PARTS, main
from benchmarks.speed.gpu.parts import PRECISIONS, Part, Row, Setting, run_parts
from benchmarks.speed.gpu.tables import tables
from tests.benchmarks.speed.blocked import needed

ROOT = Path(__file__).parents[3]
SETTING = Setting(torch.device("cpu"), toy=True)


def rows(out: Path, part: str) -> dict[str, Row]:
    return json.loads((out / f"{part}.json").read_text(encoding="utf-8"))["rows"]


@pytest.mark.slow
def test_every_part_runs_with_nothing_but_torch_and_transformers(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.speed.blocked", "--toy", "--device", "cpu"]
    run = subprocess.run(
        [*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    for part in PARTS:
        found = rows(tmp_path, part.name)
        assert found
        assert not [row for row in found.values() if "error" in row]
    steps = rows(tmp_path, "gpt2-small")
    for precision in PRECISIONS:
        assert steps[f"edge-pruning step, {precision}, one by one"]["ratio"] > 0


def test_what_torch_and_transformers_need_is_known() -> None:
    packages = needed(["torch", "transformers"])
    assert {"torch", "transformers", "safetensors", "tqdm", "numpy"} <= packages
    assert not {"pandas", "matplotlib", "pytest", "psutil"} & packages


def test_a_failure_ends_its_measurement_alone(tmp_path: Path, capsys: Any) -> None:
    def fail() -> Row:
        raise RuntimeError("out of memory")

    def measurements(setting: Setting) -> list[Any]:
        return [("bad", fail), ("good", lambda: {"seconds": 1.5})]

    parts = [Part("first", measurements), Part("second", measurements)]
    assert run_parts(parts, SETTING, out=tmp_path, budget=60) == 2
    for name in ("first", "second"):
        found = rows(tmp_path, name)
        assert found["bad"]["error"] == "RuntimeError: out of memory"
        assert found["bad"]["traceback"]
        assert found["good"]["seconds"] == 1.5
    assert "first: bad: error: RuntimeError: out of memory" in capsys.readouterr().out


def test_what_is_left_when_the_budget_is_used_up_is_listed(tmp_path: Path) -> None:
    part = Part("part", lambda setting: [("one", lambda: {}), ("two", lambda: {})])
    assert run_parts([part], SETTING, out=tmp_path, budget=-1) == 0
    assert all("used up" in row["skipped"] for row in rows(tmp_path, "part").values())


def test_measurements_can_be_left_out(tmp_path: Path) -> None:
    arguments = ["--toy", "--device", "cpu", "--out", str(tmp_path), "--only", "layouts"]
    assert main([*arguments, "--without", "float", "tf32"]) == 0
    assert list(rows(tmp_path, "layouts")) == ["gathered, toy"]


def test_an_unknown_part_is_an_error_that_names_the_known_ones(capsys: Any) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--out", "nowhere", "--only", "speed"])
    assert stop.value.code == 2
    assert "correctness" in capsys.readouterr().err


@pytest.mark.parametrize("card", ["h100", "h200"])
def test_the_committed_tables_are_those_of_the_committed_measurements(card: str) -> None:
    folder = ROOT / "results" / "gpu" / card
    assert (folder / "tables.md").read_text(encoding="utf-8") == tables(folder)


def test_a_device_that_is_not_there_is_an_error_before_anything_runs(
    tmp_path: Path, capsys: Any
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--out", str(tmp_path), "--device", "cpu:x"])
    assert stop.value.code == 2
    assert "--device cpu:x cannot be used: " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
