"""Methods that find circuits: one file each, one line here."""

from edgewise.method import Method
from methods.acdc import ACDC
from methods.activation_difference import ActivationDifference
from methods.atp import AtP
from methods.ceap import CEAP
from methods.clean_corrupted import CleanCorrupted
from methods.eap import EAP
from methods.eap_ig import EAPIG
from methods.eap_ig_activations import EAPIGActivations
from methods.edge_pruning import EdgePruning
from methods.exact import Exact
from methods.gim import GIM
from methods.hisp import HISP
from methods.information_flow_routes import InformationFlowRoutes
from methods.mask_ig import MaskIG
from methods.matryoshka import Matryoshka
from methods.node_pruning import NodePruning
from methods.random import Random
from methods.relp import RelP
from methods.subnetwork_probing import SubnetworkProbing
from methods.ugs import UGS

_METHODS: tuple[type[Method], ...] = (
    Random,
    ActivationDifference,
    EAP,
    EAPIG,
    EAPIGActivations,
    CleanCorrupted,
    CEAP,
    MaskIG,
    GIM,
    RelP,
    AtP,
    InformationFlowRoutes,
    HISP,
    Exact,
    ACDC,
    EdgePruning,
    Matryoshka,
    UGS,
    NodePruning,
    SubnetworkProbing,
)
METHODS: dict[str, type[Method]] = {method.name: method for method in _METHODS}
"""By name, in the order of tables and figures."""
