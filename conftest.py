"""Options of the test run: `pytest` runs the tests, `pytest --benchmark` the benchmarks instead."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("benchmarks of this repository")
    group.addoption(
        "--benchmark",
        action="store_true",
        help="run benchmarks/ and nothing else, as `pytest benchmarks --benchmark-only` does",
    )
    group.addoption(
        "--write-counts",
        action="store_true",
        help="store the counts of operations that the benchmarks are held to, instead of checking",
    )


# First, as pytest-benchmark and tests/ look at the option that is set here.
@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if not config.option.benchmark:
        return
    if not hasattr(config.option, "benchmark_only"):
        raise pytest.UsageError("--benchmark needs pytest-benchmark")
    config.option.benchmark_only = True
    if config.args_source == config.ArgsSource.TESTPATHS:
        config.args = [str(config.rootpath / "benchmarks")]
