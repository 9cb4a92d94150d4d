"""Captions: what the numbers of tables and figures depend on, said once where panels agree.

First comes what all panels have in common, then what each has of its own; tasks of which the same
is said stand together.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.drawing.style import method_style
from benchmarks.grid.settings import settings_label
from benchmarks.record import Finished
from benchmarks.report.panels import Panel, grouped


def captions(panels: Iterable[Panel]) -> list[str]:
    """One sentence, or one for all panels and then one for each that differs from others."""
    groups = [
        (", ".join(dict.fromkeys(panel.task for panel in alike)), dict(facts))
        for facts, alike in grouped(panels, lambda panel: tuple(_facts(panel).items())).items()
    ]
    common = set.intersection(*(set(facts.items()) for _, facts in groups)) if groups else set()
    if len(groups) < 2:
        return [_sentence(tasks, facts) for tasks, facts in groups]
    own = [_sentence(tasks, dict(facts.items() - common)) for tasks, facts in groups]
    return [_sentence("All", dict(common)), *own]


def settings_of_labels(panels: Iterable[Panel]) -> list[str]:
    """Of each label, the settings that are the same wherever it stands, without common ones."""
    records = [record for panel in panels for record in panel.records]
    sentences: list[str] = []
    for method, alike in grouped(records, lambda record: record.definition.method).items():
        common = _shared_settings(alike)
        for label, labelled in grouped(alike, lambda record: record.label).items():
            own = dict(sorted(_shared_settings(labelled) - common))
            if label and own:
                style = method_style(method)
                sentences.append(f"{style.label}, {label}: {settings_label(own)}.")
    return sentences


def _shared_settings(records: Iterable[Finished]) -> set[tuple[str, Any]]:
    return set.intersection(*(set(record.definition.settings.items()) for record in records))


def _facts(panel: Panel) -> dict[str, str]:
    """Graph convention and number of edges, ablation, prompts, seeds, device, dtype."""
    first = panel.records[0]
    edges, _, convention = first.graph.partition(" (")
    return {
        "model": panel.model,
        "edges": edges,
        "convention": convention.removesuffix(")"),
        "ablation": first.ablation,
        "train": f"{panel.n_examples:,}",
        "test": f"{first.n_prompts.test:,}",
        "seeds": _seeds_by_method(panel.records),
        "devices": "; ".join(sorted(set(map(_device, panel.records)))),
        "dtype": first.dtype,
    }


def _sentence(tasks: str, facts: Mapping[str, str]) -> str:
    edges, convention = facts.get("edges"), facts.get("convention")
    prompts = {"train": "training", "test": "test"}
    parts = [
        f"graph of {edges} ({convention})" if edges and convention else edges or convention,
        f"{facts['ablation']} ablation" if "ablation" in facts else None,
        " and ".join(f"{facts[kind]} {word}" for kind, word in prompts.items() if kind in facts),
        *(facts.get(name) for name in ("seeds", "devices", "dtype")),
    ]
    if parts[2]:
        parts[2] += " prompts"
    said = ", ".join(part for part in parts if part)
    start = f"{tasks} on {facts['model']}" if "model" in facts else tasks
    return f"{start}: {said}." if said else f"{start}."


def _seeds_by_method(records: Iterable[Finished]) -> str:
    """All methods' seeds or, where they differ, those of each."""
    seeds: dict[str, set[int]] = {}
    for record in records:
        seeds.setdefault(record.definition.method, set()).add(record.definition.seed)
    groups = grouped(seeds, lambda method: tuple(sorted(seeds[method])))
    if len(groups) == 1:
        return _seeds(*groups)
    return ", ".join(
        f"{_seeds(numbers)} ({', '.join(method_style(method).label for method in methods)})"
        for numbers, methods in groups.items()
    )


def _seeds(numbers: tuple[int, ...]) -> str:
    word = "seeds" if len(numbers) > 1 else "seed"
    # Numbers that follow one another have the same distance from their place.
    runs = grouped(enumerate(numbers), lambda pair: pair[1] - pair[0]).values()
    ends = [(run[0][1], run[-1][1]) for run in runs]
    parts = [
        f"{low} to {high}" if high - low > 1 else ", ".join(map(str, dict.fromkeys((low, high))))
        for low, high in ends
    ]
    return f"{word} {', '.join(parts)}"


def _device(record: Finished) -> str:
    jobs, processes = record.environment.jobs, record.environment.processes
    return (
        record.environment.device_name
        + (f", {processes} processes" if processes > 1 else "")
        + (f", {jobs} jobs at a time" if jobs > 1 else "")
    )
