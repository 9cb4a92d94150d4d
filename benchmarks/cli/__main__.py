"""`python -m benchmarks.cli`, as torchrun starts it."""

from benchmarks.cli import main

main(prog_name="edgewise")
