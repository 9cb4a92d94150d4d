"""The text and words of the docstring task; every word is one token for GPT-2.

A space precedes every name of an argument, so that it is the same token in all places.
"""

from tasks.shared.text import words

PROMPT = '''def {function}(self, {arguments}):
    """This will {verb} the {thing}

    :param {first}: the {first_meaning}
    :param {second}: the {second_meaning}
    :param'''
"""Of six arguments, `first` and `second` are the third and the fourth; the fifth is the answer."""

FUNCTIONS = words(
    "build check draw find join load make open play read run save send sort start write"
)
VERBS = words("change clear close count create move remove show")
THINGS = words("answer box door game letter map page picture plan story")
ARGUMENTS = words(
    """
    age area base body card code color cost data date depth error event field file form height
    image input key label length level limit mask mode name node order path power range rate root
    score shape size source space task
    """
)
MEANINGS = words(
    """
    air apple band boat bread bridge chair church cloud coat corn dance farm fire fish flower food
    forest glass gold grass hill horse hotel ice island king lake leaf milk moon mountain music
    ocean paint queen rain river road room school sea ship shop sky snow song summer sun tea town
    tree wall water wind winter wood
    """
)
