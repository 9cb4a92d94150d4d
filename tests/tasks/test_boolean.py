"""The Boolean tasks' prompts, read back as Python expressions."""

import ast

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Generator
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers import PreTrainedTokenizerFast as FastTokenizer

from edgewise.metrics import kl_divergence, negative_logit_difference
from edgewise.prompts import PromptPairs
from edgewise.task import Sizes, Task
from tasks.boolean import (
    BOOLEAN_FEW_SHOT,
    BOOLEAN_INSTRUCTION,
    QUESTION,
    SHOTS,
    BooleanTask,
    questions,
    shapes,
)
from tasks.shared.text import encode

FAMILIES = [BOOLEAN_INSTRUCTION, BOOLEAN_FEW_SHOT]
SPLITS = ("train", "validation", "test")


def word_tokenizer(*, without: str = "", pieces: tuple[str, ...] = ()) -> FastTokenizer:
    """Every word and bracket is one token, but `without` is unknown, or made of the pieces."""
    spoken = " ".join(family.prompt("( True and False ) or not") for family in FAMILIES)
    splitter = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")]
    )
    words = [word for word, _ in splitter.pre_tokenize_str(spoken) if word != without]
    vocabulary = {word: k for k, word in enumerate(dict.fromkeys(("?", *words, *pieces)))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = splitter  # pyright: ignore
    return FastTokenizer(tokenizer_object=tokenizer, unk_token="?")


@pytest.fixture(scope="module", params=["words", "gpt2", "llama"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    match request.param:
        case "gpt2":
            return request.getfixturevalue("gpt2_tokenizer")
        case "llama":
            return AutoTokenizer.from_pretrained(request.getfixturevalue("stories"))
        case _:
            return word_tokenizer()


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> BooleanTask:
    return request.param


@pytest.fixture(scope="module")
def task(family: BooleanTask, tokenizer: PreTrainedTokenizerBase) -> Task:
    return family.build(None, tokenizer, seed=0)


def splits(task: Task) -> tuple[PromptPairs, PromptPairs, PromptPairs]:
    return task.train, task.validation, task.test


def rows(tokens: torch.Tensor, pairs: PromptPairs) -> list[list[int]]:
    return [
        row[:length] for row, length in zip(tokens.tolist(), pairs.lengths.tolist(), strict=True)
    ]


def expressions(seed: int, count: int) -> list[str]:
    drawn = questions(Generator().manual_seed(seed))
    return [next(drawn[kind]).clean for kind in SPLITS for _ in range(count)]


def depth(node: ast.AST) -> int:
    """How deep operators are nested, in Python's own reading."""
    inside = max(map(depth, ast.iter_child_nodes(node)), default=0)
    return inside + isinstance(node, ast.BoolOp | ast.UnaryOp)


@pytest.mark.slow
def test_a_shape_s_values_are_python_s() -> None:
    for shape in shapes():
        for choice, value in enumerate(shape.values.tolist()):
            assert eval(shape.filled(choice)) is value


def test_there_are_as_many_expressions_as_the_docstring_says_half_of_them_true() -> None:
    texts = {shape.filled(choice) for shape in shapes() for choice in range(len(shape.values))}
    assert len(texts) == 84_406
    assert sum(int(shape.values.sum()) for shape in shapes()) == 84_406 // 2
    assert texts >= set(SHOTS)


def test_expressions_keep_to_the_paper_s_rules() -> None:
    for shape in shapes():
        text = shape.filled(0)
        assert 1 <= text.count("False") <= 6
        assert depth(ast.parse(text, mode="eval")) <= 3
        assert "not not not" not in text


@pytest.mark.parametrize("seed", range(3))
def test_questions_are_distinct_balanced_and_no_shots(seed: int) -> None:
    seen: set[str] = set(SHOTS)
    for drawn in questions(Generator().manual_seed(seed)).values():
        some = [next(drawn) for _ in range(500)]
        assert abs(sum(question.value for question in some) - 250) <= 3
        seen.update(question.clean for question in some)
    assert len(seen) == 3 * 500 + len(SHOTS)


def test_the_corrupted_expression_has_the_same_shape_and_the_other_value() -> None:
    for drawn in questions(Generator().manual_seed(0)).values():
        for _ in range(500):
            clean, corrupted, value = next(drawn)
            assert clean.replace("True", "False") == corrupted.replace("True", "False")
            assert eval(clean) is value
            assert eval(corrupted) is not value


def test_every_number_of_literals_comes_up_in_every_split() -> None:
    for drawn in questions(Generator().manual_seed(0)).values():
        some = [next(drawn).clean for _ in range(200)]
        numbers = [text.count("True") + text.count("False") for text in some]
        for literals in (2, 3, 4, 5, 6):
            assert numbers.count(literals) >= 10


def test_the_shots_are_right_and_in_the_few_shot_prompt() -> None:
    prompt = BOOLEAN_FEW_SHOT.prompt("True")
    for expression, value in SHOTS.items():
        assert eval(expression) is value
        assert f"{QUESTION.format(expression=expression)} {value}\n" in prompt


@pytest.mark.slow
def test_ids_are_those_of_the_text_and_the_answer_is_the_token_that_follows(
    task: Task, family: BooleanTask, tokenizer: PreTrainedTokenizerBase
) -> None:
    drawn = questions(Generator().manual_seed(0))
    for kind, pairs in zip(SPLITS, splits(task), strict=True):
        assert pairs.distractors is not None
        asked = [next(drawn[kind]) for _ in range(len(pairs))]
        clean, corrupted = rows(pairs.clean, pairs), rows(pairs.corrupted, pairs)
        assert clean == encode(tokenizer, [family.prompt(q.clean) for q in asked])
        assert corrupted == encode(tokenizer, [family.prompt(q.corrupted) for q in asked])
        for tokens, right in ((pairs.answers, True), (pairs.distractors, False)):
            answered = [f"{family.prompt(q.clean)} {q.value is right}" for q in asked]
            expected = [[*row, *ids] for row, ids in zip(clean, tokens.tolist(), strict=True)]
            assert encode(tokenizer, answered) == expected


def test_the_target_is_the_last_position(task: Task) -> None:
    for pairs in splits(task):
        assert torch.equal(pairs.targets, pairs.lengths[:, None] - 1)


@pytest.mark.slow
def test_both_tasks_ask_the_same(tokenizer: PreTrainedTokenizerBase) -> None:
    first, second = (family.build(None, tokenizer, seed=1) for family in FAMILIES)
    for a, b in zip(splits(first), splits(second), strict=True):
        assert torch.equal(a.answers, b.answers)
        assert len(set((b.lengths - a.lengths).tolist())) == 1


def test_a_larger_training_set_contains_the_smaller_and_changes_no_other() -> None:
    small, large = (
        BOOLEAN_INSTRUCTION.build(None, word_tokenizer(), seed=0, sizes=Sizes(train=count))
        for count in (100, 2000)
    )
    assert rows(large.train.clean, large.train)[:100] == rows(small.train.clean, small.train)
    assert torch.equal(small.test.clean, large.test.clean)
    assert torch.equal(small.validation.corrupted, large.validation.corrupted)
    assert len({tuple(row) for pairs in splits(large) for row in rows(pairs.clean, pairs)}) == 2600


def test_prompts_depend_on_the_seed_and_on_nothing_else() -> None:
    torch.manual_seed(1)
    first = expressions(3, 50)
    torch.manual_seed(2)
    assert expressions(3, 50) == first != expressions(4, 50)


def test_losses_metrics_and_sizes_are_those_stated(task: Task, family: BooleanTask) -> None:
    assert (task.name, task.version) == (family.name, family.version)
    assert tuple(map(len, splits(task))) == (200, 200, 400)
    assert task.training_loss is kl_divergence
    assert task.attribution_loss is negative_logit_difference
    assert list(task.metrics) == ["kl", "logit_difference", "accuracy", "exact_match"]
    assert task.ablation == "interchange"


@pytest.mark.parametrize("word", ["True", "False"])
def test_an_answer_of_two_tokens_is_an_error(word: str) -> None:
    tokenizer = word_tokenizer(without=word, pieces=(word[:2], f"##{word[2:]}"))
    tokenizer.name_or_path = "some/model"
    with pytest.raises(ValueError, match=rf"some/model: '{word}' is not one token after '"):
        BOOLEAN_INSTRUCTION.build(None, tokenizer, seed=0)


@pytest.mark.parametrize("word", ["or", "(", ":", "True"])
def test_an_unknown_word_in_a_prompt_is_an_error(word: str) -> None:
    with pytest.raises(ValueError, match="does not know every word of '"):
        BOOLEAN_INSTRUCTION.build(None, word_tokenizer(without=word), seed=0)


def test_prompts_of_unequal_lengths_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def longer_after_a_bracket(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> object:
        return encode(tokenizer, [text.replace("(True", "(True not") for text in texts])

    monkeypatch.setattr("tasks.shared.questions.encode", longer_after_a_bracket)
    with pytest.raises(
        ValueError, match=r"' has \d+ tokens and its corrupted twin '.*' \d+; expec"
    ):
        BOOLEAN_INSTRUCTION.build(None, word_tokenizer(), seed=0)


def test_more_prompts_than_there_are_is_an_error_with_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"9,000 validation prompts asked for, but .* has 8,\d{3}"):
        BOOLEAN_INSTRUCTION.build(None, word_tokenizer(), seed=0, sizes=Sizes(validation=9_000))
    with pytest.raises(ValueError, match="expected at least 1 of each kind"):
        BOOLEAN_INSTRUCTION.build(None, word_tokenizer(), seed=0, sizes=Sizes(test=0))
