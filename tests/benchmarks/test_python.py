"""Results in Python: frames, curves, circuits and figures; the snippets of docs/python.md run."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import benchmarks
from benchmarks import load_results, plot
from benchmarks.python import LoadedResults
from benchmarks.record import Finished
from edgewise import Circuit, evaluate_circuit
from edgewise.evaluate import evaluate
from tests.benchmarks.samples import GRAPH
from tests.methods import toys

ROOT = Path(__file__).parents[2]


@pytest.fixture
def results(add_cell: Callable[..., Finished], tmp_path: Path) -> LoadedResults:
    for seed in (0, 1):
        add_cell("eap", {"selection": "top-absolute"}, (10, 20), (1.0 + seed, 0.5), seed=seed)
    add_cell("acdc", {"threshold": 0.1}, (7,), (0.75,), kind="circuit")
    return load_results(tmp_path / "results")


def test_the_frame_has_a_line_for_each_circuit_and_metric(results: LoadedResults) -> None:
    assert results.methods == ["eap", "acdc"] and len(results.tasks) == 1
    kl = results.frame[results.frame["metric"] == "kl"]
    assert len(kl) == 5 and kl["value"].dtype == float
    assert set(kl["edges"]) == {7, 10, 20}


def test_a_curve_has_means_over_seeds_and_their_range(results: LoadedResults) -> None:
    curve = results.curve(results.tasks[0]).set_index(["method", "edges"])
    ten = curve.loc[("eap", 10)]
    assert (ten["value"], ten["low"], ten["high"], ten["n"]) == (1.5, 1.0, 2.0, 2)
    one = curve.loc[("acdc", 7)]
    assert one["n"] == 1 and one["low"] <= one["value"] <= one["high"]


def test_a_circuit_is_had_by_its_cell(results: LoadedResults) -> None:
    cells = dict(zip(results.frame["method"], results.frame["cell"], strict=True))
    assert results.circuit(cells["acdc"]).n_edges == GRAPH.n_edges  # the made-up file's
    assert results.circuit(cells["eap"], edges=4).n_edges == 4
    for cell, edges, error in (
        (cells["acdc"], 3, "leave edges out"),
        (cells["eap"], None, "edges is None; "),
        (cells["eap"], -1, "expected a number from 0 to"),
        ("no-cell", None, "unknown cell 'no-cell'"),
    ):
        with pytest.raises(ValueError, match=error):
            results.circuit(cell, edges)


@pytest.mark.slow
def test_a_figure_has_the_width_and_the_methods_asked_for(results: LoadedResults) -> None:
    figure = plot(results, methods=["eap"], width="column")
    assert figure.get_figwidth() == 3.25
    labels = {text.get_text() for legend in figure.legends for text in legend.get_texts()}
    assert any("EAP" in label for label in labels) and not any("ACDC" in text for text in labels)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"task": "nothing"}, "unknown task of these results 'nothing'"),
        ({"metric": "nothing"}, "unknown metric of .* 'nothing'"),
        ({"methods": ["nothing"]}, "unknown method of these results 'nothing'"),
        ({"methods": []}, "no result of no method"),
        ({"task": []}, "no task to plot"),
        ({"width": "page"}, "width 'page'; expected column, text or inches from 1.55 to 30"),
        ({"width": -1.0}, "width -1.0"),
        ({"width": float("nan")}, "width nan"),
    ],
)
def test_what_the_results_do_not_have_is_an_error(
    results: LoadedResults, given: dict[str, Any], error: str
) -> None:
    with pytest.raises(ValueError, match=error):
        plot(results, **given)


def test_a_folder_without_results_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no results in"):
        load_results(tmp_path / "none")
    with pytest.raises(AttributeError, match="no attribute 'load_result'"):
        _ = benchmarks.load_result


def test_a_circuit_of_one_s_own_has_the_metrics_of_its_task() -> None:
    model, task = toys.gpt2(), toys.task()
    circuit = Circuit(model.graph.legal, model.graph)
    found = evaluate_circuit(model, task, circuit, on="train")
    given = {"metrics": task.metrics, "ablation": task.ablation}
    values = evaluate(model, task.train, [circuit], **given)
    assert found == {name: float(own.double().mean()) for name, own in values.items()}


@pytest.mark.slow
def test_the_snippets_of_the_page_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for snippet in re.findall(r"```python\n(.+?)```", page, re.DOTALL):
        exec(compile(snippet, "docs/python.md", "exec"), names)
    assert names["figure"].get_figwidth() == 6.75


@pytest.mark.slow
def test_the_package_alone_imports_nothing_heavy() -> None:
    code = "import sys, benchmarks; assert not {'torch', 'pandas', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
