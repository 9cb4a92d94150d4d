"""The sentences and words of the IOI tasks, as in children's stories; each word is one token.

Everything here is usable with the tokenizers of GPT-2 and of Llama 2. Sentences end with the name
that the model is to predict. A space precedes every name, so that it is the same token in all four
slots.
"""

from tasks.shared.text import words

SENTENCES = (
    "One day, {name} and {name} met at the {place}. {name} gave a {object} to {name}",
    "At the {place}, {name} and {name} played together. {name} gave a {object} to {name}",
    "Near the {place}, {name} and {name} picked up a {object}. {name} gave it to {name}",
    "Today {name} and {name} had a {object} at the {place}. {name} gave it to {name}",
    "Once, {name} and {name} lived near a {place}. {name} handed a {object} to {name}",
    "Soon {name} and {name} found the {place}. {name} threw the {object} to {name}",
    "After the rain, {name} and {name} played at the {place}. {name} showed a {object} to {name}",
    "Every day, {name} met {name} near the {place}. {name} gave the {object} to {name}",
    "Last night, {name} and {name} walked to the {place}. {name} passed the {object} to {name}",
    "At the {place}, {name} and {name} hugged. {name} gave the {object} back to {name}",
    "The {place} was quiet when {name} met {name}. {name} handed a {object} to {name}",
    "By the {place}, {name} and {name} ate and sang. {name} handed the {object} to {name}",
    "On a cold day, {name} and {name} left the {place}. {name} handed the {object} to {name}",
)
HELD_OUT_SENTENCES = (
    "On the way to the {place}, {name} met {name}. {name} gave a {object} to {name}",
    "Next to the {place}, {name} and {name} shared a {object}. {name} gave it to {name}",
)

NAMES = words(
    """
    Adam Alice Amy Ann Anna Anne Ben Beth Betty Bob Clara Dan Dave Emma Eva Frank George Grace
    Henry Jack James Jane Jeff Jim Joan Joe John Josh Julia Kate Kim Laura Lisa Lucy Luke Maria
    Marie Mark Mary Matt Max Mike Nancy Nick Oscar Paul Peter Rosa Rose Ruby Ruth Ryan Sam Sarah
    Steve Sue Susan Ted Tim Tom
    """
)
PLACES = words("beach castle forest garden hill lake park yard")
OBJECTS = words("ball book cup doll flower pen shell stick")
