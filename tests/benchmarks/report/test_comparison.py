"""Which method is best at a sparsity, how sure that is, and what papers are shown of it."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.record import UNSUPPORTED, Failure, Finished, Unfinished
from benchmarks.report.comparison import compare, comparisons, holm, p_values_of_differences
from benchmarks.report.page.answer import answer
from benchmarks.report.pivots import columns, latex_text, number, pivot, write_pivots
from benchmarks.report.results import Results
from benchmarks.store import Store
from tests.benchmarks.samples import GRAPH

SIZES = tuple(round(GRAPH.n_edges * (1 - sparsity)) for sparsity in (0.0, 0.5, 0.9))
DOCUMENT = r"""\documentclass[twocolumn,10pt]{article}
\usepackage[letterpaper,left=.75in,right=.75in,columnsep=.25in]{geometry}\usepackage{booktabs}
\begin{document}\input{TABLE}Text.\end{document}"""


@pytest.fixture
def results(tmp_path: Path, add_cell: Callable[..., Finished]) -> Results:
    add_cell("random", {"draws": 3}, SIZES, [0.0, 2.0, 3.0], draws=3)
    add_cell("eap", {}, SIZES, [0.0, 0.1, 0.5])
    add_cell("eap-ig", {}, SIZES, [0.0, 0.1, 0.4])
    add_cell("acdc", {"threshold": 0.1}, [SIZES[2] + 1], [0.01], kind="circuit")
    add_cell("edge-pruning", {"steps": 3}, [SIZES[2] - 1], [0.3], kind="circuit", seed=5)
    return Results(tmp_path / "results")


def test_holms_correction_is_that_of_his_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_the_bootstrap_tells_a_difference_from_none() -> None:
    noise = np.random.default_rng(1).normal(size=50)
    noise -= noise.mean()
    clear, none, less = p_values_of_differences(np.stack([noise + 1, noise, noise - 1]))
    assert clear < 0.001 and 0.4 < none < 0.6 and less == 1


def test_methods_are_compared_on_the_same_prompts_and_with_no_more_edges(
    results: Results,
) -> None:
    found = compare(results.panels[0], results.store, 0.9)
    assert found is not None
    assert [entry.method for entry in found.entries] == ["eap-ig", "eap", "random"]
    assert [entry.is_level for entry in found.entries] == [True, False, False]
    assert found.best.value.mean == pytest.approx(0.4)
    assert found.seeds == [0], "Edge Pruning has another seed, ACDC more edges"


def test_two_equal_methods_are_level(tmp_path: Path, add_cell: Callable[..., Finished]) -> None:
    for method in ("eap", "eap-ig"):
        add_cell(method, {}, SIZES, [0.0, 0.1, 0.5])
    found = comparisons(Results(tmp_path / "results").panels, Results(tmp_path / "results").store)
    assert [entry.is_level for entry in found[0].entries] == [True, True]


def test_the_answer_says_who_is_best_how_sure_and_at_what_cost(results: Results) -> None:
    found = comparisons(results.panels, results.store, [0.5, 0.9])
    said = answer(results, found)
    assert said.headline == "EAP-IG is best, or level with the best, in 2 of 2 comparisons."
    ((task, (at_half, at_nine_tenths)),) = said.of_tasks
    assert task == "IOI" and "not significantly worse: EAP-IG (0.1)" in at_half
    assert "EAP-IG is best: 0.4 [0.35, 0.45]" in at_nine_tenths
    assert "significantly better than all others; next is EAP (0.5)" in at_nine_tenths
    assert "It cost 2 s and 12.5 forward-equivalents" in at_nine_tenths


def test_seconds_of_different_devices_are_called_that(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    environment = add_cell("eap", {}, SIZES, [0.0, 0.1, 0.5]).environment.as_json()
    other = {**environment, "device_name": "a GPU"}
    add_cell("eap-ig", {}, SIZES, [0.0, 0.1, 0.4], environment=other)
    results = Results(tmp_path / "results")
    said = answer(results, comparisons(results.panels, results.store))
    assert any("(a GPU; a processor): compare forward-equivalents" in s for s in said.sentences)


def test_a_pivot_has_the_best_and_its_equals_in_bold(results: Results, tmp_path: Path) -> None:
    text = pivot(columns(results.panels, results.store, [0.5, 0.9]), "pivot-kl")
    assert r"EAP-IG & \textbf{0.100} & \textbf{0.400} \\" in text
    assert r"EAP & \textbf{0.100} & 0.500 \\" in text
    assert r"\multicolumn{2}{c}{IOI}" in text and r"50\,\% & 90\,\%" in text


def test_a_sparsity_that_was_not_measured_gives_way_to_the_nearest_which_the_caption_names(
    results: Results,
) -> None:
    found = columns(results.panels, results.store, [0.8, 0.85, 0.9])
    assert [(one.asked, one.sparsity) for one in found] == [([0.8, 0.85, 0.9], 0.9)]
    text = pivot(found, "pivot-kl")
    assert r"90 \% is the measured sparsity nearest to 80 \% (IOI)." in text
    assert r"85 \% (IOI)" in text and r"nearest to 90 \%" not in text
    assert [one.sparsity for one in columns(results.panels, results.store)] == [0.9]


def test_an_empty_cell_says_why(results: Results, add_cell: Callable[..., Finished]) -> None:
    eap = add_cell("eap", {}, SIZES, [0.0, 0.1, 0.5], task="greater-than")
    add_cell("random", {"draws": 3}, SIZES, [0.0, 2.0, 3.0], draws=3, task="greater-than")
    definition = eap.definition.model_copy(update={"method": "eap-ig"})
    Store(results.store.folder).write(
        Unfinished(
            name="x",
            status=UNSUPPORTED,
            error=Failure(message="no gradients", traceback=""),
            definition=definition,
            environment=eap.environment,
        )
    )
    again = Results(results.store.folder)
    text = pivot(columns(again.panels, again.store, [0.9]), "pivot-kl", again.failed)
    a, b, c, d = (rf"\textsuperscript{{{letter}}}" for letter in "abcd")
    assert rf"EAP-IG & {a} & \textbf{{0.400}} \\" in text
    assert rf"ACDC & {b} & {c} \\" in text
    assert rf"Edge Pruning & {b} & {d} \\" in text
    assert (
        rf"Empty: {a}\,not supported on this task; {b}\,not run on this task; "
        rf"{c}\,no circuit with 75 to 100 \% of the edges; {d}\,run on other seeds only."
    ) in text


def test_numbers_have_three_digits_and_are_never_shown_as_nought() -> None:
    assert [number(n) for n in (12.34, 1.0, 0.12345, 0.00123, 0.00001, 0.0)] == [
        *("12.3", "1.00", "0.123", "0.0012", "$<$0.0001", "0"),
    ]


def test_words_are_escaped_where_latex_would_not_print_them() -> None:
    assert latex_text("50 % & {x}, #1, a_b") == r"50 \% \& \{x\}, \#1, a\_b"
    assert latex_text("KL(full ‖ circuit) ≤ 1") == r"KL(full $\Vert$ circuit) $\le$ 1"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles_and_nothing_sticks_out_of_the_column(
    results: Results, tmp_path: Path
) -> None:
    found = columns(results.panels, results.store, [0.5, 0.9])
    (table,) = write_pivots(found, results.failed, tmp_path / "tables")
    assert r"\begin{table}" in table.read_text()
    (tmp_path / "document.tex").write_text(DOCUMENT.replace("TABLE", str(table)))
    latex = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "document.tex"]
    done = subprocess.run(latex, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "Overfull" not in done.stdout
