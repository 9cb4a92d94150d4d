"""A results folder in which one file is changed is read, or the file is named as damaged.

Nothing else in the folder is harmed, and nothing outside it is touched.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.record import (
    FAILED,
    CrossedRecord,
    CrossedRow,
    Failure,
    RowRecord,
    SearchRecord,
    Unfinished,
)
from benchmarks.report import report as report_module
from benchmarks.report.figures import PLOTS
from benchmarks.report.page import page as page_module
from benchmarks.report.report import report
from benchmarks.report.results import Results
from benchmarks.store import Store
from edgewise import Circuit
from tests.benchmarks.contract import accepted
from tests.benchmarks.mutations import changed, damaged
from tests.benchmarks.samples import GRAPH, estimated, record_fields, write_cell
from tests.shapes import unchecked_shapes

ROW = {
    "edges": 15,
    "sparsity": 0.5,
    "live_sparsity": 0.5,
    **estimated({"kl": 0.1, "accuracy": 0.5}),
}
SIZES, KL = (GRAPH.n_edges, 20, 10), (0.0, 1.0, 2.0)
FOLDERS = ("cells", "matched", "searches", "crossed", "checkpoints", "claims", "tables")
NAMES = (
    "..",
    "...json",
    ".json",
    "new.json",
    "a..b.json",
    ".hidden.json",
    "new.prompts.safetensors",
)


def sample_results(folder: Path) -> None:
    """Every kind of cell and record, a failed cell and an unfinished one."""
    store = Store(folder)
    store.prepare()
    write_cell(store, "random", {"draws": 3}, SIZES, KL, draws=3)
    for seed in (0, 1):
        write_cell(store, "eap", {"selection": "top-signed"}, SIZES, KL, seed=seed)
        write_cell(store, "eap", {"selection": "top-absolute"}, SIZES, KL, seed=seed)
    for seed in (0, 1, 2):
        write_cell(store, "acdc", {"threshold": 0.1}, [15], [0.9], kind="circuit", seed=seed)
    other: dict[str, Any] = {"kind": "circuit", "task": "greater-than"}
    write_cell(store, "acdc", {"threshold": 0.1}, [15], [0.9], **other)
    truth = {"precision": 1.0, "recall": 0.5, "missing": 1, "extra": 0, "exact": False}
    program: dict[str, Any] = {"task": "tracr-reverse", "true_circuits": [15]}
    rows = [{**ROW, "truth": truth}]
    write_cell(store, "acdc", {"threshold": 1.0}, [15], [0.1], kind="circuit", rows=rows, **program)
    bfloat16: dict[str, Any] = {"kind": "circuit", "dtype": "bfloat16", "name": "ioi-acdc-bfloat16"}
    fields = record_fields("acdc", {"threshold": 0.1}, "ioi", 0)
    definition = {**fields["definition"], "dtype": "bfloat16"}
    first = write_cell(
        store, "acdc", {"threshold": 0.1}, [15], [0.9], definition=definition, **bfloat16
    )
    metrics = {**estimated({"kl": 0.5, "accuracy": 0.5}), "validation": {"kl": 0.4}}
    matched = RowRecord.model_validate({**ROW, **metrics})
    store.add_matched_rows("ioi-eap-top-signed-0", [matched])
    _write_search_and_crossing(store)
    error = Failure(message="it broke", traceback="...")
    environment = first.environment
    store.write(
        Unfinished(
            name="ioi-eap-failed",
            status=FAILED,
            definition=first.definition,
            error=error,
            environment=environment,
        )
    )
    store.checkpoint("ioi-eap-failed").write_text("state")


def _write_search_and_crossing(store: Store) -> None:
    goal = {"setting": "threshold", "interval": [0.01, 1.0], "sparsity": 0.5}
    trial = {"value": 0.1, "sparsity": 0.5, "cell": "ioi-acdc-0.1-0"}
    search = {
        "name": "ioi-acdc-search",
        "definition": {
            **{
                key: value
                for key, value in record_fields("acdc", {}, "ioi", 0)["definition"].items()
                if key != "settings"
            },
            "settings": {},
            "search": {**goal, "tolerance": 0.01, "trials": 3},
        },
        "trials": [trial],
        "found": trial["cell"],
        "within_tolerance": True,
    }
    store.write_search(SearchRecord.model_validate(search))
    crossed_rows = [
        CrossedRow.model_validate(
            {**ROW, **estimated({"kl": 0.5}), "circuit": circuit, "prompts": prompts_of}
        )
        for prompts_of in ("ioi", "greater-than")
        for circuit in ("full model", "ioi", "greater-than", "intersection")
    ]
    cells = ["ioi-acdc-0.1-0", "greater-than-acdc-0.1-0"]
    store.write_crossed(CrossedRecord(name="crossed", cells=cells, rows=crossed_rows))


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder, and its folders."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def read_cell(store: Store, name: str) -> tuple[Any, ...]:
    """All that can be read of a finished cell."""
    found = store.discovery(name)
    drawn = [found.mask] if isinstance(found, Circuit) else [scores.values for scores in found]
    tensors = [*drawn, store.prompts(name)]
    return store.record(name), store.matched_rows(name), [tensor.tolist() for tensor in tensors]


class Place:
    """Good results beside files of others; `anew` copies them."""

    def __init__(self, folder: Path) -> None:
        self._good, self._copy = folder / "good", folder / "copy"
        sample_results(self._good / "results")
        for name in ("other.json", "other.safetensors", "cells/other.json"):
            (self._good / name).parent.mkdir(exist_ok=True)
            (self._good / name).write_text("{}")
        store = Store(self._good / "results")
        self.cells = {record.name: read_cell(store, record.name) for record in store.finished()}
        everything = contents(store.folder).items()
        self.files = {name: content for name, content in everything if content is not None}

    def anew(self) -> Path:
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self._good, self._copy)
        return self._copy / "results"

    def check(self, results: Path, touched: str) -> None:
        """Read everything; `touched` is the changed file, or where one was added or removed."""
        outside = self._outside()
        name = Path(touched).name.removesuffix(".json").removesuffix(".safetensors")
        name = name.removesuffix(".prompts")
        store = Store(results)
        before = contents(results)
        for read in (store.records, store.damaged, store.search_records, store.crossed_records):
            accepted(read)
        accepted(store.prepare)
        accepted(lambda: report(results))
        for cell in self.cells.keys() - {name}:
            assert read_cell(store, cell) == self.cells[cell]
        after = contents(results)
        ours = {kept: after.get(kept) for kept in before if kept.split("/")[0] in FOLDERS[:4]}
        assert ours == {kept: before[kept] for kept in ours}
        assert self._outside() == outside

    def _outside(self) -> dict[str, bytes | None]:
        everything = contents(self._copy).items()
        return {name: what for name, what in everything if not name.startswith("results")}


@pytest.fixture(scope="module", autouse=True)
def as_outside_the_tests() -> Iterator[None]:
    """Without figures and the page, which take seconds: a test of their own composes them."""
    with unchecked_shapes(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_module, "PLOTS", ())
        patch.setattr(page_module, "write_page", lambda _, folder: folder / page_module.PAGE)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("store"))


def test_the_results_that_are_changed_are_right(place: Place) -> None:
    results = place.anew()
    assert not Store(results).damaged()
    place.check(results, "nothing")
    tables = {path.stem for path in (results / "tables").glob("*.csv")}
    assert tables >= {"crossed", "dtypes", "examples", "faithfulness", "recovery", "consistency"}


@pytest.mark.slow
@given(st.data())
def test_a_record_with_changed_keys_and_values(place: Place, data: st.DataObject) -> None:
    results = place.anew()
    name = data.draw(st.sampled_from([name for name in place.files if name.endswith(".json")]))
    record = data.draw(changed(json.loads(place.files[name])))
    (results / name).write_text(json.dumps(record))
    place.check(results, name)


@pytest.mark.slow
@given(st.data())
def test_a_file_with_changed_bytes(place: Place, data: st.DataObject) -> None:
    results = place.anew()
    name = data.draw(st.sampled_from(list(place.files)))
    (results / name).write_bytes(data.draw(damaged(place.files[name])))
    place.check(results, name)


@pytest.mark.slow
@given(st.data())
def test_a_file_that_is_removed_replaced_or_added(place: Place, data: st.DataObject) -> None:
    results = place.anew()
    name = data.draw(st.sampled_from(list(place.files)))
    kind = data.draw(st.sampled_from(["remove", "folder", "link", "other", "add"]))
    path = results / name
    if kind == "add":
        name = f"{data.draw(st.sampled_from(FOLDERS))}/{data.draw(st.sampled_from(NAMES))}"
        path = results / name
        path.parent.mkdir(exist_ok=True)
    if not path.is_dir():
        path.unlink(missing_ok=True)
        if kind == "folder":
            path.mkdir()
        elif kind == "link":
            path.symlink_to(data.draw(st.sampled_from(["..", "nowhere", "../../other.json"])))
        elif kind != "remove":
            path.write_bytes(place.files[data.draw(st.sampled_from(list(place.files)))])
    place.check(results, name)


@pytest.fixture(scope="module")
def first_drawings(place: Place) -> None:
    """What only the first drawing costs, such as fonts, is not counted as an input's."""
    results = place.anew()
    for draw in drawings(results):
        draw(Results(results))


def drawings(folder: Path) -> list[Callable[[Results], object]]:
    """Every figure, and the page."""
    return [*(plot.draw for plot in PLOTS), lambda read: page_module.page(read, folder)]


@pytest.mark.slow
@pytest.mark.usefixtures("first_drawings")
@given(st.data())
def test_figures_and_page_of_a_record_with_changed_keys_and_values(
    place: Place, data: st.DataObject
) -> None:
    results = place.anew()
    name = data.draw(st.sampled_from([name for name in place.files if name.endswith(".json")]))
    record = data.draw(changed(json.loads(place.files[name])))
    (results / name).write_text(json.dumps(record))
    read = accepted(lambda: Results(results))
    if read is not None:
        for draw in drawings(results):
            accepted(partial(draw, read))
