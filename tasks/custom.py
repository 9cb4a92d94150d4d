"""Your own prompts, from a file: one JSON object per line, with the answers tagged.

    {"clean": "Tom met Amy. Amy thanked <predict>Tom</predict>",
     "corrupted": "Tim met Ann. Ann thanked <predict>Tim</predict>", "split": "train"}

The tag is that of Edge Pruning's code (Bhaskar et al., 2024). The model predicts the first token of
the tagged text from everything before it. A space before a tag belongs to the tagged text. Text
after the last tag is cut off. To score several tokens of an answer, tag each of them. The tags of
`corrupted` give the wrong answers.

All prompts of a file have the same number of tags, usually one. The two prompts of a line have the
same number of tokens before each tag. No clean prompt occurs twice.

`split` is train, validation or test; either all lines have it or none. Without it, lines are
assigned at random: a quarter to validation, a quarter to test, the others to training. Further keys
are ignored.

A line may also be a row of MIB's data sets (Mueller et al., 2025). These include ARC, for which
there is no task here. This code writes a file of such rows, with the package datasets:

    import json
    from datasets import load_dataset
    with open("arc-easy.jsonl", "w") as file:
        for split, rows in load_dataset("mib-bench/arc_easy").items():
            file.writelines(json.dumps({**row, "split": split}) + "\\n" for row in rows)

Such a row has a `prompt`, its answer, and the counterfactual that MIB's circuit track uses, which
has a prompt and an answer of its own. In `copycolors_mcqa`, `arc_easy` and `arc_challenge` the
counterfactual is `symbol_counterfactual`; the answer is in `choices`, with `label`, and `answerKey`
is the place of the right one. In `ioi` it is `s2_io_flip_counterfactual`; the answers are in
`metadata`, as `indirect_object` and `subject`. In `arithmetic_addition` and
`arithmetic_subtraction` it is `random_counterfactual`; the answer is `label`. Answers follow a
space, whereas MIB uses a letter's token without one. As in MIB, rows whose two prompts differ in
length with this tokenizer are left out; a record says how many prompts remained.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import Generator

from edgewise.progress import track
from edgewise.task import Sizes, Task
from edgewise.transformer import MaskedTransformer
from tasks.shared.builder import OnAnyModel
from tasks.shared.next_token import Example, next_token_task, stacked
from tasks.shared.published import is_published, with_tags
from tasks.shared.text import encode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PREFIX = "custom:"
SPLITS = ("train", "validation", "test")
OPEN, CLOSE = "<predict>", "</predict>"
_TAGS = re.compile(f"({OPEN}|{CLOSE})")
_AT_ONCE = 1000
"""How many lines are tokenised in one call."""

Span = tuple[str, str]
"""The text before a tag, and the tagged text with the space before it."""
TokenIds = Mapping[str, list[int]]
"""Text -> its token ids."""
T = TypeVar("T")


class UnequalLengths(ValueError):
    """A prompt and its corrupted twin differ in their number of tokens."""


@dataclass(frozen=True)
class Line:
    """The spans of both prompts, as many in each, and the split if the file gives one.

    `published` says whether it is a row of MIB's data.
    """

    clean: tuple[Span, ...]
    corrupted: tuple[Span, ...]
    split: str | None
    published: bool = False


@dataclass(frozen=True, eq=False)
class CustomTask(OnAnyModel):
    """Your own prompts and answers, from a file of JSON lines."""

    path: Path
    content_hash: str
    lines: Mapping[int, Line]
    version: ClassVar[int] = 1

    @classmethod
    def read(cls, path: Path) -> "CustomTask":
        """The task of this file. Raises ValueError with one line of text for each bad line."""
        if not path.is_file():
            raise ValueError(f"no file {str(path)!r}; expected {PREFIX}FILE.jsonl")
        content = path.read_bytes()
        return cls(path, hashlib.sha256(content).hexdigest(), _lines(path, content))

    @property
    def digest(self) -> str:
        return self.content_hash

    @property
    def description(self) -> str:
        return f"Prompts from {self.path.name}"

    @property
    def name(self) -> str:
        return PREFIX + self.path.stem

    def build(
        self,
        model: MaskedTransformer | None,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        seed: int,
        sizes: Sizes | None = None,
    ) -> Task:
        """The lines of each split in random order: all, or as many as are asked for.

        Raises ValueError, which names every line that does not suit this tokenizer, and where a
        split has too few lines.
        """
        examples = self._examples(tokenizer)
        splits = {}
        for kind, lines in self._splits(seed).items():
            numbers = [number for number in lines if number in examples]
            asked = getattr(sizes, kind, None)
            if not 1 <= (1 if asked is None else asked) <= len(numbers):
                raise ValueError(
                    f"{self.path.name}: {len(numbers)} of its {len(self.lines)} lines are {kind} "
                    f"prompts; expected at least {1 if asked is None else max(1, asked)}"
                )
            splits[kind] = stacked([examples[number] for number in numbers[:asked]])
        return next_token_task(self.name, self.version, splits)

    def _examples(self, tokenizer: "PreTrainedTokenizerBase") -> dict[int, Example]:
        numbers = list(self.lines)
        places = {number: place for place, number in enumerate(numbers)}
        unknown = _unknown_token(tokenizer)

        @lru_cache(maxsize=1)
        def encoded(chunk: int) -> TokenIds:
            chosen = numbers[chunk * _AT_ONCE : (chunk + 1) * _AT_ONCE]
            return _encoded(tokenizer, [self.lines[number] for number in chosen])

        def example(number: int) -> Example | None:
            line = self.lines[number]
            try:
                found = _example(encoded(places[number] // _AT_ONCE), line)
            except UnequalLengths:
                if line.published:
                    return None
                raise
            if unknown in (*found.clean, *found.corrupted, *found.answers, *found.distractors):
                raise ValueError(_unknown_words(tokenizer, line))
            return found

        found = _each(self.path, track(numbers, f"{self.path.name}, tokens"), example)
        return {number: example for number, example in found.items() if example is not None}

    def _splits(self, seed: int) -> dict[str, list[int]]:
        order = torch.randperm(len(self.lines), generator=Generator().manual_seed(seed))
        in_file = list(self.lines)
        numbers = [in_file[place] for place in order.tolist()]
        if self.lines[numbers[0]].split is not None:
            return {
                kind: [number for number in numbers if self.lines[number].split == kind]
                for kind in SPLITS
            }
        quarter = len(numbers) // 4
        parts = (numbers[2 * quarter :], numbers[:quarter], numbers[quarter : 2 * quarter])
        return dict(zip(SPLITS, parts, strict=True))


@lru_cache(maxsize=4)
def _lines(path: Path, content: bytes) -> dict[int, Line]:
    """The lines of a file by their numbers; a suite asks for them several times."""
    rows = {number: row for number, row in enumerate(content.split(b"\n"), 1) if row.strip()}
    if not rows:
        raise ValueError(f"{path.name}: no line with prompts")
    numbers: dict[str, int] = {}
    first: list[Line] = []

    def line(number: int) -> Line:
        read = _line(rows[number])
        first.append(read)
        _check_consistent(read, first[0])
        prompt, _ = read.clean[-1]
        earlier = numbers.setdefault(prompt, number)
        if earlier != number:
            raise ValueError(f"clean prompt repeats that of line {earlier}")
        return read

    return _each(path, track(rows, f"{path.name}, lines"), line)


def _each(path: Path, numbers: Iterable[int], read: Callable[[int], T]) -> dict[int, T]:
    """What `read` gives for each line. Raises one ValueError with the errors of all lines."""
    found: dict[int, T] = {}
    problems = []
    for number in numbers:
        try:
            found[number] = read(number)
        except ValueError as error:
            problems.append(f"{path.name}: line {number}: {error}")
    if problems:
        raise ValueError("\n".join(problems))
    return found


def _line(row: bytes) -> Line:
    try:
        fields: Any = json.loads(row)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON (column {error.colno}: {error.msg})") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 ({error.reason} at byte {error.start})") from None
    except RecursionError:
        raise ValueError("not JSON (brackets too deep in one another)") from None
    if not isinstance(fields, dict):
        raise ValueError("no JSON object; expected one with clean and corrupted")
    published = is_published(fields)
    if published:
        fields = with_tags(fields)
    clean, corrupted = _spans(fields, "clean"), _spans(fields, "corrupted")
    if len(clean) != len(corrupted):
        raise ValueError(
            f"clean has {len(clean)} tags and corrupted {len(corrupted)}; expected equally many"
        )
    split = fields.get("split")
    if split not in (None, *SPLITS):
        raise ValueError(f"split is {split!r}; expected one of {', '.join(SPLITS)}")
    return Line(clean, corrupted, split, published)


def _check_consistent(line: Line, first: Line) -> None:
    """Raises ValueError where a line differs in what all lines have to share."""
    if len(line.clean) != len(first.clean):
        raise ValueError(f"{len(line.clean)} tags; expected {len(first.clean)}, as at first")
    if (line.split is None) != (first.split is None):
        raise ValueError(f"split is {line.split}; expected one in every line or in none")


def _spans(fields: Mapping[str, Any], side: str) -> tuple[Span, ...]:
    text = fields.get(side)
    if not isinstance(text, str):
        raise ValueError(f"{side} is {_cut(text)}; expected text with {OPEN}...{CLOSE}")
    if not _is_unicode(text):
        raise ValueError(f"{side} has half of a surrogate pair; expected valid Unicode")
    pieces = _TAGS.split(text)
    texts, tags = pieces[::2], pieces[1::2]
    if not tags or tags != [OPEN, CLOSE] * (len(tags) // 2):
        raise ValueError(f"{side} has no {OPEN}...{CLOSE} around some text, or half of one")
    spans = []
    before = ""
    for between, tagged in zip(texts[:-1:2], texts[1::2], strict=True):
        before += between
        stem = before.removesuffix(" ")
        if not tagged.strip() or (stem != before and tagged.startswith(" ")):
            raise ValueError(
                f"{side} has an empty tag, or spaces both before and just inside a tag"
            )
        spans.append((stem, before[len(stem) :] + tagged))
        before += tagged
    return tuple(spans)


def _cut(value: Any) -> str:
    """A value as an error shows it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _encoded(tokenizer: "PreTrainedTokenizerBase", lines: Iterable[Line]) -> TokenIds:
    """The ids of all texts that `_tokens` asks for."""
    spans = [span for line in lines for span in (*line.clean, *line.corrupted)]
    texts = list(dict.fromkeys(text for stem, tagged in spans for text in (stem, stem + tagged)))
    return dict(zip(texts, encode(tokenizer, texts), strict=True))


