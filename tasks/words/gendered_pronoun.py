"""The sentences and words of the gendered-pronoun task: tag questions and common first names.

Sentences end with the pronoun that the model is to predict. The qualities begin with a consonant,
so that "a" stands before each. No name is in both lists.
"""

from tasks.shared.text import words

SENTENCES = (
    "So {name} is a very {quality} singer, isn't {pronoun}",
    "So {name} is our {quality} new teacher, isn't {pronoun}",
    "So {name} is still a {quality} friend to you, isn't {pronoun}",
    "So {name} is at that {quality} house today, isn't {pronoun}",
    "So {name} is such a {quality} cook, isn't {pronoun}",
    "So {name} is reading that {quality} book again, isn't {pronoun}",
    "So {name} is playing in the {quality} park, isn't {pronoun}",
    "So {name} is in a {quality} mood this morning, isn't {pronoun}",
    "So {name} has a {quality} little dog, doesn't {pronoun}",
    "So {name} tells a {quality} story, doesn't {pronoun}",
    "So {name} lives in a {quality} town, doesn't {pronoun}",
    "So {name} makes {quality} cakes, doesn't {pronoun}",
    "So {name} wants a {quality} present, doesn't {pronoun}",
    "So {name} likes this {quality} game, doesn't {pronoun}",
    "So {name} wears a {quality} hat every day, doesn't {pronoun}",
    "So {name} knows a {quality} song, doesn't {pronoun}",
    "So {name} can draw a {quality} horse, can't {pronoun}",
    "So {name} can bake a {quality} pie, can't {pronoun}",
    "So {name} can do a {quality} dance, can't {pronoun}",
    "So {name} can find us a {quality} place to sit, can't {pronoun}",
    "So {name} can write a {quality} letter, can't {pronoun}",
    "So {name} can show us a {quality} trick, can't {pronoun}",
    "So {name} isn't a {quality} runner, is {pronoun}",
    "So {name} isn't a very {quality} driver, is {pronoun}",
    "So {name} isn't in the {quality} garden, is {pronoun}",
    "So {name} isn't having a {quality} day, is {pronoun}",
)
HELD_OUT_SENTENCES = (
    "So {name} is a {quality} swimmer, isn't {pronoun}",
    "So {name} sings in a {quality} voice, doesn't {pronoun}",
    "So {name} can build a {quality} house, can't {pronoun}",
    "So {name} isn't making a {quality} noise, is {pronoun}",
)

QUALITIES = words("big funny good great nice special strange wonderful")
GIRLS = words(
    """
    Alice Alicia Amanda Amber Amelia Amy Andrea Angela Anita Ann Anna Anne Annie April Barbara Beth
    Betty Brenda Carol Caroline Catherine Charlotte Cheryl Christina Christine Cindy Claire Clara
    Cynthia Daisy Dawn Deborah Diana Diane Donna Dorothy Eleanor Elena Elizabeth Ellen Emily Emma
    Erica Erin Esther Eva Eve Fiona Florence Gina Gloria Grace Hannah Heather Heidi Helen Holly
    Isabel Jane Janet Jennifer Jenny Jessica Jill Joan Judith Judy Julia Julie Karen Kate Katherine
    Kathleen Kathy Katie Laura Lauren Leah Lena Linda Lisa Liz Lois Louise Lucy Lydia Maggie
    Margaret Maria Marie Marilyn Martha Mary Megan Melissa Mia Michelle Molly Monica Nancy Naomi
    Natalie Nicole Nina Nora Olivia Pamela Patricia Paula Penny Rachel Rebecca Rita Rosa Rose Ruby
    Ruth Sally Samantha Sandra Sara Sarah Sharon Sheila Sophia Sophie Stella Stephanie Sue Susan
    Sylvia Tara Teresa Tina Valerie Vanessa Vera Veronica Victoria Virginia Wendy
    """
)
BOYS = words(
    """
    Aaron Adam Alan Albert Alfred Allan Andrew Anthony Arnold Arthur Barry Ben Benjamin Bernard Bill
    Bob Brad Brandon Brian Bruce Bryan Carl Charles Charlie Christopher Chuck Craig Dan Daniel Dave
    David Dennis Derek Dick Don Donald Doug Douglas Duncan Earl Ed Eddie Edgar Edward Edwin Eric
    Ernest Ethan Eugene Felix Frank Fred Frederick Gary George Gerald Gilbert Glenn Gordon Graham
    Greg Gregory Harold Harry Harvey Henry Herbert Howard Hugh Ian Isaac Ivan Jack Jacob Jake James
    Jason Jeff Jeffrey Jeremy Jerry Jim Jimmy Joe Joel John Johnny Jon Jonathan Joseph Josh Joshua
    Justin Karl Keith Ken Kenneth Kevin Kyle Larry Lawrence Leo Leonard Lewis Louis Luke Marcus Mark
    Martin Matt Matthew Max Michael Mike Mitchell Nathan Neil Nicholas Nick Norman Oliver Oscar
    Patrick Paul Pete Peter Phil Philip Phillip Ralph Raymond Richard Rick Robert Rodney Roger Ron
    Ronald Roy Russell Ryan Samuel Scott Sean Sebastian Simon Stan Stanley Stephen Steve Steven
    Stuart Ted Theodore Thomas Tim Timothy Todd Tom Tommy Tony Travis Victor Vincent Walter Warren
    Wayne William
    """
)
