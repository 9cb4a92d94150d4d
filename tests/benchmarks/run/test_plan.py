"""What a dry run says, and that it bounds what a run costs."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.cli import main
from benchmarks.store import Store
from methods import METHODS


def dry_run(suite: Path, results: Path) -> list[str]:
    given = ["run", str(suite), "--out", str(results), "--dry-run"]
    result = CliRunner().invoke(main, given)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


@pytest.mark.slow
def test_finished_cells_are_told_from_those_to_run(
    undisturbed: tuple[Path, Path], tmp_path: Path
) -> None:
    suite, results = undisturbed
    *lines, last = dry_run(suite, results)
    names = [record.name for record in Store(results).finished()]
    assert [line.split()[-1] for line in lines[2:-1]] == ["finished"] * len(names)
    assert sorted(line.split()[0] for line in lines[2:-1]) == names
    assert last.startswith("5 cells and searches, 0 of them to run: at most 0 forward passes")
    *lines, last = dry_run(suite, tmp_path / "none")
    assert all(line.endswith("to run") and ">= " in line for line in lines[2:-1])
    assert last.startswith("5 cells and searches, 5 of them to run: ")
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_no_discovery_costs_more_than_it_says(undisturbed: tuple[Path, Path]) -> None:
    _, results = undisturbed
    for record in Store(results).finished():
        method = METHODS[record.definition.method](**record.definition.settings)
        graph = Store(results).discovery(record.name)
        graph = graph[0].graph if isinstance(graph, list) else graph.graph
        most = method.most_passes(graph, record.n_prompts.train)
        assert most is not None and record.forward_equivalents <= most


def test_what_would_fail_is_said(tmp_path: Path) -> None:
    suite = tmp_path / "mine.toml"
    suite.write_text(
        'name = "mine"\ntasks = ["tracr-xproportion", "tracr-reverse"]\n'
        '[task.tracr-reverse]\ntrain = 28\n[[method]]\nname = "eap"\n'
    )
    result = CliRunner().invoke(main, ["run", str(suite), "--dry-run"])
    assert result.exit_code == 2
    expected = "tracr-reverse: 28 prompts asked for; tracr-reverse has 1 to 27"
    assert result.stderr == f"Error: {expected}\n"


def test_a_mean_that_does_not_reach_a_prompts_end_is_refused_whatever_the_seed(
    tmp_path: Path,
) -> None:
    """The first seed's prompts would do. A prompt of the second is longer than those trained on."""
    suite = tmp_path / "mine.toml"
    suite.write_text(
        'name = "mine"\ntasks = "ioi"\nseeds = [0, 1]\nablation = "mean"\n'
        '[task.ioi]\ntrain = 4\nvalidation = 2\ntest = 2\n[[method]]\nname = "eap"\n'
    )
    result = CliRunner().invoke(main, ["run", str(suite), "--out", str(tmp_path / "results")])
    assert result.exit_code == 2
    said = "Error: ioi on bundled, seed 1: mean ablation of a prompt of 17 tokens, .* at most 16;"
    assert re.search(said, result.stderr)
    assert not Store(tmp_path / "results").records()
