"""Names of tasks in print."""

import pytest

from benchmarks.drawing.titles import task_title


@pytest.mark.parametrize(
    ("task", "title"),
    [
        ("ioi-t1", "IOI, one template"),
        ("ioi-s2-io-flip", "IOI, s2 io flip"),
        ("subject-verb-agreement", "Subject-Verb Agreement"),
        ("tracr-local-maximum", "Tracr: local maximum"),
        ("custom:some/mine.jsonl", "mine"),
        ("mine", "mine"),
    ],
)
def test_tasks_are_called_as_papers_do(task: str, title: str) -> None:
    assert task_title(task) == title