def _unknown_token(tokenizer: "PreTrainedTokenizerBase") -> int | None:
    """The id of the unknown token; None if it is also the token of the beginning or the end."""
    unknown: Any = tokenizer.unk_token_id
    return None if unknown in (tokenizer.bos_token_id, tokenizer.eos_token_id) else unknown


def _unknown_words(tokenizer: "PreTrainedTokenizerBase", line: Line) -> str:
    texts = [stem + tagged for side in (line.clean, line.corrupted) for stem, tagged in side[-1:]]
    words = dict.fromkeys(word for text in texts for word in text.split())
    ids = encode(tokenizer, list(words))
    unknown = [w for w, row in zip(words, ids, strict=True) if tokenizer.unk_token_id in row]
    return f"the tokenizer does not know {_cut(', '.join(unknown))}"


def _example(ids: TokenIds, line: Line) -> Example:
    clean, corrupted = (_tokens(ids, spans) for spans in (line.clean, line.corrupted))
    (prompt, targets, answers), (twin, others, distractors) = clean, corrupted
    if targets != others:
        raise UnequalLengths(
            f"the tags of clean follow {_listed(targets)} tokens and those of corrupted "
            f"{_listed(others)}; expected equal numbers"
        )
    if any(answer == distractor for answer, distractor in zip(answers, distractors, strict=True)):
        raise ValueError(
            "the tagged texts of clean and corrupted have the same first token; expected another"
        )
    return Example(prompt, twin, targets, answers, distractors)


def _tokens(ids: TokenIds, spans: Sequence[Span]) -> tuple[list[int], list[int], list[int]]:
    """The prompt up to the last tag, the position before each tag, and each tag's first token."""
    stems = [ids[stem] for stem, _ in spans]
    continued = [ids[stem + tagged] for stem, tagged in spans]
    prompt = stems[-1]
    for stem, whole, (_, tagged) in zip(stems, continued, spans, strict=True):
        if not stem:
            raise ValueError(f"no token before {tagged!r} to predict it from")
        if whole[: len(stem)] != stem or len(whole) == len(stem) or prompt[: len(stem)] != stem:
            raise ValueError(f"the tokenizer joins {tagged!r} with what stands beside it")
    answers = [whole[len(stem)] for stem, whole in zip(stems, continued, strict=True)]
    return prompt, [len(stem) - 1 for stem in stems], answers


def _listed(targets: Iterable[int]) -> str:
    return " and ".join(str(target + 1) for target in targets)
