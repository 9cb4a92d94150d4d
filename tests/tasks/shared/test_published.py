"""Rows as MIB publishes them, read by the task of one's own prompts."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks import CustomTask
from tasks.shared.published import with_tags
from tests.tasks.test_ioi import prompts, splits, texts, unpadded, words
from tests.tasks.tokenizers import byte_tokenizer

Row = dict[str, Any]


def multiple_choice(color: str) -> Row:
    """A row of copycolors_mcqa or of ARC, with made-up text."""

    def side(letters: str) -> Row:
        colors = ["red", "blue", "green", "white"]
        lines = [f"{letter}. {option}" for letter, option in zip(letters, colors, strict=True)]
        return {
            "prompt": f"Question: The cup is {color}.\n" + "\n".join(lines) + "\nAnswer:",
            "choices": {"label": list(letters), "text": colors},
            "answerKey": colors.index(color),
        }

    return {**side("ABCD"), "symbol_counterfactual": side("KLMN"), "arc_id": "x"}


def ioi(subject: str, other: str = "Tom") -> Row:
    text = "At the park, {0} and {1} hugged. {2} gave the ball back to"
    return {
        "prompt": text.format(other, subject, subject),
        "metadata": {"indirect_object": other, "subject": subject, "random_c": "Kim"},
        "s2_io_flip_counterfactual": {"prompt": text.format(other, subject, other)},
    }


def addition(first: int) -> Row:
    return {
        "prompt": f"The sum of {first} and 12 is ",
        "label": str(first + 12),
        "operator": "+",
        "random_counterfactual": {"prompt": "The sum of 3 and 4 is ", "label": "7"},
    }


ROWS = {
    "mcqa": [multiple_choice(color) for color in ("red", "blue", "green", "white")],
    "ioi": [ioi(name) for name in ("Amy", "Ann", "Sam", "Sue")],
    "addition": [addition(number) for number in (11, 20, 30, 44)],
}


def read(folder: Path, rows: list[Row]) -> CustomTask:
    path = folder / "mib.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return CustomTask.read(path)


@pytest.mark.parametrize("kind", ROWS)
def test_rows_give_their_prompts_and_answers(tmp_path: Path, kind: str) -> None:
    tokenizer = byte_tokenizer()
    task = read(tmp_path, ROWS[kind]).build(None, tokenizer, seed=0)
    assert [len(pairs) for pairs in splits(task)] == [2, 1, 1]
    by_prompt = {row["prompt"].rstrip(): row for row in ROWS[kind]}
    for pairs in splits(task):
        assert pairs.distractors is not None
        assert torch.equal(pairs.targets, pairs.lengths[:, None] - 1)
        for clean, twin, *answers in zip(
            prompts(tokenizer, pairs),
            texts(tokenizer, unpadded(pairs.corrupted, pairs)),
            words(tokenizer, pairs.answers),
            words(tokenizer, pairs.distractors),
            strict=True,
        ):
            row = by_prompt.pop(clean)
            match kind:
                case "mcqa":
                    other = row["symbol_counterfactual"]
                    expected = ["ABCD"[row["answerKey"]], "KLMN"[row["answerKey"]]]
                case "ioi":
                    other = row["s2_io_flip_counterfactual"]
                    expected = ["Tom", row["metadata"]["subject"]]
                case _:
                    other = row["random_counterfactual"]
                    expected = [row["label"], "7"]
            assert (twin, answers) == (other["prompt"].rstrip(), expected)
    assert not by_prompt


def test_rows_whose_prompts_differ_in_length_are_left_out(tmp_path: Path) -> None:
    rows = [*ROWS["ioi"], *(ioi("Wolfgangus", name) for name in ("Ben", "Dan"))]
    found = {
        kind: [{**row, "split": kind} for row in rows] for kind in ("train", "validation", "test")
    }
    lines = [*found["train"][:3], found["train"][4], found["validation"][3], found["test"][5]]
    task = read(tmp_path, lines)
    with pytest.raises(ValueError, match="0 of its 6 lines are test prompts; expected at least 1"):
        task.build(None, byte_tokenizer(), seed=0)
    lines[-1] = {**ioi("Max"), "split": "test"}
    task = read(tmp_path, lines).build(None, byte_tokenizer(), seed=0)
    assert [len(pairs) for pairs in splits(task)] == [3, 1, 1]


def test_rows_with_other_faults_are_errors(tmp_path: Path) -> None:
    rows = [*ROWS["addition"], {**addition(5), "label": "7"}]
    with pytest.raises(ValueError, match=r"^mib.jsonl: line 5: the tagged texts .* the same first"):
        read(tmp_path, rows).build(None, byte_tokenizer(), seed=0)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "Tom"}, "a prompt without clean, corrupted or one of symbol_counterfactual, "),
        ({**ROWS["mcqa"][0], "answerKey": 7}, "symbol_counterfactual with IndexError list index"),
        ({**ROWS["mcqa"][0], "choices": None}, "symbol_counterfactual with TypeError"),
        ({**ROWS["ioi"][0], "metadata": {}}, "s2_io_flip_counterfactual with KeyError 'indirect"),
        ({**ROWS["addition"][0], "random_counterfactual": "3"}, "expected a row of MIB"),
    ],
)
def test_a_row_that_lacks_something_is_an_error(tmp_path: Path, row: Row, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_tags(row)
    with pytest.raises(ValueError, match=r"^mib.jsonl: line 1: [^\n]*$"):
        read(tmp_path, [row])
