"""From records to panels: which records count, what tells them apart, what panels are called."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.record import Definition, Finished
from benchmarks.report.figures.curves import faithfulness_figure
from benchmarks.report.page.data import curves, runtimes
from benchmarks.report.panels import load_panels
from benchmarks.report.results import Results
from benchmarks.report.tables.recovery import recovery
from benchmarks.report.tables.runtime import runtime
from benchmarks.report.tables.warnings import APART, CHANGED, EARLIER, warnings
from benchmarks.store import Store
from tests.benchmarks.samples import GRAPH, N_PROMPTS, edited

SIZES = (GRAPH.n_edges, 20, 10, 5)
Add = Callable[..., Finished]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def again(
    store: Store, record: Finished, name: str, kl: float | None = None, **fields: Any
) -> Finished:
    """The same cell once more, with other fields of its record or of its definition."""

    def edit(own: dict[str, Any]) -> None:
        of_record = {key: fields[key] for key in fields.keys() - Definition.model_fields.keys()}
        own |= {**of_record, "name": name}
        own["definition"] |= {key: value for key, value in fields.items() if key not in of_record}
        for row in own["rows"]:
            if kl is not None:
                row["metrics"]["kl"] = kl

    copy = edited(record, edit)
    store.write(copy, store.discovery(record.name), store.prompts(record.name))
    return copy


def said(results: Results) -> set[tuple[str, str]]:
    return {(line["cell"], line["warning"]) for line in warnings(results)}


def test_of_a_methods_versions_the_newest_counts(add_cell: Add, store: Store) -> None:
    old = add_cell("eap", {}, SIZES, [0.0, 0.1, 0.2, 0.3])
    again(store, old, "new", 0.9, method_version=2)
    inner = {"method": "eap", "method_version": 1, "settings": {}}
    wrapped = add_cell("ensemble", {"methods": "eap"}, SIZES, [0.0, 0.1, 0.2, 0.3])
    wrapped = again(store, wrapped, wrapped.name, inner=[inner])
    again(store, wrapped, "new-inside", 0.8, inner=[{**inner, "method_version": 2}])
    results = Results(store.folder)
    (panel,) = results.panels
    assert {(row.cell, row.metrics["kl"].mean) for row in panel.rows} == {
        ("new", 0.9),
        ("new-inside", 0.8),
    }
    assert said(results) == {(old.name, EARLIER), (wrapped.name, EARLIER)}
    assert {line["runs"] for line in runtime(results)} == {1}


def test_contents_of_a_methods_file_are_variants(add_cell: Add, store: Store) -> None:
    first = add_cell("mine", {"slope": 1.0}, SIZES, [0.0, 0.1, 0.2, 0.3])
    first = again(store, first, first.name, code="a" * 64)
    again(store, first, "edited", 0.9, code="b" * 64)
    results = Results(store.folder)
    variants = {row.cell: (row.variant, row.setting) for row in results.panels[0].rows}
    assert variants == {
        first.name: ("code of mine=aaaaaaaa",) * 2,
        "edited": ("code of mine=bbbbbbbb",) * 2,
    }
    assert said(results) == {(first.name, CHANGED), ("edited", CHANGED)}


def test_a_file_that_has_not_changed_tells_nothing(add_cell: Add, store: Store) -> None:
    first = add_cell("mine", {"slope": 1.0}, SIZES, [0.0, 0.1, 0.2, 0.3])
    again(store, first, first.name, code="x")
    results = Results(store.folder)
    assert {row.variant for row in results.panels[0].rows} == {""} and not said(results)


def test_a_ranking_stored_for_two_grids_counts_once(add_cell: Add, store: Store) -> None:
    for method, draws in (("random", 3), ("eap", 1)):
        first = add_cell(method, {}, SIZES, [0.0, 0.1, 0.2, 0.3], draws=draws)
        sizes = (GRAPH.n_edges, 8)
        second = add_cell(method, {"x": 0}, sizes, [0.0, 0.25], draws=draws, label="named")
        again(store, second, second.name, settings={}, sparsities=[0.9])
        assert first.name != second.name
    results = Results(store.folder)
    (panel,) = results.panels
    shown = {datum["edges"]: datum for datum in curves([panel]) if datum["method"] == "EAP"}
    assert shown.keys() == {*SIZES, 8}
    assert {datum["of"] for datum in shown.values()} == {"95 % interval, seed 0"}
    assert {line["runs"] for line in runtime(results)} == {1} and len(runtimes([panel])) == 2
    labels = faithfulness_figure([panel]).axes[0].get_legend_handles_labels()[1]
    assert labels == ["full model", "Random, 3 draws", "EAP, named"]


def test_a_circuit_stored_for_two_grids_counts_once(add_cell: Add, store: Store) -> None:
    truth = dict(missing=0, extra=0, exact=True, precision=1.0, recall=1.0)
    first = add_cell("acdc", {"threshold": 0.1}, [5], [0.1], kind="circuit", true_circuits=[5])
    first = edited(first, lambda fields: fields["rows"][0].update(truth=truth))
    first = again(store, first, first.name)
    again(store, first, "other-grid", sparsities=[0.9], ablation="interchange")
    again(store, first, "told", ablation="interchange", sparsities=[])
    (line,) = recovery(Results(store.folder))
    assert (line["runs"], line["exact"]) == (1, 1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"n_edges": 99, "graph": "99 edges (tok embeddings)"}, "99 edges"),
        (
            {"graph": GRAPH.convention.replace("query", "key-value")},
            "tok+pos embeddings, k and v per key-value head",
        ),
        ({"n_prompts": {"train": 7, "validation": 8, "test": 99}}, "99 test prompts"),
        ({"n_prompts": {"train": 7, "validation": 9, "test": N_PROMPTS}}, "9 validation prompts"),
        ({"task_version": 2}, "task version 2"),
        ({"data": "c" * 64}, "data cccccccc"),
        ({"weights": "d" * 64}, "weights dddddddd"),
        ({"tokenizer": "another"}, "conditions "),
    ],
)
def test_no_two_panels_have_the_same_title(
    add_cell: Add, store: Store, change: dict[str, Any], told: str
) -> None:
    first = add_cell("eap", {}, SIZES, [0.0, 0.1, 0.2, 0.3])
    sizes = {"train": None, "validation": None, "test": 3}
    again(store, first, "other", **change, sizes=sizes)
    panels, _ = load_panels(store.folder)
    titles = [panel.title for panel in panels]
    assert len(set(titles)) == 2 and any(title.startswith(f"ioi, {told}") for title in titles)
    assert len({panel.heading for panel in panels}) == 2


def test_tasks_that_are_called_the_same_in_print_have_headings_of_their_own(
    add_cell: Add, store: Store
) -> None:
    for task in ("ioi", "custom:IOI"):
        add_cell("eap", {}, SIZES, [0.0, 0.1, 0.2, 0.3], task=task)
    headings = {panel.heading for panel in load_panels(store.folder)[0]}
    assert len(headings) == 2 and all(one.startswith("IOI, conditions ") for one in headings)


def best_of(store: Store) -> str:
    """The variant shown, without the name of the setting."""
    (panel,), _ = load_panels(store.folder)
    return panel.rankings()["eap"][0].variant.removeprefix("selection=")


def test_variants_are_judged_at_the_sizes_that_all_have(add_cell: Add, store: Store) -> None:
    add_cell("eap", {"selection": "dense"}, [GRAPH.n_edges, 20, 10], [0.0, 0.2, 0.5])
    add_cell("eap", {"selection": "sparse"}, [GRAPH.n_edges, 10, 5], [0.1, 0.4, 0.9])
    assert best_of(store) == "sparse" and not said(Results(store.folder))


def test_variants_are_judged_on_the_seeds_that_all_have(add_cell: Add, store: Store) -> None:
    for seed, kl in enumerate((0.9, 0.2, 0.2)):
        add_cell("eap", {"selection": "often"}, [10], [kl], seed=seed)
    add_cell("eap", {"selection": "once"}, [10], [0.8], seed=0)
    assert best_of(store) == "once"


def test_a_variant_on_seeds_of_its_own_gives_way_to_the_one_that_other_methods_share(
    add_cell: Add, store: Store
) -> None:
    alone = add_cell("eap", {"selection": "alone"}, [10], [0.1], seed=0)
    add_cell("eap", {"selection": "shared"}, [10], [0.3], seed=3)
    assert best_of(store) == "alone"
    add_cell("gim", {}, [10], [0.3], seed=3)
    assert best_of(store) == "shared"
    assert said(Results(store.folder)) == {(alone.name, APART)}
