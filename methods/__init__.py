"""Methods that find circuits: one file each, one line here."""

from edgewise.method import Method
from methods.acdc import ACDC
from methods.eap import EAP
from methods.edge_pruning import EdgePruning
from methods.random import Random

_METHODS: tuple[type[Method], ...] = (
    Random,
    EAP,
    ACDC,
    EdgePruning,
)
METHODS: dict[str, type[Method]] = {method.name: method for method in _METHODS}
"""By name, in the order of tables and figures."""
