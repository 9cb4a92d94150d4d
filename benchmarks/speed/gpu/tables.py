"""Tables of what the command has measured: `python -m benchmarks.speed.gpu.tables DIR`.

They are written to DIR/tables.md, from the JSON files of the parts alone.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks.speed.gpu.parts import Row

GIB = 2**30


def tables(folder: Path) -> str:
    """All tables as Markdown. Raises OSError where a part's file is missing."""
    parts: dict[str, dict[str, Any]] = {
        name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        for name in (
            *("correctness", "gpt2-small", "many-prompts"),
            *("codellama-13b", "layouts", "profile"),
        )
    }
    device = parts["correctness"]["device"]
    rows = {name: part["rows"] for name, part in parts.items()}
    sections = {
        "Correctness": _correctness(rows["correctness"]),
        "A step of Edge Pruning, GPT-2 small's shape, 32 prompts of 16 tokens": _steps(
            rows["gpt2-small"]
        ),
        "Methods, GPT-2 small's shape, 200 prompts unless another number is given": _methods(
            rows["gpt2-small"], rows["many-prompts"]
        ),
        "ACDC": _acdc(rows["gpt2-small"]),
        "CodeLlama-13B's shape, bfloat16, 32 prompts of 72 tokens": _codellama(
            rows["codellama-13b"]
        ),
        "Layouts of the store, microseconds": _layouts(rows["layouts"]),
        "Kernels": _kernels(rows["profile"], rows["codellama-13b"]),
    }
    head = f"{device['name']}, torch {device['torch']}, transformers {device['transformers']}."
    body = (f"## {title}\n\n{table}\n" for title, table in sections.items())
    return "\n".join([f"{head}\n", *body])


def _table(lines: Iterable[Row]) -> str:
    return tabulate(list(lines), headers="keys", tablefmt="pipe", floatfmt=".3g")


def _correctness(rows: dict[str, Row]) -> str:
    kinds: dict[str, list[Row]] = {}
    for name, row in rows.items():
        case, _, kind = name.partition(": ")
        dtype = case.rpartition(", ")[2]
        kinds.setdefault(f"{kind}, {dtype}", []).append(row)
    return _table(
        {
            "check": kind,
            "models": len(group),
            "failed": sum("error" in row for row in group),
            "largest difference": max(row.get("largest", 0) for row in group),
            "tolerance": max(row.get("tolerance", 0) for row in group),
        }
        for kind, group in kinds.items()
    )


def _steps(rows: dict[str, Row]) -> str:
    return _table(
        {
            "step": name.removeprefix("edge-pruning step, "),
            "milliseconds": row["milliseconds"],
            "products alone": row["products_milliseconds"],
            "ratio": row["ratio"],
            "3,000 steps, s": row["projected_seconds_of_3000_steps"],
            "peak, GiB": row["peak_bytes"] / GIB,
        }
        for name, row in rows.items()
        if name.startswith("edge-pruning step")
    )


def _methods(rows: dict[str, Row], many: dict[str, Row]) -> str:
    lines: list[Row] = []
    for row in (rows["eap"], many["eap"]):
        lines += [
            {
                "what": f"EAP, {row['prompts']:,} prompts, {name.partition(', ')[2]}",
                "seconds": value,
                "the paper's (H100)": row["paper_seconds"],
            }
            for name, value in row.items()
            if name.startswith("seconds, ")
        ]
    lines += [
        {"what": f"{row['label']}, float32", "seconds": row["seconds"]}
        for name, row in rows.items()
        if name.startswith("scores of ")
    ]
    tenth = rows["edge-pruning, a tenth of the steps"]
    what = f"Edge Pruning, {tenth['steps']} steps from end to end, recorded, float32"
    lines.append({"what": what, "seconds": tenth["seconds"]})
    curve = rows["a curve of ten circuits"]
    lines += [
        {"what": "a curve of ten circuits", "seconds": curve["milliseconds"] / 1e3},
        {
            "what": "ten of Hugging Face's own passes",
            "seconds": curve["hugging_face_milliseconds"] / 1e3,
        },
    ]
    return _table(lines)


def _acdc(rows: dict[str, Row]) -> str:
    names = ("seconds", "tested", "dropped", "kept", "finished", "milliseconds_per_test")
    return _table(
        {
            "search": name.removeprefix("acdc at "),
            **{key.replace("_", " "): row[key] for key in names},
            "whole graph at this pace, s": row["projected_seconds"],
            "the paper's (H100)": row["paper_seconds"],
        }
        for name, row in rows.items()
        if name.startswith("acdc at ")
    )


def _codellama(rows: dict[str, Row]) -> str:
    return _table(
        {
            "step": name.removeprefix("step, "),
            "prompts at once": row["prompts_at_once"],
            "seconds": row["seconds_per_step"],
            "TFLOP/s": row["tflop_per_second"],
            "peak, GiB": row["peak_bytes"] / GIB,
            "6,000 steps, hours": row["projected_hours_of_6000_steps"],
        }
        for name, row in rows.items()
        if name.startswith("step, ") and "skipped" not in row
    )


def _layouts(rows: dict[str, Row]) -> str:
    return _table(
        {"shape": name}
        | {
            key.removesuffix(", microseconds"): value
            for key, value in row.items()
            if key.endswith("microseconds")
        }
        for name, row in rows.items()
        if not name.startswith("gathered")
    )


def _kernels(rows: dict[str, Row], codellama: dict[str, Row]) -> str:
    profiled = {
        f"13B: {name}": row["kernels"] for name, row in codellama.items() if row.get("kernels")
    }
    return _table(
        {
            "what": name,
            "milliseconds": row["milliseconds_of_kernels"],
            "kernels": round(row["kernels"]),
            "share of products": row["share_of_products"],
        }
        for name, row in {**rows, **profiled}.items()
    )


def main(arguments: list[str]) -> None:
    folder = Path(arguments[0])
    (folder / "tables.md").write_text(tables(folder), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
