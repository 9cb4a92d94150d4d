"""The bundled model solves the tasks on prompts that its training texts do not contain."""

import json
from itertools import islice
from random import Random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from edgewise.task import Sizes
from edgewise.transformer import MaskedTransformer
from tasks import TASKS
from tasks.models.bundled import FOLDER, corpus
from tasks.models.bundled.train import examine

QUESTIONS = list(corpus.questions(Random(5), 40))


@pytest.fixture(scope="module")
def model() -> MaskedTransformer:
    return MaskedTransformer.from_pretrained(FOLDER)


def test_it_is_small_and_plain_transformers_load_it() -> None:
    weights = FOLDER / "model.safetensors"
    assert weights.stat().st_size <= 2 * 2**20
    loaded = AutoModelForCausalLM.from_pretrained(FOLDER)
    assert loaded.dtype == torch.float16
    assert len(AutoTokenizer.from_pretrained(FOLDER)) == loaded.config.vocab_size


def test_its_stored_accuracy_is_what_the_tasks_need() -> None:
    stored = json.loads((FOLDER / "accuracy.json").read_text(encoding="utf-8"))
    assert set(stored) == {question.sentence for question in QUESTIONS}
    assert min(group["accuracy"] for group in stored.values()) >= 0.98
    spans = [stored[sentence]["probability_difference"] for sentence in corpus.SPANS]
    assert min(spans) >= 0.9


@pytest.mark.slow
def test_it_answers_other_questions_than_those_as_well() -> None:
    for sentence, group in examine(FOLDER, iter(QUESTIONS)).items():
        assert group["accuracy"] >= 0.95, sentence


@pytest.mark.parametrize("name", ["ioi", "ioi-t1", "greater-than", "gendered-pronoun"])
def test_it_solves_the_task(name: str, model: MaskedTransformer) -> None:
    task = TASKS[name].build(
        model, AutoTokenizer.from_pretrained(FOLDER), seed=0, sizes=Sizes(10, 10, 200)
    )
    logits = model(task.test.clean, targets=task.test.targets)
    values = {key: metric(logits, logits, task.test).mean() for key, metric in task.metrics.items()}
    if "accuracy" in values:
        assert values["accuracy"] >= 0.98
    else:
        assert values["probability_difference"] >= 0.9


@pytest.mark.slow
def test_no_text_contains_a_question_s_prompt() -> None:
    texts = list(islice(corpus.texts(Random(6)), 20_000))
    openings = {text[: len(question.prompt)] for question in QUESTIONS for text in texts}
    assert not openings & {question.prompt for question in QUESTIONS}
    assert not [text for text in texts for opening in corpus.OPENINGS if opening in text]


def test_every_word_of_questions_and_texts_is_known() -> None:
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    texts = [question.prompt for question in QUESTIONS] + list(islice(corpus.texts(Random(7)), 500))
    for text, tokens in zip(texts, tokenizer(texts).input_ids, strict=True):
        assert tokenizer.unk_token_id not in tokens, text
        assert tokenizer.decode(tokens) == text
