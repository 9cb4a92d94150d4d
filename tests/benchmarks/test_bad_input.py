"""Bad input from outside is an error of a line each, before any model is loaded."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from benchmarks.cli import main
from benchmarks.run.loading import Loader
from tests.tasks.own_prompts import entry, write_lines

SUITE = 'name = "mine"\ntasks = ["tracr-reverse"]\n'


@pytest.fixture(autouse=True)
def no_model_is_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def load(*_: object) -> None:
        raise AssertionError("a model is loaded")

    monkeypatch.setattr(Loader, "model", load)
    monkeypatch.chdir(tmp_path)


def errors(*arguments: str) -> list[str]:
    """What the command says on its way to exit code 2."""
    result: Result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert not os.listdir("runs") if os.path.exists("runs") else True
    return result.stderr.splitlines()


def with_method(name: str, *settings: str) -> str:
    return "\n".join([SUITE, "[[method]]", f'name = "{name}"', *settings])


@pytest.mark.parametrize(
    ("method", "setting", "expected"),
    [
        ("acdc", "threshold = -1.0", "a number greater than 0"),
        ("acdc", "threshold = nan", "a finite number"),
        ("acdc", "buffer_bytes = -5", "a number greater than or equal to 0"),
        ("acdc", f"buffer_bytes = {10**30}", f"a number less than {2**63}"),
        ("acdc", "reader_order = 3", "'reverse', 'forward' or 'random'"),
        ("edge-pruning", "node_target = -1.0", "a number greater than 0"),
        ("edge-pruning", "target_sparsity = 0", "a number greater than 0"),
        ("edge-pruning", "weight_decay = -0.1", "a number greater than or equal to 0"),
        ("edge-pruning", "weight_decay = 1.0", "a number less than 1"),
        ("edge-pruning", "threshold = 1.5", "a number less than or equal to 1"),
        ("edge-pruning", "learning_rate = 0.0", "a number greater than 0"),
        ("edge-pruning", "lagrangian_learning_rate = inf", "a finite number"),
        ("edge-pruning", f"steps = {10**30}", f"a number less than or equal to {10**9}"),
        ("edge-pruning", "batch_size = true", "a valid integer"),
        ("edge-pruning", "warmup_steps = -1", "a number greater than or equal to 0"),
        ("random", "draws = 1000000", "a number less than or equal to 10000"),
        ("eap", "seeds = -1", "a number greater than or equal to 0"),
        ("eap", f"seeds = {2**64}", f"a number less than {2**63}"),
        ("eap", f"seeds = {'9' * 400}", f"a number less than {2**63}"),
        ("eap", "train = 0", "a number greater than or equal to 1"),
        ("eap", "selection = []", "at least one value"),
    ],
)
def test_a_value_outside_its_range(method: str, setting: str, expected: str) -> None:
    Path("mine.toml").write_text(with_method(method, setting))
    key = setting.split()[0]
    (error,) = errors("run", "mine.toml")
    assert error.startswith(f"Error: mine.toml: method.0.{key} is ")
    assert error.endswith(f"; expected {expected}")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"\xff\xfe\0", "not UTF-8: invalid start byte at byte 0"),
        (b'name = "\xed\xa0\x80"', "not UTF-8: invalid continuation byte at byte 8"),
        (b"name = 'x'\0", "not valid TOML: "),
        (b"seeds = " + b"9" * 5000, "not valid TOML: Exceeds the limit"),
        (b"tasks = " + 3000 * b"[" + 3000 * b"]", "brackets too deep in one another"),
        (b"method = []\n" + SUITE.encode(), "method is []; expected at least 1 item"),
        (SUITE.replace("mine", "..").encode(), "name is '..'; expected text that can name a"),
        (SUITE.replace("mine", "a/b").encode(), "name is 'a/b'; expected text that can name a"),
        (SUITE.replace("mine", "a\tb").encode(), "name is 'a\\tb'; expected text that can name"),
        (SUITE.replace("mine", "n" * 101).encode(), f"name is '{'n' * 76}...; expected at most"),
    ],
)
def test_a_suite_that_is_none(content: bytes, error: str) -> None:
    Path("mine.toml").write_bytes(content)
    assert errors("run", "mine.toml")[0].startswith(f"Error: mine.toml: {error}")


def test_a_suite_of_two_tasks_that_it_has_not() -> None:
    Path("mine.toml").write_text(f'cross = ["ioi", "bool"]\n{with_method("acdc")}')
    (error,) = errors("run", "mine.toml")
    assert error.startswith("Error: mine.toml: cross.1: unknown task 'bool'; ")


def test_a_grid_of_too_many_cells_before_any_is_made() -> None:
    values = ", ".join(map(str, range(1, 2001)))
    axes = f"threshold = [{values}]", f"buffer_bytes = [{values}]"
    Path("mine.toml").write_text(with_method("acdc", *axes))
    (error,) = errors("run", "mine.toml")
    assert "4,000,000 cells; expected at most 10,000 (max_cells of the suite)" in error
    Path("mine.toml").write_text(f"max_cells = 2\n{with_method('acdc', 'seeds = [1, 2, 3]')}")
    (error,) = errors("run", "mine.toml")
    assert error == "Error: mine.toml: 3 cells; expected at most 2 (max_cells of the suite)"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("run", "tracr", "--device", "meta"), "device 'meta' cannot be used: it computes nothing"),
        (("run", "tracr", "--device", "x"), "device 'x' cannot be used: "),
        (("run", "~no-such-user/suite.toml"), "no suite file '~no-such-user/suite.toml'"),
        (("report", "~no-such-user/runs"), "no results in ~no-such-user/runs"),
        (("report", "mine.toml"), "no results in mine.toml"),
        (("check", "nothing"), "no reference cell in nothing"),
        (("migrate", "nothing"), "no results in nothing"),
        (("draw", "nothing"), "no file 'nothing'"),
    ],
)
def test_a_command_that_cannot_be_done(arguments: tuple[str, ...], error: str) -> None:
    assert errors(*arguments)[0].startswith(f"Error: {error}")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--set", "threshold"), "setting 'threshold'; expected key=value"),
        (("--set", f"threshold={'[' * 3000}"), "method 'acdc': threshold is '[[["),
        (("--set", f"threshold={'9' * 400}"), "method 'acdc': threshold is 9999"),
        (("--set", "reader_order=\ud800"), "method 'acdc': reader_order is '\\ud800'; "),
        (("--task", "custom:~no-such-user/mine.jsonl"), "path '~no-such-user/mine.jsonl': "),
        (("--task", "custom:nothing.jsonl"), "no file 'nothing.jsonl'"),
    ],
)
def test_a_discovery_that_cannot_be_done(arguments: tuple[str, ...], error: str) -> None:
    given = ("discover", "--method", "acdc", "--task", "tracr-reverse", *arguments)
    assert errors(*given)[0].startswith(f"Error: {error}")


def test_prompts_that_are_none() -> None:
    write_lines(Path("mine.jsonl"), [entry("Tom", "Tim")])
    good = Path("mine.jsonl").read_bytes()
    bad = {
        b"[" * 3000: "not JSON (brackets too deep in one another)",
        b'{"clean": "\xff"}': "not UTF-8 (invalid start byte at byte 11)",
        b'{"clean": "\\ud800"}': "clean has half of a surrogate pair; expected valid Unicode",
        b'{"clean": "' + b"<predict>" * 100_000 + b'"}': "clean has no <predict>...</predict>",
        b'{"clean": ' + b"9" * 400 + b"}": f"clean is {'9' * 77}...; expected text",
    }
    Path("mine.jsonl").write_bytes(b"\n".join([good.strip(), *bad]))
    found = errors("discover", "--method", "acdc", "--task", "custom:mine.jsonl")
    assert len(found) == len(bad)
    for number, (line, error) in enumerate(zip(found, bad.values(), strict=True), 2):
        assert line.startswith(f"Error: mine.jsonl: line {number}: {error}")
