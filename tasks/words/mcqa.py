"""The words of the multiple-choice tasks; every word is one token for GPT-2."""

from tasks.shared.text import words

QUESTION = "Question: The {noun} is {color}. What color is the {noun}?"
OPTION = "\n{letter}. {color}"
ANSWER = "\nAnswer:"

COLORS = words("black blue brown green orange red white yellow")
NOUNS = words(
    """
    bag ball bike bird boat book boot bottle box bus cap car cat chair coat cup desk dog door dress
    fence fish flag flower hat horse house lamp mug paper pen pencil phone plate ring roof rug
    scarf shirt shoe table toy train truck van wall
    """
)
