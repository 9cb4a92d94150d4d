"""Runs are killed at random moments, and runs share a folder: the results must be the same.

    python -m benchmarks.campaign --kills 100 --pairs 20 --out runs/campaign

A small suite with every method and a search is run undisturbed once. Then a run is started and
killed (SIGKILL) at a random moment from its first file on, again and again, and a last run goes on
to the end; half of the kills hit runs with two jobs. Pairs of runs are started at once on a fresh
folder. Whatever differs from the undisturbed results is named, its folder kept, and the exit code
is 1.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import click
import psutil
from tabulate import tabulate

from benchmarks.check.folders import differences

COMMAND = [sys.executable, "-m", "benchmarks.cli", "run"]
SUITE = """\
name = "campaign"
tasks = ["tracr-xproportion"]
sparsities = [0.0, 0.5, 0.8, 0.9]

[search]
sparsity = 0.8
trials = 3

[[method]]
name = "random"
draws = 3

[[method]]
name = "eap"
selection = ["top-absolute", "greedy-signed"]

[[method]]
name = "acdc"
threshold = [0.01, 0.1]

[[method]]
name = "acdc"
search = { threshold = [0.001, 1.0] }

[[method]]
name = "edge-pruning"
steps = 60
warmup_steps = 10
target_warmup_steps = 40
target_sparsity = 0.6
"""
TWO_JOBS = ("--jobs", "2")
RUNS_AT_ONCE = 2
MOST_KILLS = 5
"""Before a folder's last run."""
_LOG = "log.txt"
_POLL_SECONDS = 0.05
_SECONDS_TO_END = 10
"""How long a worker may outlive the run that it belongs to."""


@dataclass
class Figures:
    """What was done in one way, and what differed."""

    way: str
    kills: int = 0
    completions: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def line(self) -> tuple[str, int, int, int]:
        return self.way, self.kills, self.completions, len(self.differences)


class Campaign:
    """Runs of the suite in folders of `out`, compared with the undisturbed one there."""

    def __init__(self, out: Path, seed: int) -> None:
        self._out, self._random = out, Random(seed)
        self._suite, self._expected = out / "campaign.toml", out / "undisturbed"
        self._begins, self._ends = 0.0, 0.0
        self._n_folders = 0

    def run_undisturbed(self) -> None:
        """Measure, too, when it makes its folder and when it ends.

        Raises ClickException if it fails.
        """
        self._out.mkdir(parents=True, exist_ok=True)
        self._suite.write_text(SUITE, encoding="utf-8")
        shutil.rmtree(self._expected, ignore_errors=True)
        started = time.monotonic()
        run = self._start(self._expected)
        while run.poll() is None and not self._expected.exists():
            time.sleep(_POLL_SECONDS)
        self._begins = time.monotonic() - started
        if run.wait():
            log = self._log_of(self._expected).read_text(encoding="utf-8", errors="replace")
            raise click.ClickException(f"the undisturbed run failed:\n{log}")
        self._ends = time.monotonic() - started

    def kill(self, way: str, kills: int, options: Sequence[str]) -> Figures:
        """Kill that many runs; each folder's last run goes on to the end."""
        figures = Figures(way)
        while figures.kills < kills:
            folder = self._fresh_folder()
            workers: list[psutil.Process] = []
            for _ in range(min(MOST_KILLS, kills - figures.kills)):
                run = self._start(folder, *options)
                with suppress(subprocess.TimeoutExpired):
                    run.wait(self._random.uniform(self._begins, self._ends))
                    break  # it was done before its moment had come
                workers += _children(run)
                run.kill()
                run.wait()
                figures.kills += 1
            code = self._start(folder, *options).wait()
            _, alive = psutil.wait_procs(workers, timeout=_SECONDS_TO_END)
            outlived = [f"process {one.pid} outlived its run" for one in alive]
            self._note(figures, folder, [code], outlived)
        return figures

    def pair(self, way: str, pairs: int) -> Figures:
        """Start two runs at once, of one job and of two in turns."""
        figures = Figures(way)
        for place in range(pairs):
            folder = self._fresh_folder()
            runs = [
                self._start(folder, *(TWO_JOBS if place % 2 else ())) for _ in range(RUNS_AT_ONCE)
            ]
            self._note(figures, folder, [run.wait() for run in runs])
        return figures

    def _note(
        self, figures: Figures, folder: Path, codes: Sequence[int], more: Sequence[str] = ()
    ) -> None:
        """Compare a folder whose runs have ended, and keep it if it differs."""
        found = [f"a run ended with exit code {code}" for code in codes if code]
        found += [*more, *differences(folder, self._expected)]
        figures.completions += 1
        figures.differences += [f"{folder}: {difference}" for difference in found]
        if not found:
            shutil.rmtree(folder)
            self._log_of(folder).unlink()

    def _fresh_folder(self) -> Path:
        self._n_folders += 1
        folder = self._out / f"{self._n_folders:03}"
        shutil.rmtree(folder, ignore_errors=True)
        self._log_of(folder).unlink(missing_ok=True)
        return folder

    def _start(self, folder: Path, *options: str) -> subprocess.Popen[bytes]:
        given = [str(self._suite), "--out", str(folder), "--checkpoint-every", "0"]
        with self._log_of(folder).open("ab") as log:
            return subprocess.Popen([*COMMAND, *given, *options], stdout=log, stderr=log)

    def _log_of(self, folder: Path) -> Path:
        return self._out / f"{folder.name}.{_LOG}"


def _children(run: subprocess.Popen[bytes]) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(run.pid).children(recursive=True)
    return []


@click.command()
@click.option("--kills", type=click.IntRange(min=0), default=100, help="How many runs are killed.")
@click.option("--pairs", type=click.IntRange(min=0), default=20, help="How many pairs of runs.")
@click.option("--seed", type=int, default=0, help="Of the moments of the kills.")
@click.option("--out", type=Path, default=Path("runs/campaign"), metavar="DIR")
def main(kills: int, pairs: int, seed: int, out: Path) -> None:
    """Kill runs at random moments, start runs in pairs, and compare what they leave."""
    campaign = Campaign(out, seed)
    campaign.run_undisturbed()
    ways = [
        campaign.kill("one job, killed", kills - kills // 2, ()),
        campaign.kill("two jobs, killed", kills // 2, TWO_JOBS),
        campaign.pair("two runs at once", pairs),
    ]
    found = [difference for figures in ways for difference in figures.differences]
    for difference in found:
        click.echo(difference, err=True)
    headers = ("runs", "kills", "completions", "differences")
    click.echo(tabulate([figures.line for figures in ways], headers))
    if found:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
