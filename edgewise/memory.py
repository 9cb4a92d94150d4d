"""About how many bytes passes take for each token that goes through the model at once.

Batches are sized by these numbers. Tests compare them with the peaks of the tensors that are made.
"""

from edgewise.transformer import MaskedTransformer


def writers_bytes(model: MaskedTransformer) -> int:
    """The outputs of all writers."""
    return len(model.graph.writers) * model.architecture.d_model * model.dtype.itemsize


def evaluation_bytes(model: MaskedTransformer) -> int:
    """A masked pass without gradients, for each mask and token.

    All writers' outputs and what removed edges carry, the residual stream before each block, and
    the inputs of one block's readers, before and after their norms. Sparse circuits take less.
    """
    graph = model.graph
    vectors = 2 * len(graph.writers) + len(graph.blocks) + 2 * _readers_at_once(model)
    return vectors * model.architecture.d_model * model.dtype.itemsize


def training_bytes(model: MaskedTransformer) -> int:
    """A masked pass and its gradient.

    All writers' outputs and what removed edges carry; the inputs of all readers, before and after
    their norms; and what is kept inside blocks. A model that recomputes blocks keeps the inputs
    before the norms, and the rest for one block at a time.
    """
    graph, d_model = model.graph, model.architecture.d_model
    inside = graph.n_layers * _kept_in_layer(model) + len(graph.readers) * d_model
    if model.recompute:
        inside //= graph.n_layers
    numbers = (2 * len(graph.writers) + len(graph.readers)) * d_model + inside
    return numbers * model.dtype.itemsize


def trace_bytes(model: MaskedTransformer, *, traces: int = 1, outputs: int = 3) -> int:
    """An attribution.

    This counts `outputs` tensors of all writers' outputs (in EAP the clean ones, the ablated ones,
    and their difference), and what the blocks of `traces` traces keep for their backward passes.
    In models with few layers, the gradients of a block's readers take more than one such tensor,
    and count instead.
    """
    graph, n_writers = model.graph, len(model.graph.writers)
    gradients = 4 * _readers_at_once(model) if traces else 0
    wide = max(outputs * n_writers, (outputs - 1) * n_writers + gradients)
    kept = traces * graph.n_layers * _kept_in_layer(model)
    return (wide * model.architecture.d_model + kept) * model.dtype.itemsize


def _readers_at_once(model: MaskedTransformer) -> int:
    """The readers of one layer's attention."""
    return model.graph.n_heads + 2 * model.graph.n_kv_readers


def _kept_in_layer(model: MaskedTransformer) -> int:
    """The numbers that q, k, v and the heads' results are, what is in the MLP, and four vectors.

    These are the inputs and the sums of outputs of attention and of the MLP.
    """
    architecture, graph = model.architecture, model.graph
    n_heads = 2 * (graph.n_heads + graph.n_kv_readers)
    inside_mlp = architecture.mlp_parameters // architecture.d_model
    return 4 * architecture.d_model + n_heads * architecture.d_head + inside_mlp
