"""What the README says holds: its table of methods is current, and its examples run."""

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from benchmarks.catalogue import method_table
from edgewise import EdgeScores, MaskedTransformer
from tests.methods import toys

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.+?)```", README, re.DOTALL)


def run(example: str, **names: Any) -> dict[str, Any]:
    """The example's names, run as a module of its own: a dataclass looks its module up."""
    module = ModuleType("example")
    sys.modules["example"] = module
    vars(module).update(names)
    exec(compile(example, "README.md", "exec"), vars(module))
    return vars(module)


def test_the_table_of_methods_is_what_their_docstrings_say() -> None:
    table = re.search(r"<!-- methods:begin -->\n(.+?)\n<!-- methods:end -->", README, re.DOTALL)
    assert table is not None
    assert table[1] == method_table(), "paste what `edgewise list --markdown` prints"


def test_the_example_of_a_masked_pass_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = (text for text in EXAMPLES if "from_pretrained" in text)
    model = toys.gpt2(torch.float32)
    monkeypatch.setattr(MaskedTransformer, "from_pretrained", lambda name: model)
    pairs, mask = toys.random_pairs(), torch.ones(model.graph.legal.shape)
    names = run(example, clean_tokens=pairs.clean, corrupted_tokens=pairs.corrupted, mask=mask)
    torch.testing.assert_close(names["logits"], model(pairs.clean))


def test_the_example_of_a_method_gives_circuits_that_are_alive() -> None:
    (example,) = (text for text in EXAMPLES if "class Change" in text)
    model, task = toys.gpt2(torch.float32), toys.task()
    scores = run(example)["Change"]().discover(model, task, generator=torch.Generator())
    assert isinstance(scores, EdgeScores)
    circuit = scores.circuit(7)
    assert 0 < circuit.n_edges <= 7
    assert circuit.live_sparsity("interchange") == circuit.sparsity
