"""The pages of docs/ that come from the code: `python -m benchmarks.docs docs/` writes them.

It also writes the catalogue that `edgewise list` reads. `methods.md` and `tasks.md` are written as
a whole. In the hand-written `suites.md` the list of suites between two markers is filled in.
"""

import ast
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from functools import cache
from itertools import groupby, pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import click
from tabulate import tabulate

from benchmarks.catalogue import FILE as CATALOGUE
from benchmarks.catalogue import suites
from benchmarks.grid.cell import BUNDLED
from benchmarks.grid.settings import allowed, task_defaults
from edgewise.method import Method
from edgewise.metrics import Metric
from edgewise.pretrained import load_tokenizer
from edgewise.task import Task
from methods import METHODS
from tasks import PREFIX, TASKS, CustomTask, TaskBuilder
from tasks.models.bundled import FOLDER
from tasks.models.tiny import TINY_MODELS, tiny_tokenizer
from tasks.tracr import CATEGORICAL_METRICS, NUMERICAL_METRICS, TracrTask

Rows = list[dict[str, str]]

GENERATED = "<!-- `make docs` writes this page from the code: edit the docstrings there. -->"
BEGIN, END = "<!-- suites:begin -->", "<!-- suites:end -->"
_TYPES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_LIMITS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
FAMILIES = {
    "baseline": "baseline: what other methods have to beat",
    "attribution": "attribution: all edges are scored at once",
    "search": "search: edges are tested one by one",
    "masks": "masks: masks of edges or of writers are trained",
}


def pages(folder: Path) -> dict[Path, str]:
    """The text of every file that comes from the code; the pages are in `folder`."""
    texts = {
        "methods.md": methods_page(),
        "tasks.md": tasks_page(),
        "suites.md": _with_suites((folder / "suites.md").read_text(encoding="utf-8")),
    }
    return {CATALOGUE: catalogue_file(), **{folder / name: text for name, text in texts.items()}}


def catalogue_file() -> str:
    """What `edgewise list` shows of methods and tasks, and the package's models, as JSON."""
    found: dict[str, Any] = {
        "methods": {name: _method_facts(name) for name in METHODS},
        "tasks": {name: _task_facts(task) for name, task in TASKS.items()},
    }
    found["tasks"][f"{PREFIX}FILE.jsonl"] = {"what": _documentation(CustomTask)[0]}
    found["models"] = [BUNDLED, *TINY_MODELS]
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def _method_facts(name: str) -> dict[str, Any]:
    method = METHODS[name]
    summary, text = _documentation(sys.modules[method.__module__])
    cost = re.search(r"^Cost: (.+?)(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    assert cost is not None, f"the docstring of {method.__module__} does not say the cost"
    return {
        "what": summary,
        "cost": " ".join(cost[1].split()).rstrip("."),
        "family": FAMILIES[method.family],
        "version": str(method.version),
        "file": _file_of(method),
        "settings": [
            {key: value.strip("`") for key, value in row.items()} for row in _settings(name)
        ],
        "task defaults": [
            line.removeprefix("- ").replace("`", "")
            for line in _task_defaults(method, task_defaults().get(name, {}))
        ],
    }


def _task_facts(task: TaskBuilder) -> dict[str, str]:
    row = {key: value.replace("`", "").replace("**", "") for key, value in _task_row(task).items()}
    del row["task"]
    return {
        **row,
        "prompts": f"{row['prompts']} for training, validation and test",
        "metrics": f"{row['metrics']}; circuits are chosen by the first",
        "file": type(task).__module__.replace(".", "/") + ".py",
    }


def methods_page() -> str:
    """Every method: what it does, its paper, its settings and their defaults for some tasks."""
    head = (
        "# Methods",
        GENERATED,
        "A setting is given by `--set NAME=VALUE` on the command line or in a suite's `[[method]]` "
        "([suites.md](suites.md)). The tables show the defaults of the methods' classes. Where a "
        "task has other defaults, they are listed below the table; they come from "
        "[defaults.toml](../benchmarks/grid/defaults.toml). How to add a method is in the "
        "[README](../README.md#your-own-method).",
    )
    return _joined([*head, *map(_method_section, METHODS)])


def _method_section(name: str) -> str:
    method = METHODS[name]
    summary, text = _documentation(sys.modules[method.__module__])
    file = _file_of(method)
    facts = [
        f"Name `{name}`, version {method.version}, in [{file}](../{file}).",
        f"Family: {FAMILIES[method.family]}.",
    ]
    if method.sweeps:
        facts.append(f"`{method.sweeps}` makes circuits sparser or denser.")
    if method.after_training:
        after = " and ".join(f"`{setting}`" for setting in method.after_training)
        facts.append(
            f"{after} apply after training: cells that differ only there share a training."
        )
    blocks = [
        f"## {method.label}",
        _linked(summary),
        " ".join(facts),
        text.replace("\nCost:", "\n\nCost:"),
        "\n\n".join(_documentation(method)),
        "Settings:",
        _table(_settings(name)),
    ]
    tables = task_defaults().get(name, {})
    if tables:
        blocks.append("Other defaults on some tasks:")
        blocks.append("\n".join(_task_defaults(method, tables)))
    return _joined(blocks)


def _settings(name: str) -> Rows:
    """A method's settings: type, default and meaning."""
    described = descriptions(METHODS[name])
    defaults = {field: value.default for field, value in _fields(METHODS[name]).items()}
    return [
        {
            "setting": f"`{setting}`",
            "type": _in_words(hint),
            "default": f"`{_toml(defaults[setting])}`",
            "meaning": described[setting],
        }
        for setting, hint in allowed(name).items()
    ]


def _in_words(hint: Any) -> str:
    """What a value of this type looks like."""
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}"
    if get_origin(hint) is Annotated:
        kind, range_of_values = get_args(hint)
        limits = {name: getattr(range_of_values, name, None) for name in _LIMITS}
        words = [
            f"{_LIMITS[name]} {limit:,}" for name, limit in limits.items() if limit is not None
        ]
        return ", ".join([_in_words(kind), *words])
    return _TYPES[hint]


