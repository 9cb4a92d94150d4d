"""Suites: the grid, what overrides what, all problems at once, and the hash of a cell."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from benchmarks.grid.cell import BUNDLED, SPARSITIES, Cell, ModelOptions
from benchmarks.grid.suite import load_suite, parse_suite, single_cell
from benchmarks.names import suite_names
from edgewise.task import Sizes
from tasks import TASKS

SUITE = """
name = "mine"
model = ["a/small", "a/large"]
tasks = ["ioi", "tracr-reverse"]
seeds = [0, 1]

[task.ioi]
train = 20
test = 50

[[method]]
name = "edge-pruning"
target_sparsity = [0.9, 0.95]
[method.task.ioi]
steps = 500

[[method]]
name = "eap"
seeds = 7
tasks = "ioi"
"""


def cells(text: str = SUITE) -> list[Cell]:
    return list(parse_suite(text, "mine.toml").cells)


def known(cell: Cell, weights: str = "abc") -> Cell:
    return replace(cell, bench=replace(cell.bench, weights=weights, architecture="{}"))


def problems(text: str) -> list[str]:
    with pytest.raises(ValueError) as error:
        parse_suite(text, "mine.toml")
    lines = str(error.value).splitlines()
    assert all(line.startswith("mine.toml: ") for line in lines)
    return [line.removeprefix("mine.toml: ") for line in lines]


def test_a_list_is_an_axis_for_models_seeds_and_settings() -> None:
    found = [cell for cell in cells() if cell.method == "edge-pruning" and cell.bench.task == "ioi"]
    assert len(found) == 2 * 2 * 2
    assert {cell.bench.model for cell in found} == {
        ModelOptions("a/small"),
        ModelOptions("a/large"),
    }
    assert {cell.bench.seed for cell in found} == {0, 1}
    assert {cell.settings["target_sparsity"] for cell in found} == {0.9, 0.95}


def test_a_task_that_owns_its_model_ignores_the_suites() -> None:
    tracr = [cell for cell in cells() if cell.bench.task == "tracr-reverse"]
    assert len(tracr) == 2 * 2
    assert {cell.bench.model for cell in tracr} == {None}


def test_sizes_and_settings_are_given_per_task() -> None:
    for cell in cells():
        is_ioi = cell.bench.task == "ioi"
        assert cell.bench.sizes == (Sizes(train=20, test=50) if is_ioi else Sizes())
        if cell.method == "edge-pruning":
            assert cell.settings["steps"] == (500 if is_ioi else 6000)


def test_a_method_entry_overrides_seeds_and_tasks() -> None:
    eap = [cell for cell in cells() if cell.method == "eap"]
    assert {(cell.bench.task, cell.bench.seed) for cell in eap} == {("ioi", 7)}


def test_a_method_entry_overrides_the_models() -> None:
    text = f'model = ["a/small", "a/large"]\n{VALID}model = "another"\n{ENTRY}'
    found = [cell.bench.model for cell in parse_suite(text, "mine.toml").cells]
    assert found == [ModelOptions(id) for id in ("another", "a/small", "a/large")]


def test_a_method_entry_overrides_the_ablation() -> None:
    entry = '[[method]]\nname = "acdc"\nseeds = 7\ntasks = "ioi"\nablation = ["zero", "mean"]\n'
    acdc = [cell for cell in cells(SUITE + entry) if cell.method == "acdc"]
    assert [cell.bench.ablation for cell in acdc] == ["zero", "mean"] * 2
    assert {cell.bench.ablation for cell in cells()} == {None}
    assert any(
        "unknown ablation 'zro'" in line for line in problems(SUITE + entry.replace("zero", "zro"))
    )


def test_equal_cells_of_two_entries_are_one() -> None:
    twice = SUITE + '[[method]]\nname = "eap"\nseeds = 7\ntasks = ["ioi"]\n'
    assert len(cells(twice)) == len(cells())


def test_a_suite_keeps_the_default_grid_of_sparsities_unless_it_has_its_own() -> None:
    assert cells()[0].sparsities == SPARSITIES
    assert cells("sparsities = [0.5, 0]" + SUITE)[0].sparsities == (0.0, 0.5)


def test_all_problems_are_reported_at_once() -> None:
    found = problems(
        """
        name = "mine"
        modle = "a/b"
        tasks = ["ioi", "iou"]
        seeds = [0, "one"]
        dtype = "float31"
        sparsities = [0.5, 2]
        [task.ioi]
        train = 0
        tests = 3
        [[method]]
        name = "eep"
        [[method]]
        name = "eap"
        selection = "topp"
        [[method]]
        name = "acdc"
        sedes = 1
        threshold = [0.1, "high"]
        [method.task.greater-than]
        thresold = 1.0
        [[method]]
        name = "acdc"
        tasks = "ioi"
        seeds = "1"
        threshold = [0.1, -1.0]
        [[method]]
        name = "acdc"
        tasks = ["ioi", "greater-than"]
        [method.task.tracr-reverse]
        """
    )
    for start in (
        "modle: unknown key 'modle'; closest: model",
        "tasks.1: unknown task 'iou'; closest: ioi",
        "seeds.1 is 'one'; expected a valid integer",
        "dtype: unknown dtype 'float31'; closest: float32",
        "sparsities.1 is 2; expected a number less than or equal to 1",
        "task.ioi.train is 0; expected a number greater than or equal to 1",
        "task.ioi.tests: unknown key 'tests'; closest: test",
        "method.0.name: unknown method 'eep'; closest: eap",
        "method.1.selection is 'topp'; expected 'top-absolute', ",
        "method.2.sedes: unknown setting 'sedes'; closest: seeds",
        "method.2.threshold.1 is 'high'; expected a valid number",
        "method.2.task.greater-than.thresold: unknown setting 'thresold'; closest: threshold",
        "method.3.seeds is '1'; expected a valid integer",
        "method.3.threshold.1 is -1.0; expected a number greater than 0",
        "method.4.task.tracr-reverse: unknown task 'tracr-reverse'",
    ):
        assert sum(line.startswith(start) for line in found) == 1, (start, found)
    assert len(found) == 15


ENTRY = '[[method]]\nname = "acdc"\n'
VALID = f'name = "x"\ntasks = "ioi"\n{ENTRY}'


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ('"x"', '".."', "name is '..'; expected text that can name a folder"),
        ('"x"', '""', "name is ''; expected text that can name a folder"),
        ('name = "x"', "", "name is missing; it is required"),
        ('tasks = "ioi"', "", "tasks is missing; it is required"),
        ('"ioi"', "[]", "tasks is []; expected at least one value"),
        ('"ioi"', '["ioi", 3]', "tasks.1 is 3; expected a valid string"),
        (ENTRY, "", "method is missing; it is required"),
        (ENTRY, "method = []", "method is []; expected at least 1 item after validation, not 0"),
        (ENTRY, "method = [3]", "method.0 is 3; expected a table"),
        (ENTRY, "[[method]]", "method.0.name is missing; it is required"),
        (ENTRY, f"description = 3\n{ENTRY}", "description is 3; expected a valid string"),
        (ENTRY, f"seeds = true\n{ENTRY}", "seeds is True; expected a valid integer"),
        (ENTRY, f"seeds = 1.0\n{ENTRY}", "seeds is 1.0; expected a valid integer"),
        (
            *(ENTRY, f"seeds = [0, -1]\n{ENTRY}"),
            "seeds.1 is -1; expected a number greater than or equal to 0",
        ),
        (ENTRY, f"sparsities = [nan]\n{ENTRY}", "sparsities.0 is nan; expected a finite number"),
        (ENTRY, f"sparsities = [true]\n{ENTRY}", "sparsities.0 is True; expected a valid number"),
        (
            *(ENTRY, f"kv_heads = 'kv-value'\n{ENTRY}"),
            "kv_heads: unknown kv_heads 'kv-value'; closest: key-value",
        ),
        (
            *(ENTRY, f"[task.iou]\ntrain = 3\n{ENTRY}"),
            "task.iou: unknown task 'iou'; closest: ioi",
        ),
        (
            *(ENTRY, f"[task.'custom:a/b.jsonl']\ntrain = [3, true]\n{ENTRY}"),
            'task."custom:a/b.jsonl".train.1 is True; expected a valid integer',
        ),
        (ENTRY, f"{ENTRY}train = 0", "method.0.train is 0; expected a number greater than or eq"),
        (ENTRY, f"{ENTRY}tasks = []", "method.0.tasks is []; expected at least one value"),
        (ENTRY, f"{ENTRY}threshold = []", "method.0.threshold is []; expected at least one value"),
        (
            *(ENTRY, f"{ENTRY}[method.task.ioi]\nthreshold = [1, '2']"),
            "method.0.task.ioi.threshold.1 is '2'; expected a valid number",
        ),
    ],
)
def test_a_problem_is_one_line_with_its_place(old: str, new: str, line: str) -> None:
    assert cells(VALID)
    (found,) = problems(VALID.replace(old, new))
    assert found.startswith(line)


def test_a_long_value_is_cut_short() -> None:
    (line,) = problems(VALID.replace('"ioi"', f"[{[0] * 99}]"))
    assert line.startswith("tasks.0 is [0, 0, ") and line.endswith("...; expected a valid string")


def test_a_value_that_the_method_refuses_is_named_once_with_its_entry() -> None:
    entry = 'tasks = ["ioi", "greater-than"]\nbatch_size = 4\nnoise_samples = [1, 5, 6]'
    first, second = problems(f'{VALID}[[method]]\nname = "edge-pruning"\n{entry}')
    start = "method.1: method 'edge-pruning': noise_samples="
    assert first == f"{start}5; expected 1 to 4 (batch_size)"
    assert second == f"{start}6; expected 1 to 4 (batch_size)"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name = 3",
        'name = "a/b"',
        'name = "x"\ntasks = 3\nmethod = 4',
        'name = "x"\ntasks = [["ioi"]]\nseeds = []\nmodel = ""\n[[method]]',
        'name = "x"\ntasks = "ioi"\nmodel = 3\ntask = 1\n[[method]]\nname = "eap"\ntask = 1',
        'name = "x"\ntasks = "ioi"\nmodel = "m"\n[[method]]\nname = "eap"\nselection = []',
        'name = "x"\ntasks = "ioi"\nmodel = "m"\nsparsities = 0.5\n[[method]]\nname = "eap"',
        'name = "x"\ntasks = "ioi"\nmodel = "m"\n[[method]]\nname = "eap"\n[method.task]\nioi = 1',
    ],
)
def test_a_malformed_suite_is_refused(text: str) -> None:
    assert problems(text)


def test_a_syntax_error_is_one_line_with_its_place() -> None:
    (line,) = problems("name = 'x'\ntasks = ioi\n")
    assert "not valid TOML" in line and "line 2" in line


def test_the_suites_of_the_package_are_valid() -> None:
    for name in suite_names():
        assert load_suite(name).cells


def test_one_method_of_a_suite_can_be_chosen() -> None:
    assert {cell.method for cell in load_suite("tracr", only="acdc").cells} == {"acdc"}
    with pytest.raises(ValueError, match="unknown method 'adcd'; closest: acdc"):
        load_suite("tracr", only="adcd")


@pytest.mark.slow
def test_a_cells_name_is_readable_and_the_same_in_every_process() -> None:
    cell = known(single_cell("acdc", "tracr-reverse", model=None, seed=3, given={}))
    assert cell.name.startswith("tracr-reverse-acdc-")
    code = (
        "from dataclasses import replace\n"
        "from benchmarks.grid.suite import single_cell\n"
        "cell = single_cell('acdc', 'tracr-reverse', model=None, seed=3, given={})\n"
        "bench = replace(cell.bench, weights='abc', architecture='{}')\n"
        "print(replace(cell, bench=bench).name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == cell.name


def test_what_defines_a_cell_changes_its_name() -> None:
    cell = known(cells()[0])
    bench = cell.bench
    assert bench.model is not None
    others = [
        replace(cell, method="other"),
        replace(cell, method_version=99),
        replace(cell, settings={**cell.settings, "steps": 7}),
        replace(cell, sparsities=(0.5,)),
        known(cell, "other weights"),
        *(
            replace(cell, bench=replace(bench, **change))
            for change in (
                {"task": "other"},
                {"task_version": 99},
                {"seed": 99},
                {"sizes": Sizes(train=99)},
                {"ablation": "mean"},
                {"dtype": "float64"},
                {"architecture": '{"heads": 3}'},
                {"tokenizer": "another"},
                {"model": replace(bench.model, embeddings="joint")},
                {"model": replace(bench.model, kv_heads="key-value")},
            )
        ),
    ]
    assert len({cell.name, *(other.name for other in others)}) == 1 + len(others)


def test_the_same_weights_under_another_name_are_the_same_cell() -> None:
    cell = known(cells()[0])
    renamed = replace(cell, bench=replace(cell.bench, model=ModelOptions("/a/folder")))
    assert renamed.name == cell.name


def test_a_definition_survives_json() -> None:
    definition = known(cells()[0]).definition()
    assert json.loads(json.dumps(definition)) == definition


def test_a_model_for_a_task_that_owns_one_is_an_error() -> None:
    with pytest.raises(ValueError, match="has its own model"):
        single_cell("eap", "tracr-reverse", model="a/b", seed=0, given={})


def test_where_no_model_is_named_it_is_the_bundled_one() -> None:
    single = single_cell("eap", "ioi", model=None, seed=0, given={})
    assert single.bench.model == ModelOptions(BUNDLED)
    assert single.bench.task_version == TASKS["ioi"].version
    text = 'name = "mine"\ntasks = ["ioi"]\n[[method]]\nname = "eap"'
    assert parse_suite(text, "mine.toml").cells[0].bench == single.bench
