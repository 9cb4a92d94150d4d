"""The sentences of the arithmetic tasks; each is followed by the result, after a space.

A space precedes every number, so that it is the same token in all places.
"""

ADDITION = (
    "Sum: {first} + {second} =",
    "The sum of {first} and {second} is",
    "It is true that {first} plus {second} equals",
    "Question: What is {first} plus {second}? Answer:",
    "Adding {first} and {second} gives",
    "Tom had {first} apples and picked {second} more. The number of his apples is now",
    "There were {first} birds, and {second} more came. The number of birds is now",
    "With {first} points and then {second} points, the total is",
)
SUBTRACTION = (
    "Difference: {first} - {second} =",
    "The difference between {first} and {second} is",
    "It is true that {first} minus {second} equals",
    "Question: What is {first} minus {second}? Answer:",
    "Starting from {first} and taking away {second} gives",
    "Tom had {first} apples and ate {second} of them. The number of his apples is now",
    "There were {first} birds, and {second} flew away. The number of birds is now",
    "With {first} points, of which {second} were lost, the total is",
)
