"""Methods that find circuits: one file each, one line here."""

from collections.abc import Mapping, Sequence
from typing import Any

from edgewise.method import Method
from edgewise.wrapper import InnerMethod, Wrapper
from methods.acdc import ACDC
from methods.acdc_ranking import ACDCRanking
from methods.activation_difference import ActivationDifference
from methods.atp import AtP
from methods.bootstrap import Bootstrap
from methods.ceap import CEAP
from methods.clean_corrupted import CleanCorrupted
from methods.eap import EAP
from methods.eap_ig import EAPIG
from methods.eap_ig_activations import EAPIGActivations
from methods.edge_pruning import EdgePruning
from methods.edge_pruning_curve import EdgePruningCurve
from methods.ensemble import Ensemble
from methods.exact import Exact
from methods.gim import GIM
from methods.hisp import HISP
from methods.information_flow_routes import InformationFlowRoutes
from methods.mask_ig import MaskIG
from methods.matryoshka import Matryoshka
from methods.node_pruning import NodePruning
from methods.noising_and_denoising import NoisingAndDenoising
from methods.random import Random
from methods.relp import RelP
from methods.subnetwork_probing import SubnetworkProbing
from methods.ugs import UGS
from methods.warm_start import WarmStart

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
    ACDCRanking,
    EdgePruning,
    EdgePruningCurve,
    WarmStart,
    Matryoshka,
    UGS,
    NodePruning,
    SubnetworkProbing,
    Ensemble,
    Bootstrap,
    NoisingAndDenoising,
)
METHODS: dict[str, type[Method]] = {method.name: method for method in _METHODS}
"""By name, in the order of tables and figures."""


def build(name: str, settings: Mapping[str, Any], inner: Sequence[InnerMethod] = ()) -> Method:
    """The method of this name with these settings; a wrapper with its inner methods."""
    method = METHODS[name](**settings)
    if isinstance(method, Wrapper):
        return method.around([build(one.method, one.settings) for one in inner])
    return method
