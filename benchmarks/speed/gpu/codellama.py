"""CodeLlama-13B's shape in bfloat16: one step of Edge Pruning on one card.

40 layers of 40 heads, 3,872,820 edges without a position embedding, weights drawn on the device.
The paper trains 6,000 steps of 32 prompts of up to 72 tokens on 32 cards, in up to 35 hours.
"""

import itertools
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import rms_norm
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from benchmarks.speed.gpu.clock import median_seconds, peak_bytes, seconds
from benchmarks.speed.gpu.kernels import kernels_of
from benchmarks.speed.gpu.parts import Measurement, Row, Setting
from benchmarks.speed.random_models import random_task
from edgewise.transformer import MaskedTransformer
from methods.edge_pruning import EdgePruning

PAPER_STEPS, PAPER_PROMPTS = 6000, 32
FULL: dict[str, Any] = dict(
    vocab_size=32_016,
    hidden_size=5120,
    intermediate_size=13_824,
    num_hidden_layers=40,
    num_attention_heads=40,
    num_key_value_heads=40,
    max_position_embeddings=16_384,
    rope_parameters=dict(rope_type="default", rope_theta=1_000_000.0),
)
TOY: dict[str, Any] = dict(
    vocab_size=50,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
)
GIB = 2**30


def measurements(setting: Setting) -> list[Measurement]:
    bench = _Bench(setting)
    tries = ((True, 5), (False, 5), (True, 10), (False, 2.5))
    return [
        ("norms", partial(_norms, setting)),
        ("weights", bench.load),
        *(
            (
                f"step, {gib} GiB of writers at once, {'recomputed' if recompute else 'kept'}",
                partial(bench.step, recompute, gib, place == 0),
            )
            for place, (recompute, gib) in enumerate(tries)
        ),
    ]


def _norms(setting: Setting) -> Row:
    """Of a layer's readers at 4 prompts: Hugging Face's norm, and torch's, which is one kernel."""
    shape = (8, 3, 16) if setting.toy else (288, 120, 5120)
    theirs = LlamaRMSNorm(shape[-1]).to(setting.device, torch.bfloat16)
    x = torch.randn(shape, device=setting.device).bfloat16().requires_grad_()

    def both(norm: Callable[[Tensor], Tensor]) -> None:
        torch.autograd.grad(norm(x).sum(), x)

    row: Row = {}
    fused = partial(rms_norm, normalized_shape=shape[-1:], weight=theirs.weight.detach(), eps=1e-6)
    for name, norm in (("hugging face", theirs), ("fused", fused)):
        taken = median_seconds(partial(both, norm), setting.device, rounds=5)
        row[f"{name}, milliseconds forward and backward"] = 1e3 * taken
    row["largest difference"] = float((fused(x) - theirs(x)).detach().abs().max())
    return row


class _Bench:
    """The model is made by the first measurement and kept for the others."""

    def __init__(self, setting: Setting) -> None:
        self._device, self._toy = setting.device, setting.toy
        self._model: MaskedTransformer | None = None

    def load(self) -> Row:
        config = LlamaConfig(**(TOY if self._toy else FULL))
        start = time.perf_counter()
        before, dtype = torch.get_default_dtype(), torch.bfloat16
        torch.set_default_dtype(dtype)
        try:
            with torch.device("meta"):
                model = LlamaForCausalLM(config)
        finally:
            torch.set_default_dtype(before)
        model = model.to_empty(device=self._device)
        generator = torch.Generator(self._device).manual_seed(0)
        for weight in model.parameters():
            if weight.ndim == 1:
                weight.data.fill_(1.0)
            else:
                weight.data.normal_(0, 0.02, generator=generator)
        with torch.device(self._device):  # its buffers are computed, not loaded
            model.model.rotary_emb = type(model.model.rotary_emb)(config)
        self._model = MaskedTransformer(model)
        graph = self._model.graph
        return {
            "seconds": time.perf_counter() - start,
            "parameters": sum(weight.numel() for weight in model.parameters()),
            "edges": graph.n_edges,
            "writers": len(graph.writers),
        }

    def step(self, recompute: bool, gib: float, profiled: bool) -> Row:
        assert self._model is not None, "the weights could not be made"
        model = self._model
        model.recompute, model.batch_bytes = recompute, int(gib * GIB)
        prompts, positions = (4, 6) if self._toy else (PAPER_PROMPTS, 72)
        task = random_task(model, prompts=prompts, positions=positions)
        method = EdgePruning(batch_size=prompts, steps=PAPER_STEPS, target_sparsity=1.2)
        generator = torch.Generator(self._device).manual_seed(0)
        training, steps = method.training(model, task, generator), itertools.count()

        def step() -> None:
            training.step(next(steps))

        peak = peak_bytes(step, self._device)
        before = model.flops
        taken = seconds(step, self._device)
        operations = model.flops - before
        return {
            "seconds_per_step": taken,
            "tflop_per_step": operations / 1e12,
            "tflop_per_second": operations / 1e12 / taken,
            "peak_bytes": peak,
            "prompts_at_once": training.batches.n_prompts_at_once,
            "projected_hours_of_6000_steps": taken * PAPER_STEPS / 3600,
            "kernels": kernels_of(step, self._device, warm_up=0, rounds=1) if profiled else None,
        }
