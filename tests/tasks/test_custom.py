"""Prompts from a file: what is read from it, and what is said about its bad lines."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from edgewise.metrics import kl_divergence, negative_logit_difference
from edgewise.prompts import PromptPairs
from edgewise.task import Sizes, Task
from tasks import TASKS, CustomTask, find_task
from tests.tasks.own_prompts import ENTRIES, NAMES, Entry, entry, word_tokenizer, write_lines

SPLITS = ("train", "validation", "test")


def read(folder: Path, entries: list[Entry], name: str = "mine.jsonl") -> CustomTask:
    path = folder / name
    write_lines(path, entries)
    return CustomTask.read(path)


def build(folder: Path, entries: list[Entry], **options: Any) -> Task:
    return read(folder, entries).build(None, word_tokenizer(), **{"seed": 0, **options})


def splits(task: Task) -> tuple[PromptPairs, PromptPairs, PromptPairs]:
    return task.train, task.validation, task.test


def texts(pairs: PromptPairs, tokens: torch.Tensor, tokenizer: Any) -> list[str]:
    lengths = pairs.lengths.tolist()
    return [
        tokenizer.decode(row[:length], skip_special_tokens=True).strip()
        for row, length in zip(tokens, lengths, strict=True)
    ]


def problems(folder: Path, *entries: Entry | str, tokenizer: Any = None) -> list[str]:
    """What is wrong, line by line, without the file's name."""
    path = folder / "bad.jsonl"
    path.write_text("\n".join(e if isinstance(e, str) else json.dumps(e) for e in entries))
    with pytest.raises(ValueError) as error:
        CustomTask.read(path).build(None, tokenizer or word_tokenizer(), seed=0)
    lines = str(error.value).splitlines()
    assert all(line.startswith("bad.jsonl: ") for line in lines)
    return [line.removeprefix("bad.jsonl: ") for line in lines]


@pytest.fixture(params=["gpt2", "llama"])
def real_tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    if request.param == "gpt2":
        return request.getfixturevalue("gpt2_tokenizer")
    return AutoTokenizer.from_pretrained(request.getfixturevalue("stories"))


@pytest.mark.parametrize(
    "ending",
    [
        " <predict>{}</predict>",
        "<predict> {}</predict>",
        " <predict>{}</predict>. And they lived happily.",
        " <predict>{} again</predict>",
    ],
)
def test_the_prompt_ends_before_the_tag_and_its_first_token_is_the_answer(
    tmp_path: Path, real_tokenizer: PreTrainedTokenizerBase, ending: str
) -> None:
    entries = [
        {
            side: f"When {name} met Kim, Kim thanked{ending.format(name)}"
            for side, name in (("clean", NAMES[k]), ("corrupted", NAMES[k - 1]))
        }
        for k in range(8)
    ]
    task = read(tmp_path, entries).build(None, real_tokenizer, seed=0)
    found = {}
    for pairs in splits(task):
        assert pairs.distractors is not None
        assert torch.equal(pairs.targets, pairs.lengths[:, None] - 1)
        clean, corrupted = (
            texts(pairs, tokens, real_tokenizer) for tokens in (pairs.clean, pairs.corrupted)
        )
        for sides in zip(clean, corrupted, pairs.answers, pairs.distractors, strict=True):
            prompt, twin, answer, distractor = sides
            right, wrong = (str(real_tokenizer.decode(ids)).strip() for ids in (answer, distractor))
            assert prompt == f"When {right} met Kim, Kim thanked"
            assert twin == f"When {wrong} met Kim, Kim thanked"
            found[right] = wrong
    assert found == {NAMES[k]: NAMES[k - 1] for k in range(8)}


