"""Train the bundled model: `python -m tasks.models.bundled.train`, minutes on two cores.

A GPT-2 of four layers of eight heads learns next-token prediction on `corpus.texts`. Weights are
stored in half precision beside a word-level tokenizer, as files that
`AutoModelForCausalLM.from_pretrained(folder)` reads. `accuracy.json` says how well the stored
weights answer questions that were held out of training.
"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import click
import torch
from jaxtyping import Int
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    get_cosine_schedule_with_warmup,
)

from edgewise.pretrained import load_model, load_tokenizer
from edgewise.progress import track
from tasks.models.bundled import FOLDER, corpus

LAYERS, HEADS, WIDTH, POSITIONS = 4, 8, 128, 40
DROPOUT = 0.1
STEPS, BATCH, WARM_UP, LEARNING_RATE = 6000, 64, 100, 3e-3
QUESTIONS = 500
"""The number of questions for each sentence that a task tests."""
PIECES = Regex(r" ?[A-Za-z']+| ?\d\d|[^\w\s]")
"""A word or two digits, with the space before them, or a mark."""
END = "<|end|>"


def word_tokenizer(texts: Iterator[str]) -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are the pieces of the texts and all numbers of two digits."""
    split = pre_tokenizers.Split(PIECES, "isolated")
    pieces = {piece for text in texts for piece, _ in split.pre_tokenize_str(text)}
    digits = {f"{space}{number:02}" for number in range(100) for space in ("", " ")}
    tokens = [END, "<|unknown|>", *sorted(pieces | digits)]
    tokenizer = Tokenizer(
        models.WordLevel({token: number for number, token in enumerate(tokens)}, "<|unknown|>")
    )
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<|unknown|>",
        eos_token=END,
        pad_token=END,
        model_max_length=POSITIONS,
    )


def train(tokenizer: PreTrainedTokenizerFast, seed: int) -> GPT2LMHeadModel:
    """The model after `STEPS` batches of fresh texts, each closed by the end token."""
    torch.manual_seed(seed)
    end = tokenizer.get_vocab()[END]
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=POSITIONS,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        resid_pdrop=DROPOUT,
        embd_pdrop=DROPOUT,
        attn_pdrop=DROPOUT,
        bos_token_id=end,
        eos_token_id=end,
    )
    model = GPT2LMHeadModel(config).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.1
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, WARM_UP, STEPS)
    stream = corpus.texts(Random(seed))
    for _ in track(range(STEPS), "training"):
        tokens, labels = _batch(tokenizer, list(islice(stream, BATCH)))
        loss = model(tokens, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return model.eval()


def _batch(
    tokenizer: PreTrainedTokenizerFast, texts: list[str]
) -> tuple[Int[Tensor, "batch position"], Int[Tensor, "batch position"]]:
    """Tokens and labels; the loss counts the end token but no padding."""
    encoded = tokenizer(
        [text + END for text in texts], padding=True, return_tensors="pt", padding_side="right"
    )
    return encoded.input_ids, encoded.input_ids.masked_fill(encoded.attention_mask == 0, -100)


@torch.no_grad()
def examine(
    folder: Path, questions: Iterator[corpus.Question]
) -> dict[str, dict[str, float | int]]:
    """For each sentence, the number of questions, and means over them.

    `accuracy`: how often the likeliest of all tokens is a right word. `chance`: how often a guess
    among the right and wrong words would be. `probability_difference`: the probability of the right
    words minus that of the wrong ones.
    """
    model: Any = load_model(folder)
    tokenizer: Any = load_tokenizer(folder)
    answers: dict[str, list[tuple[float, float, float]]] = {}
    for question in questions:
        logits = model(**tokenizer(question.prompt, return_tensors="pt")).logits[0, -1]
        right, wrong = map(tokenizer.convert_tokens_to_ids, (question.right, question.wrong))
        probabilities = logits.softmax(-1)
        difference = probabilities[right].sum() - probabilities[wrong].sum()
        chance = len(right) / (len(right) + len(wrong))
        answer = (float(logits.argmax() in right), chance, float(difference))
        answers.setdefault(question.sentence, []).append(answer)
    names = ("accuracy", "chance", "probability_difference")
    return {
        sentence: {
            "questions": len(given),
            **dict(zip(names, map(fmean, zip(*given, strict=True)), strict=True)),
        }
        for sentence, given in answers.items()
    }


@click.command()
@click.option("--out", type=Path, default=FOLDER, help="Where the model goes; default: in place.")
@click.option("--seed", default=0)
def main(out: Path, seed: int) -> None:
    """Train the bundled model and measure what it learned."""
    tokenizer = word_tokenizer(islice(corpus.texts(Random(seed + 1)), 50_000))
    model = train(tokenizer, seed)
    model.half().save_pretrained(out)
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(out)
    report = json.dumps(examine(out, corpus.questions(Random(seed + 2), QUESTIONS)), indent=2)
    (out / "accuracy.json").write_text(report + "\n")
    click.echo(report)


if __name__ == "__main__":
    main()
