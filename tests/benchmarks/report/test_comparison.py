"""Which method is best at a sparsity, how sure that is, and what papers are shown of it."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.record import FAILED, UNSUPPORTED, Failure, Finished, Unfinished
from benchmarks.report.comparison import Comparison, compare, comparisons
from benchmarks.report.page.answer import answer
from benchmarks.report.pivots import columns, latex_text, number, pivot, write_pivots
from benchmarks.report.resampling import Prompts, holm
from benchmarks.report.results import Results
from benchmarks.store import Store
from tests.benchmarks.samples import GRAPH, N_PROMPTS

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
    clear, none, less = Prompts(range(50)).p_values(np.stack([noise + 1, noise, noise - 1]))
    assert clear < 0.001 and 0.4 < none < 0.6 and less == 1


def test_copies_of_a_prompt_count_as_one_to_the_bootstrap() -> None:
    values = np.random.default_rng(1).normal(0.2, size=20)
    once, thrice = Prompts(range(20)), Prompts([*range(20), *reversed(range(20)), *range(20)])
    averaged = thrice.averaged(np.concatenate([values, values[::-1], values]))
    assert averaged == pytest.approx(values)
    assert thrice.interval(averaged) == pytest.approx(once.interval(values))
    assert thrice.p_values(averaged[None]) == once.p_values(values[None])


def test_a_prompt_counts_as_often_as_it_was_evaluated() -> None:
    prompts = Prompts(["a", "b", "b"])
    values = prompts.averaged(np.array([0.0, 2.0, 4.0]))
    assert values.tolist() == [0.0, 3.0]
    low, high = prompts.interval(values)
    assert (low, high) == (0, 3)
    assert prompts.p_values(np.array([[-2.0, 1.5]]))[0] == pytest.approx(0.25, abs=0.02)


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


SHUFFLED = [[f"{place * (seed + 1) % 13}" for place in range(1, 13)] for seed in range(3)]
"""The same twelve prompts for each seed, in another order."""


@pytest.mark.parametrize("ids", [SHUFFLED, [None] * 3])
def test_prompts_that_all_seeds_share_are_not_taken_for_more_prompts(
    tmp_path: Path, add_cell: Callable[..., Finished], ids: list[list[str] | None]
) -> None:
    for seed, own in enumerate(ids):
        known: dict[str, Any] = {"seed": seed, "prompt_ids": own, "defined": {"data": "a hash"}}
        add_cell("eap", {}, SIZES, [0.0, 0.1, 0.5], **known)
        add_cell("eap-ig", {}, SIZES, [0.0, 0.1, 0.4], **known)
    results = Results(tmp_path / "results")
    found = compare(results.panels[0], results.store, 0.9)
    assert found is not None and len(found.best.values) == N_PROMPTS
    assert found.seeds == ([0, 1, 2] if ids[0] else [0])


def test_values_on_other_prompts_are_not_compared(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    add_cell("eap", {}, SIZES, [0.0, 0.1, 0.5], prompt_ids=list("abcdefghijkl"))
    add_cell("eap-ig", {}, SIZES, [0.0, 0.1, 0.4], prompt_ids=list("abcdefghijkz"))
    results = Results(tmp_path / "results")
    assert compare(results.panels[0], results.store, 0.9) is None


def test_circuits_and_rankings_of_one_method_are_not_mixed_up(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    def found() -> tuple[Results, list[Comparison]]:
        results = Results(tmp_path / "results")
        return results, comparisons(results.panels, results.store)

    add_cell("edge-pruning", {"steps": 3}, [SIZES[2]], [0.4], kind="circuit")
    add_cell("edge-pruning", {"cut": "ranking"}, SIZES, [0.0, 0.1, 0.2])
    assert found()[1] == [], "a method is not compared with itself"
    add_cell("eap", {}, SIZES, [0.0, 0.1, 0.5])
    results, compared = found()
    said = answer(results, compared)
    name = "Edge Pruning's ranking"
    assert said.headline == f"{name} is best, or level with the best, in 1 of 1 comparison."
    assert f"{name} is best: 0.2" in said.of_tasks[0][1][0]
    assert "all others; next is Edge Pruning (0.4)" in said.of_tasks[0][1][0]
    text = pivot(columns(results.panels, results.store), "pivot-kl")
    assert rf"{name} & \textbf{{0.200}} \\" in text and r"Edge Pruning & 0.400 \\" in text


def test_costs_of_several_discoveries_are_called_medians(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    for seed in range(2):
        add_cell("eap", {}, SIZES, [0.0, 0.1, 0.5], seed=seed)
        add_cell("eap-ig", {}, SIZES, [0.0, 0.1, 0.4], seed=seed)
    results = Results(tmp_path / "results")
    said = answer(results, comparisons(results.panels, results.store))
    cost = "2.5 s and 12.5 forward-equivalents"
    assert f"It cost {cost} (medians of 2 discoveries)." in said.of_tasks[0][1][0]
    assert f"Median cost of a discovery: EAP-IG {cost}" in " ".join(said.sentences)


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


def test_the_caption_says_how_many_seeds_each_column_may_have(
    tmp_path: Path, add_cell: Callable[..., Finished]
) -> None:
    for task, seed in (("ioi", 0), ("ioi", 1), ("greater-than", 0)):
        for method in ("eap", "eap-ig"):
            add_cell(method, {}, SIZES, [0.0, 0.1, 0.5], task=task, seed=seed)
    results = Results(tmp_path / "results")
    text = pivot(columns(results.panels, results.store), "pivot-kl")
    assert f"the mean over {N_PROMPTS} test prompts of 1 or 2 seeds." in text


@pytest.mark.parametrize(
    ("weights", "reason"), [("a hash", "failed"), ("another hash", "not run on this task")]
)
def test_a_failure_on_another_model_is_no_reason(
    results: Results, add_cell: Callable[..., Finished], weights: str, reason: str
) -> None:
    eap = add_cell("eap", {}, SIZES, [0.0, 0.1, 0.5], seed=1)
    for method in ("eap", "gim"):
        add_cell(method, {}, SIZES, [0.0, 0.1, 0.5], task="greater-than")
    again = Results(results.store.folder)
    failed = Unfinished(
        name="failed",
        status=FAILED,
        error=Failure(message="out of memory", traceback=""),
        definition=eap.definition.model_copy(update={"method": "gim", "weights": weights}),
        environment=eap.environment,
    )
    text = pivot(columns(again.panels, again.store, [0.9]), "pivot-kl", [failed])
    _, _, gim = text.partition(r"GIM & \textbf{0.500} & ")
    assert f"{gim.partition(' ')[0]}\\,{reason}" in text


def test_a_ranking_that_was_cut_but_fell_short_is_not_called_uncut(
    results: Results, add_cell: Callable[..., Finished]
) -> None:
    asked = {"sparsities": [0.0, 0.9]}
    add_cell("gim", {}, [SIZES[0], SIZES[2] - 1], [0.0, 0.3], defined=asked)
    again = Results(results.store.folder)
    text = pivot(columns(again.panels, again.store, [0.9]), "pivot-kl")
    assert "ranking's circuit has fewer edges than this sparsity leaves" in text


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