def test_several_tags_are_several_targets(
    tmp_path: Path, real_tokenizer: PreTrainedTokenizerBase
) -> None:
    text = "When {0} met {1}. Then <predict>{0}</predict> thanked <predict>{1}</predict> again"
    entries = [
        {"clean": text.format(name, "Kim"), "corrupted": text.format(NAMES[k - 1], "Max")}
        for k, name in enumerate(NAMES)
    ]
    pairs = read(tmp_path, entries).build(None, real_tokenizer, seed=0).train
    assert pairs.distractors is not None and pairs.targets.shape == (4, 2)
    for k in range(len(pairs)):
        first, second = pairs.targets[k].tolist()
        right, wrong = (
            [str(real_tokenizer.decode(token)).strip() for token in tokens[k]]
            for tokens in (pairs.answers, pairs.distractors)
        )
        start = real_tokenizer.decode(pairs.clean[k, : first + 1], skip_special_tokens=True)
        assert str(start).strip() == f"When {right[0]} met Kim. Then"
        assert pairs.clean[k, first + 1] == pairs.answers[k, 0]
        assert second == int(pairs.lengths[k]) - 1
        assert right[1] == "Kim" and wrong[1] == "Max" and wrong[0] in NAMES


def test_losses_and_metrics_are_those_of_a_next_token(tmp_path: Path) -> None:
    task = build(tmp_path, ENTRIES)
    assert (task.name, task.version) == ("custom:mine", 1)
    assert task.training_loss is kl_divergence
    assert task.attribution_loss is negative_logit_difference
    assert set(task.metrics) == {"kl", "logit_difference", "accuracy", "exact_match"}


def test_without_splits_the_lines_are_shared_out_by_the_seed(tmp_path: Path) -> None:
    tasks = [build(tmp_path, ENTRIES, seed=seed) for seed in (0, 0, 1)]
    tokenizer = word_tokenizer()
    first, again, other = ([texts(p, p.clean, tokenizer) for p in splits(t)] for t in tasks)
    assert list(map(len, first)) == [8, 4, 4]
    assert len({text for part in first for text in part}) == len(ENTRIES)
    assert first == again != other


def test_with_splits_every_line_is_where_it_says(tmp_path: Path) -> None:
    entries = [{**line, "split": SPLITS[k % 3]} for k, line in enumerate(ENTRIES)]
    tokenizer = word_tokenizer()
    for kind, pairs in zip(SPLITS, splits(build(tmp_path, entries)), strict=True):
        expected = [
            line["clean"].partition(" <predict>")[0].replace(".", " .")
            for line in entries
            if line["split"] == kind
        ]
        assert sorted(texts(pairs, pairs.clean, tokenizer)) == sorted(expected)


def test_prompts_that_two_seeds_share_have_the_same_hashes(tmp_path: Path) -> None:
    entries = [{**line, "split": SPLITS[k % 3]} for k, line in enumerate(ENTRIES)]
    one, other = (build(tmp_path, entries, seed=seed) for seed in (0, 1))
    hashes = [task.test.clean_hashes() for task in (one, other)]
    assert hashes[0] != hashes[1] and set(hashes[0]) == set(hashes[1])
    assert len(set(hashes[0])) == len(one.test)
    assert set(hashes[0]).isdisjoint(one.train.clean_hashes())


def test_sizes_take_the_first_of_each_split(tmp_path: Path) -> None:
    small = build(tmp_path, ENTRIES, sizes=Sizes(train=3, test=2))
    full = build(tmp_path, ENTRIES)
    assert torch.equal(small.train.clean, full.train.clean[:3])
    assert torch.equal(small.test.clean, full.test.clean[:2])
    assert len(small.validation) == len(full.validation)


def test_a_split_with_too_few_lines_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="8 of its 16 lines are train prompts; expected at least 9"
    ):
        build(tmp_path, ENTRIES, sizes=Sizes(train=9))
    with pytest.raises(
        ValueError, match="0 of its 3 lines are validation prompts; expected at least 1"
    ):
        build(tmp_path, ENTRIES[:3])
    with pytest.raises(ValueError, match="4 of its 16 lines are test prompts; expected at least 1"):
        build(tmp_path, ENTRIES, sizes=Sizes(test=0))


def test_blank_lines_a_byte_order_mark_and_further_keys_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    rows = [json.dumps({**line, "source": "me"}) for line in ENTRIES]
    path.write_bytes("\n\r\n".join(rows).encode("utf-8-sig"))
    lines = CustomTask.read(path).lines
    assert len(lines) == len(ENTRIES) and max(lines) == 2 * len(ENTRIES) - 1


