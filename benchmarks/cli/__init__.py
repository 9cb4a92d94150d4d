"""The command line, `edgewise`: compare, run, discover, report, draw, check, solve, list, ...

A user's mistake gives one line on stderr and exit code 2. A run with a failed cell ends with 1, and
so does a check that finds a difference.
Packages that take seconds to import are imported by the verbs that need them.
"""

import os
import sys

import click

from benchmarks.cli.comparing import compare, init
from benchmarks.cli.reading import check, draw, list_, migrate, report
from benchmarks.cli.running import discover, run
from benchmarks.cli.solving import solve


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="edgewise")
def main() -> None:
    """Compare methods that find circuits in transformers, edge by edge."""
    if not sys.stderr.isatty():  # as `edgewise.progress` does with the bars here
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


for _verb in (compare, run, discover, report, draw, check, solve, migrate, init, list_):
    main.add_command(_verb)
