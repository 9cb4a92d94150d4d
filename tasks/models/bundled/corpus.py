"""The training texts of the bundled model: short texts, drawn at random.

Most texts are sentences of the tasks, or are assembled in the same way from more parts than the
tasks use. The others mention the same names, things and years without posing a task. Held out, to
test the model on, are the tasks' test sentences with their beginnings and, for every other
sentence, one in `ONE_IN` combinations of its names, of noun and year, or of name and quality.
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from operator import attrgetter
from random import Random
from typing import NamedTuple
from zlib import crc32

from tasks.ioi import ORDERS
from tasks.words.gendered_pronoun import BOYS, GIRLS, QUALITIES
from tasks.words.gendered_pronoun import HELD_OUT_SENTENCES as HELD_OUT_TAGS
from tasks.words.gendered_pronoun import SENTENCES as TAGS
from tasks.words.greater_than import NOUNS
from tasks.words.greater_than import SENTENCES as SPANS
from tasks.words.ioi import HELD_OUT_SENTENCES, NAMES, OBJECTS, PLACES, SENTENCES

ONE_IN = 8
CENTURIES = range(10, 22)
PRONOUN = {**dict.fromkeys(GIRLS, "she"), **dict.fromkeys(BOYS, "he")}

SETTINGS = (
    *("At the {place}", "Near the {place}", "By the {place}", "Next to the {place}"),
    *("On the way to the {place}", "Behind the {place}", "After the rain", "On a cold day"),
    *("One day", "Last night", "Every day", "Today", "Soon", "Once", "Then", "In the morning"),
)
SCENES = (
    *("{name} and {name} played together", "{name} met {name}", "{name} and {name} ate and sang"),
    *("{name} and {name} hugged", "{name} and {name} shared a {object}", "{name} saw {name}"),
    *("{name} and {name} had a {object}", "{name} and {name} found a {object}"),
    *("{name} walked to the {place} with {name}", "{name} and {name} lived near a {place}"),
    *("{name} and {name} picked up a {object}", "{name} sat down with {name}"),
    *("{name} and {name} met at the {place}", "it was quiet when {name} met {name}"),
)
GIFTS = (
    *("{name} gave a {object} to {name}", "{name} gave the {object} to {name}"),
    *("{name} gave it to {name}", "{name} gave the {object} back to {name}"),
    *("{name} handed a {object} to {name}", "{name} handed the {object} to {name}"),
    *("{name} threw the {object} to {name}", "{name} showed a {object} to {name}"),
    *("{name} passed the {object} to {name}", "{name} wanted to give a {object} to {name}"),
    *("{name} brought the {object} to {name}", "{name} left a {object} for {name}"),
)
TALES = (
    "{one} had a {object}. {one} put the {object} near the {place}.",
    "{one} and {two} went to the {place}. {one} was happy, and {two} was happy too.",
    "{one} lost the {object}, so {two} looked for it at the {place}.",
    "The {place} was quiet. {one} sat down and looked at the {object}.",
    "{one} asked {two} for the {object}, but {two} had left it at the {place}.",
    "{one}, {two} and {three} went to the {place}. {three} found a {object}.",
    "{one} gave a {object} to a friend at the {place}.",
    "One day, {one} met a friend. They left the {place} together.",
)
PRONOUNS = (
    "{name} said that {pronoun} was at the {place}.",
    "{name} lost a {object}, and {pronoun} looked for it.",
    "When {name} came to the {place}, {pronoun} was happy.",
    "{name} has a {quality} {object}, and {pronoun} is happy.",
    "{name} sat down. Then {pronoun} ate and sang.",
    "{name} sings, and {pronoun} has a {quality} voice.",
    "{name} heard a {quality} noise when {pronoun} was at the {place}.",
    "{name} wants to build a house, so {pronoun} is making a {quality} start.",
    "{name} met a {quality} swimmer before {pronoun} left the {place}.",
)
YEARS = (
    "In the year {year} the {noun} began.",
    "The {noun} of {year} was long, and it ended in {later}.",
    "It was the year {year} when they heard of the {noun}.",
    "The {noun} began in {year} and was over in {later}.",
)
OPENINGS = {sentence.partition(".")[0] for sentence in HELD_OUT_SENTENCES}


class Question(NamedTuple):
    """A prompt, with its right and wrong next words; a `held_out` one is in no training text."""

    sentence: str
    prompt: str
    right: Sequence[str]
    wrong: Sequence[str]
    held_out: bool


def texts(random: Random) -> Iterator[str]:
    """An endless stream of training texts."""
    kinds = (_any_gift, _any_span, _any_tag, _tale, _year, _pronoun)
    while True:
        (kind,) = random.choices(kinds, weights=(35, 30, 20, 6, 3, 6))
        drawn = kind(random)
        if isinstance(drawn, str):
            yield drawn
        elif not drawn.held_out:
            yield f"{drawn.prompt}{random.choice(drawn.right)}{'?' if kind is _any_tag else '.'}"


def questions(random: Random, number: int) -> Iterator[Question]:
    """`number` questions for every sentence that a task tests; no text contains their prompts."""
    gifts = [(sentence, order) for sentence in HELD_OUT_SENTENCES for order in ORDERS]
    draws = [partial(_gift, random, *gift) for gift in (*gifts, (SENTENCES[0], "ABBA"))]
    draws += [partial(_span, random, sentence) for sentence in SPANS]
    draws += [partial(_tag, random, sentence) for sentence in HELD_OUT_TAGS]
    for draw in draws:
        yield from islice(filter(attrgetter("held_out"), iter(draw, None)), number)


def _gift(random: Random, sentence: str, order: str) -> Question:
    """The indirect object is right, the subject wrong."""
    names = random.sample(NAMES, 2)
    places = iter([names[who] for who in ORDERS[order]])
    text = re.sub("{name}", lambda _: next(places), sentence)
    prompt = _filled(random, text).removesuffix(f" {names[0]}")
    held_out = sentence in HELD_OUT_SENTENCES or _held_out(sentence, *names)
    right, wrong = ([f" {name}"] for name in names)
    return Question(f"{order} {sentence}", prompt, right, wrong, held_out)


def _any_gift(random: Random) -> Question:
    order = random.choice(tuple(ORDERS))
    if random.random() < 0.3:
        return _gift(random, random.choice(SENTENCES), order)
    opening = f"{random.choice(SETTINGS)}, {random.choice(SCENES)}"
    if opening in OPENINGS:
        return _any_gift(random)
    return _gift(random, f"{opening}. {random.choice(GIFTS)}", order)


def _span(random: Random, sentence: str) -> Question:
    """The later years of the century are right, the earlier ones wrong."""
    century, year, noun = random.choice(CENTURIES), random.randrange(1, 99), random.choice(NOUNS)
    prompt = sentence.format(noun=noun, year=f"{century}{year:02}", century=century)
    earlier, later = range(year), range(year + 1, 100)
    right, wrong = ([f"{number:02}" for number in numbers] for numbers in (later, earlier))
    return Question(sentence, prompt, right, wrong, _held_out(noun, str(year)))


def _any_span(random: Random) -> Question:
    return _span(random, random.choice(SPANS))


def _tag(random: Random, sentence: str) -> Question:
    """The pronoun of the name's gender is right."""
    name, quality = random.choice(tuple(PRONOUN)), random.choice(QUALITIES)
    prompt = sentence.removesuffix(" {pronoun}").format(name=name, quality=quality)
    right = PRONOUN[name]
    wrong = {"he": "she", "she": "he"}[right]
    held_out = sentence in HELD_OUT_TAGS or _held_out(sentence, name, quality)
    return Question(sentence, prompt, [f" {right}"], [f" {wrong}"], held_out)


def _any_tag(random: Random) -> Question:
    return _tag(random, random.choice(TAGS))


def _tale(random: Random) -> str:
    one, two, three = random.sample(NAMES, 3)
    return _filled(random, random.choice(TALES), one=one, two=two, three=three)


def _pronoun(random: Random) -> str:
    name = random.choice(tuple(PRONOUN))
    return _filled(random, random.choice(PRONOUNS), name=name, pronoun=PRONOUN[name])


def _year(random: Random) -> str:
    year = random.randrange(100 * CENTURIES[0], 100 * CENTURIES[-1] + 99)
    later = random.randrange(year + 1, 100 * CENTURIES[-1] + 100)
    noun = random.choice(NOUNS)
    return random.choice(YEARS).format(noun=noun, year=year, later=later)


def _filled(random: Random, text: str, **words: str) -> str:
    drawn = {"place": PLACES, "object": OBJECTS, "quality": QUALITIES}
    return text.format(**{slot: random.choice(known) for slot, known in drawn.items()}, **words)


def _held_out(*parts: str) -> bool:
    return crc32("|".join(parts).encode()) % ONE_IN == 0
