"""What a circuit of a transformer is, and how good it is."""

from edgewise.attribution import Attribution
from edgewise.circuit import Circuit, EdgeScores
from edgewise.evaluate import evaluate_circuit
from edgewise.graph import Graph
from edgewise.method import Method
from edgewise.prompts import PromptPairs
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer

__all__ = [
    "Attribution",
    "Circuit",
    "EdgeScores",
    "Graph",
    "MaskedTransformer",
    "Method",
    "PromptPairs",
    "Task",
    "evaluate_circuit",
]