def test_all_bad_lines_are_reported_at_once(tmp_path: Path) -> None:
    good = entry("Tom", "Tim")
    bad: list[tuple[Entry | str, str]] = [
        ("{'clean'}", "not JSON (column 2"),
        ("[1]", "no JSON object"),
        ({"clean": good["clean"]}, "corrupted is None; expected text"),
        ({**good, "clean": 3}, "clean is 3; expected text"),
        ({**good, "clean": "Tom met Amy"}, "clean has no <predict>...</predict>"),
        ({**good, "corrupted": "Tim met <predict>Ann"}, "corrupted has no <predict>"),
        ({**good, "clean": "Tom <predict></predict>"}, "clean has an empty tag"),
        ({**good, "clean": "Tom <predict> </predict>"}, "clean has an empty tag"),
        ({**good, "clean": "Tom met <predict> Amy</predict>"}, "or spaces both before"),
        ({**good, "clean": "Tom <predict>met</predict> <predict>Amy</predict>"}, "2 tags and corr"),
        (entry("Tom", "Tim", "Max", split="dev"), "split is 'dev'; expected one of train"),
        (entry("Sam", "Tim", "Max", split="test"), "split is test; expected one in every line or"),
        (entry("Tom", "Tim"), "clean prompt repeats that of line 1"),
        (
            {**good, "clean": good["clean"].replace("<predict>Tom", "<predict>Kim")},
            "repeats that of line 1",
        ),
    ]
    found = problems(tmp_path, good, *(line for line, _ in bad))
    for number, (line, (_, part)) in enumerate(zip(found, bad, strict=True), 2):
        assert line.startswith(f"line {number}: ") and part in line


def test_lines_with_another_number_of_tags_than_the_first_are_bad(tmp_path: Path) -> None:
    twice = {
        side: f"{name} <predict>met</predict> <predict>Kim</predict>"
        for side, name in (("clean", "Tom"), ("corrupted", "Tim"))
    }
    assert problems(tmp_path, entry("Tom", "Tim"), twice) == [
        "line 2: 2 tags; expected 1, as at first"
    ]


def test_all_lines_that_do_not_suit_the_tokenizer_are_reported_at_once(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        entry("Tom", "Tim"),
        entry("Ruth", "Tim"),
        entry("Sam", "Sue", "Max"),
        {"clean": "<predict>Tom</predict>", "corrupted": "<predict>Tim</predict>"},
        {"clean": "Tom met K<predict>im</predict>", "corrupted": "Tom met M<predict>ax</predict>"},
        tokenizer=word_tokenizer(Ruth=["Ru", "##th"], Sam=["S", "##am"], Sue=["S", "##ue"]),
    )
    assert [line.partition(":")[0] for line in found] == ["line 2", "line 3", "line 4", "line 5"]
    assert "follow 7 tokens and those of corrupted 6" in found[0]
    assert "the same first token" in found[1]
    assert "no token before 'Tom'" in found[2]
    assert "joins 'im'" in found[3]


def test_an_empty_file_and_none_are_errors(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ValueError, match=r"empty.jsonl: no line with prompts"):
        CustomTask.read(tmp_path / "empty.jsonl")
    with pytest.raises(ValueError, match=r"no file .*none.jsonl"):
        CustomTask.read(tmp_path / "none.jsonl")


def test_a_file_is_found_by_the_prefix_and_known_by_its_content(tmp_path: Path) -> None:
    one, two = (read(tmp_path, ENTRIES, name) for name in ("mine.jsonl", "copy.jsonl"))
    found: Any = find_task(f"custom:{tmp_path / 'mine.jsonl'}")
    assert found.digest == one.digest == two.digest
    assert read(tmp_path, ENTRIES[1:]).digest != one.digest
    assert find_task("ioi") is TASKS["ioi"]
    with pytest.raises(KeyError):
        find_task("iou")
