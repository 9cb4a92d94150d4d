"""Captions say what is common to panels once, and of each what is its own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.record import Finished
from benchmarks.report.captions import captions
from benchmarks.report.panels import Panel, load_panels
from tests.benchmarks.samples import GRAPH

COMMON = f"{GRAPH.n_edges} edges (tok+pos embeddings, k and v per query head)"


@pytest.fixture
def panels_of(tmp_path: Path, add_cell: Callable[..., Finished]) -> Callable[..., list[Panel]]:
    def build(*cells: tuple[str, int, str, int]) -> list[Panel]:
        for task, n_train, method, seed in cells:
            numbers = {"train": n_train, "validation": 8, "test": 40}
            add_cell(method, {}, [5], [0.1], task=task, seed=seed, n_prompts=numbers)
        return load_panels(tmp_path / "results")[0]

    return build


def test_tasks_that_differ_in_name_alone_stand_in_one_sentence(
    panels_of: Callable[..., list[Panel]],
) -> None:
    (caption,) = captions(panels_of(("a", 20, "eap", 0), ("b", 20, "eap", 0)))
    assert caption.startswith("a, b on ") and COMMON in caption
    assert "20 training and 40 test prompts, seed 0" in caption and caption.endswith(".")


def test_what_is_common_is_said_once(panels_of: Callable[..., list[Panel]]) -> None:
    cells = [(task, n, "eap", 0) for task, n in (("a", 1000), ("b", 20), ("c", 20))]
    common, *own = captions(panels_of(*cells))
    assert common.startswith("All on ") and COMMON in common and "40 test prompts" in common
    assert "training" not in common
    assert own == ["a: 1,000 training prompts.", "b, c: 20 training prompts."]


def test_seeds_are_said_by_method_where_they_differ(panels_of: Callable[..., list[Panel]]) -> None:
    cells = [("a", 20, "eap", seed) for seed in (0, 1, 2)]
    (alike,) = captions(panels_of(*cells))
    assert "prompts, seeds 0 to 2, " in alike
    (caption,) = captions(panels_of(("a", 20, "random", 0)))
    assert "prompts, seed 0 (Random), seeds 0 to 2 (EAP), " in caption


def test_seeds_that_follow_one_another_are_said_as_ranges(
    panels_of: Callable[..., list[Panel]],
) -> None:
    cells = [("a", 20, "eap", seed) for seed in (0, 1, 4, 20, 21, 22, 30)]
    (caption,) = captions(panels_of(*cells))
    assert "prompts, seeds 0, 1, 4, 20 to 22, 30, " in caption


def test_without_panels_there_is_no_caption() -> None:
    assert captions([]) == []
