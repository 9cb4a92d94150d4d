"""The command: which parts, where, for how long."""

import argparse
import sys
from pathlib import Path

import torch

from benchmarks.speed.gpu import codellama, correctness, gpt2_small, kernels, layouts
from benchmarks.speed.gpu.parts import Part, Setting, run_parts

PARTS = (
    Part("correctness", correctness.measurements),
    Part("gpt2-small", gpt2_small.measurements),
    Part("codellama-13b", codellama.measurements),
    Part("layouts", layouts.measurements),
    Part("profile", kernels.measurements),
    Part("many-prompts", gpt2_small.measurements_of_many_prompts),
)


def main(arguments: list[str] | None = None) -> int:
    """Run the parts; 1 where a measurement failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.gpu",
        description="Check Edgewise on an accelerator and time it; one JSON file for each part.",
    )
    names = [part.name for part in PARTS]
    parser.add_argument("--out", type=Path, required=True, help="folder for the JSON files")
    parser.add_argument("--budget", type=float, default=480, help="seconds (default: 480)")
    parser.add_argument("--device", default="cuda", help="default: cuda")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="PART")
    parser.add_argument(
        "--without", default=[], nargs="+", metavar="TEXT", help="leave out measurements"
    )
    parser.add_argument("--toy", action="store_true", help="tiny sizes, to try the command itself")
    given = parser.parse_args(arguments)
    try:
        torch.empty(0, device=given.device)
    except (AssertionError, RuntimeError) as error:
        parser.error(f"--device {given.device} cannot be used: {str(error).splitlines()[0]}")
    chosen = [part for part in PARTS if part.name in given.only]
    setting = Setting(torch.device(given.device), given.toy)
    return int(
        run_parts(chosen, setting, out=given.out, budget=given.budget, without=given.without) > 0
    )


if __name__ == "__main__":
    sys.exit(main())
