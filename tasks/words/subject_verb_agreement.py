"""The phrases and words of subject-verb agreement; every noun and verb is one token for GPT-2.

A phrase ends before its verb. Nouns are people, each "singular/plural"; no noun is in both
lists. Verbs are "singular/plural" too.
"""

from tasks.shared.text import words

SIMPLE = (
    "The {filler} {noun}",
    "Today the {filler} {noun}",
    "Every day the {filler} {noun}",
    "In the morning the {filler} {noun}",
    "We know that the {filler} {noun}",
    "I think that the {filler} {noun}",
    "My friend says that the {filler} {noun}",
    "This year the {filler} {noun}",
)
"""`{filler}` is an adjective."""
HELD_OUT_SIMPLE = (
    "Of course the {filler} {noun}",
    "She hopes that the {filler} {noun}",
)

ATTRACTED = (
    "The {noun} near the {filler}",
    "The {noun} behind the {filler}",
    "The {noun} next to the {filler}",
    "The {noun} that the {filler} saw",
    "The {noun} that the {filler} liked",
    "The {noun} who met the {filler}",
    "Today the {noun} with the {filler}",
    "We know that the {noun} near the {filler}",
)
"""`{filler}` is a noun of either number: the attractor between a subject and its verb."""
HELD_OUT_ATTRACTED = (
    "The {noun} in front of the {filler}",
    "The {noun} that the {filler} helped",
)

ADJECTIVES = words(
    """
    big brave clever fat friendly good happy kind little lucky new nice old poor proud quiet
    rich sad short silly small strong tall tired wise young
    """
)
NOUNS = words(
    """
    actor/actors artist/artists baby/babies boy/boys brother/brothers captain/captains
    child/children cook/cooks cousin/cousins dancer/dancers doctor/doctors driver/drivers
    farmer/farmers father/fathers friend/friends girl/girls hunter/hunters king/kings
    lawyer/lawyers man/men mother/mothers neighbor/neighbors nurse/nurses parent/parents
    pilot/pilots player/players prince/princes queen/queens sailor/sailors singer/singers
    sister/sisters son/sons student/students teacher/teachers visitor/visitors woman/women
    worker/workers writer/writers
    """
)
ATTRACTORS = words(
    """
    boss/bosses chief/chiefs dad/dads daughter/daughters dog/dogs guard/guards guest/guests
    judge/judges kid/kids leader/leaders officer/officers priest/priests runner/runners
    scientist/scientists soldier/soldiers
    """
)
VERBS = words(
    """
    is/are has/have was/were does/do goes/go says/say knows/know likes/like wants/want
    looks/look comes/come runs/run makes/make takes/take gives/give plays/play seems/seem
    needs/need loves/love lives/live works/work thinks/think feels/feel gets/get
    """
)
