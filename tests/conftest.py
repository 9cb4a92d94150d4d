"""What all tests share: checked shapes, fixed seeds, no network, and real models where cached."""

import gc
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Read once, when huggingface_hub or jax is imported, here or in a process that a test starts. jax
# compiles without optimisation, as programs run a few times only; later processes find its work.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "d" / "jax")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
if "PYTEST_XDIST_WORKER" in os.environ:  # every core has its own tests, and the processes of these
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from huggingface_hub import try_to_load_from_cache
from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tests.shapes import check_anew, check_shapes, unchecked_shapes

# Before anything of ours is imported, which the conftest files below do.
_checks = check_shapes(["edgewise", "methods", "tasks"])

# A fuzz test makes the same few inputs in every run, or with --hypothesis-profile=campaign many new
# ones.
set_hypothesis_home_dir(Path(__file__).parents[1] / ".pytest_cache" / "d" / "hypothesis")
_fuzz = settings(deadline=None, database=None, print_blob=True)
settings.register_profile("tests", _fuzz, max_examples=25, derandomize=True)
settings.register_profile("campaign", _fuzz, max_examples=500)
settings.load_profile("tests")


def pytest_configure(config: pytest.Config) -> None:
    """Checked shapes and two threads are for tests: benchmarks have neither. Ctrl-C works."""
    if config.getoption("benchmark_only"):
        sys.meta_path.remove(_checks)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(2)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the most slow tests run first, so that parallel processes finish together."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: slow[item.path], reverse=True)


def pytest_collection_finish() -> None:
    """Garbage collection never looks again at what was imported, some 600,000 objects."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.accelerator.is_available():
        pytest.skip("needs a GPU")


@pytest.fixture(autouse=True)
def _as_if_alone() -> None:
    """Every test begins with the same random numbers, and with no call checked."""
    torch.manual_seed(0)
    check_anew()


@pytest.fixture(autouse=True, scope="session")
def _self_checked_once() -> Iterator[None]:
    """Each kind of model passes its self-check once, not whenever a test wraps it."""
    from edgewise import self_check

    passed: set[tuple[str, ...]] = set()

    def check(model: Any, own: Any) -> None:
        kind = (own.config.to_json_string(), model.graph.convention, str(model.dtype))
        if kind not in passed:
            self_check.check_forward(model, own)
            passed.add(kind)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgewise.transformer.check_forward", check)
        yield


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Shapes are not checked, as outside the tests.

    The product's own errors come to light; and hundreds of steps, whose shapes are those of the
    short runs of other tests, take half the time.
    """
    with unchecked_shapes():
        yield


@pytest.fixture(scope="session")
def stories() -> Path:
    """The folder of a small real Llama with its tokenizer."""
    return _cached("Xenova/llama2.c-stories15M", "model.safetensors")


@pytest.fixture(scope="session")
def gpt2_tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(_cached("openai-community/gpt2", "tokenizer.json"))


def _cached(model: str, needed: str) -> Path:
    """The folder in which the local cache holds `model`; skips the test where it does not."""
    file = try_to_load_from_cache(model, needed)
    if not isinstance(file, str):
        pytest.skip(f"{model} is not in the local Hugging Face cache")
    return Path(file).parent
