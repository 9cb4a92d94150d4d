"""Titles of panels: the task and what tells panels of the same task apart. No two are the same."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from benchmarks.drawing.titles import task_title
from benchmarks.record import Finished

HASH_CHARACTERS = 8
"""How many characters of a hash tell what differs."""

_OF_TASK: Sequence[Callable[[Finished], str]] = (
    lambda record: record.model,
    lambda record: f"{record.n_prompts.train:,} examples",
    lambda record: f"{record.ablation} ablation",
    lambda record: record.dtype,
)
"""Said wherever panels of a task differ in it."""

_OF_TITLE: Sequence[Callable[[Finished], str]] = (
    lambda record: record.graph.partition(" (")[0],
    lambda record: record.graph.partition(" (")[2].removesuffix(")"),
    lambda record: f"{record.n_prompts.validation:,} validation prompts",
    lambda record: f"{record.n_prompts.test:,} test prompts",
    lambda record: f"task version {record.definition.task_version}",
    lambda record: f"data {short(record.definition.data or 'none')}",
    lambda record: f"weights {short(record.definition.weights)}",
)
"""Said where titles would be the same without it."""


def titles_of(panels: Mapping[str, Finished]) -> list[str]:
    """One title for each panel; `panels` maps what defines a panel to one of its records.

    Panels may differ only in something that no title shows, such as the tokenizer or the numbers of
    prompts asked for. Their titles then end in a hash of what defines the panel.
    """
    records = list(panels.values())
    titles = [record.definition.task for record in records]
    tasks = list(titles)
    for tell in _OF_TASK:
        titles = _extended(titles, list(map(tell, records)), tasks)
    for tell in _OF_TITLE:
        titles = _extended(titles, list(map(tell, records)), titles)
    headings = map(heading_of, titles, tasks)
    same_title, same_heading = Counter(titles), Counter(headings)
    return [
        f"{title}, conditions {hashlib.sha256(key.encode()).hexdigest()[:HASH_CHARACTERS]}"
        if same_title[title] > 1 or same_heading[heading_of(title, task)] > 1
        else title
        for key, title, task in zip(panels, titles, tasks, strict=True)
    ]


def heading_of(title: str, task: str) -> str:
    """The title with the task's name in print."""
    return title.replace(task, task_title(task), 1)


def short(identity: str) -> str:
    """The start of a hash; the name and version of a package are left whole."""
    return identity if " " in identity else identity[:HASH_CHARACTERS]


def _extended(titles: Sequence[str], words: Sequence[str], groups: Sequence[str]) -> list[str]:
    """The titles, with the words where those of a group differ."""
    differing = {
        group: len({word for word, own in zip(words, groups, strict=True) if own == group}) > 1
        for group in groups
    }
    return [
        f"{title}, {word}" if differing[group] else title
        for title, word, group in zip(titles, words, groups, strict=True)
    ]
