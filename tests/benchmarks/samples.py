"""What the tests of the benchmark share."""

from edgewise import Graph

GRAPH = Graph(n_layers=2, n_heads=2)
N_PROMPTS = 12

SMALL_SUITE = """
name = "small"
tasks = ["tracr-xproportion"]
sparsities = [0.0, 0.5, 0.8, 0.9]

[[method]]
name = "random"
draws = 3

[[method]]
name = "eap"
selection = ["top-absolute", "greedy-signed"]

[[method]]
name = "acdc"
threshold = 0.01

[[method]]
name = "edge-pruning"
steps = 60
warmup_steps = 10
target_warmup_steps = 40
target_sparsity = 0.6
"""
