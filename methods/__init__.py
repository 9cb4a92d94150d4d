"""Methods that find circuits: one file each, one line here. Others come from a user's own code."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from inspect import isabstract
from typing import Any, get_args

from edgewise.method import Family, Method
from edgewise.own_code import Source, from_file, from_package, is_reference, offered_names
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
GROUP = "edgewise.methods"
"""The entry points by which installed packages offer methods."""
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_LONGEST_NAME = 40


def find_method(name: str) -> tuple[type[Method], Source | None]:
    """The method of this name, and where it comes from if it is not one of these here.

    `FILE.py:NAME` is a class in a file, as it is now; other names may be those that installed
    packages offer. Raises KeyError where there is none, ValueError for what is no method, and
    OwnCodeError for an error in the file or the package.
    """
    if name in METHODS:
        return METHODS[name], None
    found = from_file(name) if is_reference(name) else from_package(GROUP, name)
    if found is None:
        raise KeyError(name)
    kind, source = found
    if problem := _problem(kind):
        raise ValueError(f"{name}: {problem}")
    if not is_reference(name) and kind.name != name:
        raise ValueError(f"{name}: the method's name is {kind.name!r}; expected {name!r}")
    return kind, source


def known_methods() -> list[str]:
    """The names of the methods here and of those that installed packages offer."""
    return [*METHODS, *offered_names(GROUP)]


def _problem(kind: Any) -> str:
    """What keeps an object from being used as a method; empty where nothing does."""
    if not isinstance(kind, type) or not issubclass(kind, Method):
        return f"{kind!r} is no method; expected a class derived from edgewise.Method"
    if "__dataclass_fields__" not in vars(kind):
        return "the class is no dataclass; expected @dataclass(frozen=True) above it"
    if isabstract(kind):
        missing = ", ".join(sorted(kind.__abstractmethods__))
        return f"the class lacks {missing}"
    name, label, family = (getattr(kind, of, None) for of in ("name", "label", "family"))
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        return (
            f"the method's name is {name!r}; expected small letters, digits and hyphens, "
            f"at most {_LONGEST_NAME}"
        )
    if name in METHODS:
        return f"the method's name is {name!r}, which is taken; expected another"
    if not isinstance(label, str) or not label:
        return f"the method's label is {label!r}; expected text"
    if family not in get_args(Family):
        return f"the method's family is {family!r}; expected one of {', '.join(get_args(Family))}"
    for field in fields(kind):
        if callable(field.default_factory) or isinstance(field.default, list | tuple | dict | set):
            return f"the setting {field.name} is no plain value; expected a number, text or bool"
    return ""


def build(name: str, settings: Mapping[str, Any], inner: Sequence[InnerMethod] = ()) -> Method:
    """The method of this name with these settings; a wrapper with its inner methods.

    Raises ValueError if the file of one of these has changed.
    """
    method = find_method(name)[0](**settings)
    if isinstance(method, Wrapper):
        return method.around([_build_inner(one) for one in inner])
    return method


def _build_inner(one: InnerMethod) -> Method:
    reference = one.reference or one.method
    kind, source = find_method(reference)
    if source is not None and source.digest != one.code:
        raise ValueError(f"the file of {reference} has changed since the run began")
    return kind(**one.settings)
