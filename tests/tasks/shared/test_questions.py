"""Prompts from whole texts with tokenizers that treat some words otherwise."""

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast as FastTokenizer

from tasks.shared.questions import Question, asked, one_token


def test_answers_of_which_one_follows_a_space_of_its_own_are_an_error() -> None:
    """The prompts of the two answers would not be the same tokens."""
    known = {word: k for k, word in enumerate(["?", "a", " ", " 1", "2", "3"])}
    tokenizer = Tokenizer(models.WordLevel(known, "?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(  # pyright: ignore[reportAttributeAccessIssue]
        Regex(r" 1| |\d|a"), "isolated"
    )
    made = FastTokenizer(tokenizer_object=tokenizer, unk_token="?", name_or_path="some/model")
    assert list(one_token(made, ["1", "2", "3"], "numbers", needed=3)) == ["1", "2", "3"]
    assert asked(made, [Question("a 2", "a 3", "2", "3")]).clean.tolist() == [[1, 2, 4, 2]]
    with pytest.raises(ValueError, match="some/model: '2' and '1' do not follow the same tokens"):
        asked(made, [Question("a 2", "a 3", "2", "1")])
