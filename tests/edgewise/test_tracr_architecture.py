"""A compiled program, run by us, is the program that Tracr runs: every output of every writer."""

import dataclasses
import functools
import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from edgewise.architectures.tracr import TracrArchitecture
from edgewise.transformer import MaskedTransformer

MAX_SEQ_LEN = 5
assert_close = functools.partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)


def reverse() -> Any:
    from tracr.compiler import lib
    from tracr.rasp import rasp

    return lib.make_reverse(rasp.tokens)


def share_of_a() -> Any:
    from tracr.compiler import lib
    from tracr.rasp import rasp

    return lib.make_frac_prevs((rasp.tokens == "a").named("is_a"))


def balance() -> Any:
    """Two heads in one layer, a numerical output."""
    from tracr.compiler import lib
    from tracr.rasp import rasp

    return lib.make_pair_balance(rasp.tokens, "(", ")")


def renamed() -> Any:
    """Output values that are no tokens, sorted otherwise than the tokens they stand for."""
    from tracr.rasp import rasp

    names: dict[Any, int] = {"a": 9, "b": 3, "c": 5}
    return rasp.Map(lambda token: names[token], rasp.tokens).named("renamed")


def nameless() -> Any:
    """Expressions that Tracr tells apart by number alone."""
    from tracr.rasp import rasp

    return rasp.SequenceMap(lambda x, y: x or y, rasp.tokens == "a", rasp.tokens == "b")


PROGRAMS = {
    "reverse": (reverse, "123"),
    "share_of_a": (share_of_a, "abcd"),
    "balance": (balance, "()"),
    "renamed": (renamed, "abc"),
}


@dataclasses.dataclass
class Case:
    program: Any
    compiled: Any  # Tracr's own model
    model: MaskedTransformer
    prompts: list[list[Any]]

    def tracr(self) -> Any:
        """What Tracr's own model does on all prompts at once."""
        tokens = [self.compiled.input_encoder.encode(prompt) for prompt in self.prompts]
        return self.compiled.forward(self.compiled.params, np.array(tokens))

    def tokens(self) -> torch.Tensor:
        assert isinstance(self.model.architecture, TracrArchitecture)
        return self.model.architecture.encode(self.prompts)


@functools.cache
def compile_case(name: str, *, causal: bool = False) -> Case:
    from tracr.compiler import compile_rasp_to_model

    make, vocab = PROGRAMS[name]
    program = make()
    compiled: Any = compile_rasp_to_model(
        program, set(vocab), MAX_SEQ_LEN, causal=causal, compiler_bos="BOS"
    )
    prompts = [["BOS", *tokens] for tokens in itertools.product(vocab, repeat=4)]
    return Case(program, compiled, MaskedTransformer(TracrArchitecture(compiled)), prompts)


def with_random_weights(case: Case) -> Case:
    """The same shapes, with random numbers for all weights, biases too (a compiler's are 0)."""
    generator = np.random.default_rng(0)
    params: Any = {
        module: {
            weight: generator.normal(size=values.shape, scale=0.1).astype(np.float32)
            for weight, values in weights.items()
        }
        for module, weights in case.compiled.params.items()
    }
    compiled = dataclasses.replace(case.compiled, params=params)
    model = MaskedTransformer(TracrArchitecture(compiled))
    return dataclasses.replace(case, compiled=compiled, model=model)


@pytest.fixture(scope="module", params=PROGRAMS)
def case(request: pytest.FixtureRequest) -> Case:
    return compile_case(request.param)


@pytest.fixture(scope="module", params=["reverse", "balance"])
def random_case(request: pytest.FixtureRequest) -> Case:
    return with_random_weights(compile_case(request.param))


def assert_same_as_tracr(case: Case) -> None:
    theirs = case.tracr().transformer_output
    activations = case.model.activations(case.tokens())
    graph = case.model.graph
    embedded = activations[:, :, : len(graph.embeddings)].sum(2)
    assert_close(embedded, torch.tensor(theirs.input_embeddings))
    for block, output, residual in zip(
        graph.blocks, theirs.layer_outputs, theirs.residuals, strict=False
    ):
        ours = activations[:, :, block.writers].sum(2)
        assert_close(ours, torch.tensor(output))
        ours = activations[:, :, : block.writers.stop].sum(2)
        assert_close(ours, torch.tensor(residual))
    output = torch.tensor(theirs.output)
    ours = case.model.architecture.unembed(output)
    assert_close(case.model(case.tokens()), ours)


@pytest.mark.slow
def test_every_layer_output_and_residual_is_tracrs_on_all_inputs(case: Case) -> None:
    assert_same_as_tracr(case)


def test_random_weights_and_biases_give_tracrs_outputs_too(random_case: Case) -> None:
    assert_same_as_tracr(random_case)


def test_a_program_compiled_causally_is_run_causally() -> None:
    case = with_random_weights(compile_case("share_of_a", causal=True))
    assert case.model.causal
    assert_same_as_tracr(case)


def test_a_program_compiled_causally_can_run_a_common_prefix_apart() -> None:
    case = with_random_weights(compile_case("share_of_a", causal=True))
    model, tokens = case.model, case.tokens()[:4]  # they differ in the last token
    prefix = model.prefix(tokens[0, :3])
    assert_close(model(tokens[:, 3:], prefix=prefix), model(tokens)[:, 3:])