def _fields(method: type[Method]) -> Mapping[str, Any]:
    return method.__dataclass_fields__


def descriptions(cls: type) -> dict[str, str]:
    """The docstrings of a dataclass's fields: the text that follows each of them in the source.

    A field that a subclass declares anew without a text keeps that of its base class.
    """
    found: dict[str, str] = {}
    for kind in reversed(cls.__mro__):
        if is_dataclass(kind):
            found |= _own_descriptions(kind)
    return found


def _own_descriptions(cls: type) -> dict[str, str]:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for field, text in pairwise(tree.body):
        match field, text:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(described))),
            ):
                found[name] = " ".join(described.split())
            case _:
                continue
    return found


def _task_defaults(method: type[Method], tables: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line per task or pattern of tasks with what differs from the class's defaults."""
    lines = []
    for task, table in tables.items():
        differing = [
            f"`{name} = {_toml(value)}`"
            for name, value in table.items()
            if value != _fields(method)[name].default
        ]
        lines.append(f"- `{task}`: {', '.join(differing) or 'as above'}")
    return lines


def tasks_page() -> str:
    """Every task, by the module that makes its prompts, and the metrics."""
    head = (
        "# Tasks",
        GENERATED,
        "Prompts are the default numbers for training, validation and test. Ablation is what a "
        "removed edge carries ([graph.md](graph.md)). A suite can set both "
        "([suites.md](suites.md)). The metric in bold is the primary one: circuits are chosen by "
        "it, and its curves are drawn first.",
    )
    blocks = [*head]
    for module, tasks in groupby(TASKS.values(), lambda task: type(task).__module__):
        blocks += [*_family(module), _table([_task_row(task) for task in tasks])]
    blocks += _family(CustomTask.__module__)
    blocks += ["## Metrics", "Each is one value per prompt, a mean over its target positions."]
    return _joined([*blocks, _table(_metric_rows())])


def _family(module: str) -> list[str]:
    """A heading and what the module says."""
    summary, text = _documentation(sys.modules[module])
    file = module.replace(".", "/") + ".py"
    return [f"## [{file}](../{file})", summary, text]


def _task_row(task: TaskBuilder) -> dict[str, str]:
    facts = facts_of(task)
    metrics = [f"**`{facts.primary}`**", *(f"`{m}`" for m in facts.metrics if m != facts.primary)]
    return {
        "task": f"`{task.name}`",
        "what": task.description,
        "model": facts.model,
        "ablation": facts.ablation,
        "prompts": " / ".join(f"{size:,}" for size in facts.sizes),
        "metrics": ", ".join(metrics),
    }


class Facts(NamedTuple):
    """What a task's page says that is known once its prompts are made."""

    model: str
    ablation: str
    sizes: tuple[int, int, int]
    metrics: Mapping[str, Metric]
    primary: str


@cache
def facts_of(builder: TaskBuilder) -> Facts:
    """From the prompts; for a compiled program, which takes long to compile, from its RASP code."""
    if isinstance(builder, TracrTask):
        return _program_facts(builder)
    model, task = _made(builder)
    sizes = len(task.train), len(task.validation), len(task.test)
    return Facts(model, task.ablation, sizes, task.metrics, task.primary)


def _made(builder: TaskBuilder) -> tuple[str, Task]:
    """Models that the task is for, and the task, for the first tokenizer that knows its words."""
    tokenizers: dict[str, Any] = {
        "any, such as `tiny-llama`": tiny_tokenizer(),
        f"any, such as `{BUNDLED}`": load_tokenizer(FOLDER),
    }
    unused: Any = None
    for model, tokenizer in tokenizers.items():
        try:
            return model, builder.build(unused, tokenizer, seed=0)
        except ValueError:  # its tokenizer does not know the words of this task
            continue
    return "any that knows the words", builder.build(unused, EveryWord(), seed=0)


class EveryWord:
    """A tokenizer for which every word, number and mark is one token."""

    unk_token_id = None
    name_or_path = "every word"

    def __init__(self) -> None:
        self._tokens: dict[str, int] = {}

    def __call__(self, texts: list[str], **options: bool) -> dict[str, list[list[int]]]:
        def ids(text: str) -> list[int]:
            words = re.findall(r"\w+|[^\w\s]", text)
            return [self._tokens.setdefault(word, len(self._tokens)) for word in words]

        return {"input_ids": [ids(text) for text in texts]}

    def decode(self, tokens: list[int]) -> str:
        words = list(self._tokens)
        return " ".join(words[token] for token in tokens)


def _program_facts(task: TracrTask) -> Facts:
    from tracr.rasp import rasp

    metrics = NUMERICAL_METRICS if rasp.is_numerical(task.program.make()) else CATEGORICAL_METRICS
    ablation = inspect.signature(task.build).parameters["ablation"].default
    n_inputs = len(task.program.vocab) ** task.program.length
    return Facts("its own", ablation, (n_inputs,) * 3, metrics, next(iter(metrics)))


def _metric_rows() -> Rows:
    found = {
        (metric.name, metric.unit): metric
        for task in TASKS.values()
        for metric in facts_of(task).metrics.values()
    }
    return [
        {
            "metric": f"`{metric.name}`",
            "in figures": metric.unit,
            "what": _documentation(metric.function)[0],
            "better": metric.better,
        }
        for metric in found.values()
    ]


def _with_suites(page: str) -> str:
    """The page with the list of suites between the markers."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin and end, f"suites.md has no {BEGIN} ... {END}"
    rows = [
        {"suite": f"[`{name}`](../benchmarks/suites/{name}.toml)", "what": suite["description"]}
        for name, suite in suites().items()
    ]
    return f"{before}{begin}\n{_table(rows)}\n{end}{after}"


def _documentation(thing: Any) -> tuple[str, str]:
    """The first line of a docstring, and the rest."""
    first, _, rest = (inspect.getdoc(thing) or "").partition("\n")
    return first, rest.strip("\n")


def _file_of(cls: type) -> str:
    return cls.__module__.replace(".", "/") + ".py"


def _linked(text: str) -> str:
    return re.sub(r"arXiv:(\d+\.\d+)", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)


def _toml(value: Any) -> str:
    return json.dumps(value)


def _table(rows: Rows) -> str:
    escaped = [{key: cell.replace("|", r"\|") for key, cell in row.items()} for row in rows]
    return tabulate(escaped, "keys", tablefmt="github", disable_numparse=True)


def _joined(blocks: Iterable[str]) -> str:
    return "\n\n".join(block.strip("\n") for block in blocks if block) + "\n"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def main(folder: Path) -> None:
    """Write the pages that come from the code into FOLDER."""
    for path, text in pages(folder).items():
        path.write_text(text, encoding="utf-8")
        click.echo(f"wrote {path}")


if __name__ == "__main__":
    main()
