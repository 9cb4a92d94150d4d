"""Discovery on two ranks finds what a single process finds, for every method."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from edgewise import parallel
from tests.methods import toys
from tests.methods.discover_toys import ABLATIONS, DISCOVERIES, discover_all

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def alone_and_together(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What one process finds, and what two find."""
    alone, together = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("together")
    discover_all(alone)
    command = [*TORCHRUN, "-m", "tests.methods.discover_toys", str(together)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return alone, together


@pytest.mark.slow
@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("method", DISCOVERIES)
def test_two_ranks_find_what_one_process_finds(
    alone_and_together: tuple[Path, Path], method: str, ablation: str
) -> None:
    alone, together = alone_and_together
    name = f"{method}-{ablation}.safetensors"
    assert_same(together / name, alone / name)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["acdc", "edge-pruning"])
def test_two_ranks_go_on_from_the_first_ones_checkpoint(
    alone_and_together: tuple[Path, Path], method: str
) -> None:
    alone, together = alone_and_together
    expected = alone / f"{method}-interchange.safetensors"
    for folder in (alone, together):
        assert_same(folder / f"{method}-resumed.safetensors", expected)


def assert_same(found_path: Path, expected_path: Path) -> None:
    """The same circuit; numbers differ by the order of float sums alone.

    Log-alphas are float32 and trained, so the differences of all steps add up.
    """
    found, expected = load_file(found_path), load_file(expected_path)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        if tensor.dtype == torch.bool:
            assert torch.equal(found[name], tensor)
            assert 0 < int(tensor.sum()) < toys.gpt2().graph.n_edges
        else:
            tolerance = 1e-4 if "log_alpha" in name else 1e-6
            torch.testing.assert_close(found[name], tensor, rtol=tolerance, atol=tolerance)


def test_a_process_alone_has_everything_to_itself() -> None:
    pairs, values = toys.random_pairs(3), torch.rand(4)
    assert (parallel.rank(), parallel.size()) == (0, 1)
    assert torch.equal(parallel.share(pairs).clean, pairs.clean)
    assert parallel.total(values) is values and parallel.largest(values) is values
    assert parallel.from_first(lambda: 3) == 3


def test_ranks_share_all_prompts_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "size", lambda: 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(parallel, "rank", lambda rank=rank: rank)
        shares.append(parallel.share(torch.arange(8)).tolist())
    assert shares == [[0, 3, 6], [1, 4, 7], [2, 5]]


def test_a_rank_without_prompts_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "size", lambda: 3)
    with pytest.raises(ValueError, match="2 prompts for 3 processes; expected one or more"):
        parallel.share(torch.arange(2))