def test_decoded_outputs_are_those_of_tracr_and_of_the_program(case: Case) -> None:
    import jax

    architecture = case.model.architecture
    assert isinstance(architecture, TracrArchitecture)
    run_at_once = dataclasses.replace(case.compiled, forward=jax.jit(case.compiled.forward))
    ours = architecture.decode(case.model(case.tokens()))
    for prompt, decoded in zip(case.prompts, ours, strict=True):
        theirs = run_at_once.apply(prompt).decoded
        meant = case.program(prompt[1:])
        if architecture.categorical:
            assert decoded[1:] == theirs[1:] == meant
        else:
            assert decoded[1:] == pytest.approx(theirs[1:], abs=1e-5)
            assert decoded[1:] == pytest.approx([float(value) for value in meant], abs=1e-5)


def test_each_reader_has_its_own_input(random_case: Case) -> None:
    """Attention and MLP by loops over heads and positions, in numpy."""
    architecture = random_case.model.architecture
    heads, d_head, d_model = architecture.n_heads, architecture.d_head, architecture.d_model
    params = random_case.compiled.params["transformer/layer_0/attn/query"]
    assert params["w"].shape == (d_model, heads * d_head)
    x = np.random.default_rng(1).normal(size=(3, 3 * heads, d_model)).astype(np.float32)
    ours = architecture.attention(0, torch.tensor(x)[None])[0].numpy()

    def weight(name: str, head: int, *, rows: bool = False) -> Any:
        matrix = random_case.compiled.params[f"transformer/layer_0/attn/{name}"]["w"]
        part = slice(head * d_head, (head + 1) * d_head)
        return matrix[part] if rows else matrix[:, part]

    def bias(name: str, head: int) -> Any:
        vector = random_case.compiled.params[f"transformer/layer_0/attn/{name}"]["b"]
        return vector[head * d_head : (head + 1) * d_head]

    for head, position in itertools.product(range(heads), range(len(x))):
        q, k, v = (
            x[:, kind * heads + head] @ weight(name, head) + bias(name, head)
            for kind, name in enumerate(("query", "key", "value"))
        )
        pattern = np.exp(q[position] @ k.T / np.sqrt(d_head))
        mixed = (pattern / pattern.sum()) @ v
        share = random_case.compiled.params["transformer/layer_0/attn/linear"]["b"] / heads
        expected = mixed @ weight("linear", head, rows=True) + share
        np.testing.assert_allclose(ours[position, head], expected, rtol=1e-4, atol=1e-5)


def test_sizes_and_edges_of_the_papers_two_programs() -> None:
    for name, sizes, edges in (("reverse", (4, 1, 41, 12), 94), ("share_of_a", (2, 1, 14, 7), 32)):
        model = compile_case(name).model
        architecture = model.architecture
        found = (
            *(architecture.n_layers, architecture.n_heads),
            *(architecture.d_model, architecture.d_head),
        )
        assert found == sizes
        assert model.graph.n_edges == edges


def test_masks_of_ones_and_zeros_are_the_clean_and_the_corrupted_run(random_case: Case) -> None:
    model, clean = random_case.model, random_case.tokens()
    corrupted = clean.flip(0)
    ones = torch.ones(model.graph.legal.shape)
    ablated = model.activations(corrupted)
    assert_close(model(clean, ones, ablated), model(clean))
    assert_close(model(clean, ones), model(clean))
    assert_close(model(clean, 0 * ones, ablated), model(corrupted))
    assert not model(clean, 0 * ones).any()


def test_a_program_has_the_same_weights_however_many_were_made_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tracr.rasp import rasp

    hashes = set()
    for number in (1, 8):  # Tracr's counter; 9 and 10 sort otherwise than 2 and 3
        monkeypatch.setattr(rasp.RASPExpr, "_ids", itertools.count(number))
        model = MaskedTransformer.from_tracr(nameless(), vocab="abc", max_seq_len=2)
        hashes.add(model.weight_hash)
    assert len(hashes) == 1


def test_compiling_leaves_the_program_as_it_was() -> None:
    make, vocab = PROGRAMS["share_of_a"]
    program = make()
    label = program.label
    TracrArchitecture.compile(program, vocab=vocab, max_seq_len=MAX_SEQ_LEN)
    assert program.label == label


def test_work_is_counted_as_torch_counts_it(random_case: Case) -> None:
    tokens = random_case.tokens()
    model = random_case.model
    # torch does not count the fused attention of CPUs.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(tokens)
    lengths = torch.full((len(tokens),), tokens.shape[1])
    assert counter.get_total_flops() == model.forward_flops(lengths)


def test_prompts_that_are_too_long_or_hold_unknown_tokens_are_refused(case: Case) -> None:
    architecture = case.model.architecture
    assert isinstance(architecture, TracrArchitecture)
    assert architecture.max_positions == MAX_SEQ_LEN + 1
    with pytest.raises(ValueError, match="up to 6"):
        case.model(torch.zeros(1, MAX_SEQ_LEN + 2, dtype=torch.long))
    with pytest.raises(ValueError, match="unknown"):
        architecture.encode([["BOS", "unknown"]])
    with pytest.raises(ValueError, match="BOS"):
        architecture.encode([["unknown"]])


def test_a_program_that_tracr_cannot_compile_is_an_error_that_names_it() -> None:
    from tracr.rasp import rasp

    both = rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.EQ) & rasp.Select(
        rasp.indices, rasp.indices, rasp.Comparison.LEQ
    )
    program = rasp.Aggregate(both, rasp.tokens).named("composite")
    with pytest.raises(ValueError, match="composite"):
        TracrArchitecture.compile(program, vocab="ab", max_seq_len=3)


@pytest.mark.slow
def test_jax_and_transformers_are_imported_only_by_the_models_that_need_them() -> None:
    imports = "import sys, tasks, methods, edgewise.architectures.tracr, edgewise.pretrained"
    code = f"{imports}; assert not {{'jax', 'transformers'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
