"""Scores that the field's own code gives on two tiny random models.

Their matrices are [writer, reader], with one joint writer for the embeddings. The files say where
each comes from in their metadata. All are in float64, as is the run here; Hugging Face computes the
norms and rotary angles of a Llama in float32 all the same.
"""

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from edgewise.attribution import Attribution
from edgewise.graph import Ablation
from edgewise.prompts import PromptPairs
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer
from methods.ceap import CEAP
from methods.clean_corrupted import CleanCorrupted
from methods.eap import EAP
from methods.eap_ig import EAPIG
from methods.eap_ig_activations import EAPIGActivations
from methods.exact import Exact
from methods.gim import GIM
from methods.information_flow_routes import InformationFlowRoutes
from methods.relp import RelP
from tests.methods import toys
from tests.methods.test_eap import loss
from tests.models import TINY_GPT2, TINY_LLAMA, tiny_pairs

METHODS: dict[str, Attribution] = {
    "eap": EAP(),
    "eap_ig_inputs_left_5": EAPIG(),
    "eap_ig_inputs_right_5": EAPIG(rule="right"),
    "eap_ig_activations_5": EAPIGActivations(),
    "clean_corrupted": CleanCorrupted(),
    "ceap_5": CEAP(steps=5),
    "gim": GIM(),
    "gim_without_gate_rule": GIM(gate_rule=False),
    "relp": RelP(),
    "relp_ah": RelP(attention="detached"),
    "relp_at_corrupted": RelP(gradients_of="corrupted"),
    "information_flow_routes": InformationFlowRoutes(),
    "eap_zero": EAP(),
    "eap_mean_positional_corrupted": EAP(),
    "exact": Exact(),
}
"""By the key of their scores in the files."""
ABLATIONS: dict[str, Ablation] = {"eap_zero": "zero", "eap_mean_positional_corrupted": "mean"}
OWN = {
    # Whose writers there are the token embedding alone, and heads without the output bias.
    ("tiny-gpt2", "eap_zero"): "eap_zero_joint_writers_own",
    ("tiny-gpt2", "information_flow_routes"): "information_flow_routes_joint_writers_own",
    # In one pass of the library, the first layer of a rotary model gets no gradient.
    ("tiny-llama", "eap_ig_activations_5"): "eap_ig_activations_5_own",
}
"""Keys with the formula's own numbers, where the library's conventions or code differ."""
NOT_HERE = {
    "real_edge_mask",
    "clean_logit_diff",
    "corrupted_logit_diff",
    "eap_ig_activations_5_library",
    "eap_mean_positional_clean",  # Means are taken over corrupted prompts here.
}


def stored(folder: Path) -> dict[str, Tensor]:
    scores = load_file(folder / "attribution_reference.safetensors")
    if "exact" not in scores:
        scores["exact"] = load_file(folder / "eap_ig_reference.safetensors")["exact"]
    return scores


CASES = [
    (folder, name)
    for folder in (TINY_GPT2, TINY_LLAMA)
    for name in METHODS
    if (OWN.get((folder.name, name), name)) in stored(folder)
]


@pytest.fixture(scope="module")
def models() -> dict[str, MaskedTransformer]:
    return {
        folder.name: MaskedTransformer.from_pretrained(
            folder, embeddings="joint", dtype=torch.float64
        )
        for folder in (TINY_GPT2, TINY_LLAMA)
    }


def task(pairs: PromptPairs, ablation: Ablation) -> Task:
    return dataclasses.replace(toys.task(pairs, ablation=ablation), attribution_loss=loss)


@pytest.mark.parametrize("folder, name", CASES, ids=lambda value: getattr(value, "name", value))
def test_scores_are_those_of_the_fields_own_code(
    folder: Path, name: str, models: dict[str, MaskedTransformer]
) -> None:
    expected = stored(folder)[OWN.get((folder.name, name), name)].T.float()
    given = task(tiny_pairs(folder), ABLATIONS.get(name, "interchange"))
    model = models[folder.name]
    found = METHODS[name].discover(model, given, generator=torch.Generator()).extra["signed"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("folder", [TINY_GPT2, TINY_LLAMA], ids=lambda folder: folder.name)
def test_every_stored_score_is_compared(folder: Path) -> None:
    compared = {OWN.get((folder.name, name), name) for name in METHODS}
    replaced = {name for model, name in OWN if model == folder.name}
    assert set(stored(folder)) - compared - replaced - NOT_HERE == set()
