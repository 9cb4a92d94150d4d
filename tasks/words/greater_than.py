"""The sentences and nouns of the greater-than tasks; the nouns name things that last for years.

Every noun is one token for GPT-2. `{year}` is a year of four digits, `{century}` its first two.
"""

from tasks.shared.text import words

SENTENCES = (
    "The {noun} went on from the year {year} to the year {century}",
    "The {noun} began in the year {year} and ended in the year {century}",
    "The {noun} continued from {year} until {century}",
    "The {noun} started in {year} and was over in {century}",
    "The {noun} ran between {year} and {century}",
    "In the year {year} the {noun} began, and it ended in the year {century}",
)

NOUNS = words(
    """
    administration adventure affair alliance argument attack ban battle blockade boom boycott
    business campaign captivity case celebration ceremony championship chase clash collaboration
    colony competition conflict conspiracy construction contest contract correspondence course
    crisis crusade debate decline depression dictatorship dispute drama drought duel dynasty
    education election embargo empire employment engagement enterprise epidemic era evacuation
    exhibition exile exodus expansion expedition experiment famine fashion festival feud flood
    friendship government hunt illness imprisonment inquiry insurgency invasion investigation
    journey kingdom lawsuit lease marriage massacre migration mission monopoly movement negotiation
    occupation operation partnership peace persecution pilgrimage plague presidency program project
    protest quest raid rebellion recession reform reign renovation republic resistance restoration
    revolt revolution rivalry romance search shortage siege slavery strike struggle study tournament
    treaty trial truce voyage war
    """
)
