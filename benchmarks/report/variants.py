"""Which records of a method count, which hold the same discovery, and what its variants are called.

Of a method that was run in several versions, the newest counts. A method's file has no order of
versions: its contents, by their hash, tell variants apart, as settings do.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.grid.settings import completed, settings_label, swept
from benchmarks.record import Finished
from benchmarks.report.titles import short


def newest(records: Sequence[Finished]) -> tuple[list[Finished], list[Finished]]:
    """The records of each method's newest version, its inner methods included, and the others."""
    versions = {record.name: _versions(record) for record in records}
    kept = list(records)
    for part in dict.fromkeys(part for own in versions.values() for part in own):
        latest = max(versions[record.name].get(part, 0) for record in kept)
        kept = [one for one in kept if versions[one.name].get(part, latest) == latest]
    names = {record.name for record in kept}
    return kept, [record for record in records if record.name not in names]


def _versions(record: Finished) -> dict[tuple[str, str], int]:
    """The version of a method and, for wrappers, of each method inside it."""
    own = record.definition
    inner = {(own.method, one.method): one.method_version for one in own.inner or ()}
    return {(own.method, ""): own.method_version, **inner}


def discovery_key(record: Finished) -> str:
    """What defines a discovery, whatever the grid of sparsities that its ranking was cut on."""
    definition = record.definition.as_json() | {"sparsities": None, "ablation": record.ablation}
    return json.dumps(definition, sort_keys=True)


def codes_of(record: Finished) -> dict[str, str]:
    """Short hashes of the code of the method and its inner methods, where that is a user's own."""
    own = record.definition
    codes = {one.method: one.code for one in (*(own.inner or ()), own)}
    return {f"code of {method}": short(code) for method, code in codes.items() if code}


def settings_and_variants(records: Sequence[Finished], label: str) -> list[tuple[str, str]]:
    """For each of a method's records with the same label: its setting and variant, in words.

    What differs among the records stands beside the label.
    """
    method = records[0].definition.method
    settings = [completed(method, record.definition.settings) for record in records]
    codes = list(map(codes_of, records))
    changed = _varying(codes, dict.fromkeys(name for own in codes for name in own))
    turned = swept(method)
    # Circuits are points along the axis; of rankings each is a curve of its own.
    telling = {"circuit": _telling(settings, turned), "scores": _telling(settings, None)}
    varying = _varying(settings, settings[0])
    shown = [name for name in varying if name != turned]
    if turned and (turned in varying or not label):
        shown.insert(0, turned)

    def text(own: Mapping[str, Any], code: Mapping[str, str], names: Iterable[str]) -> str:
        of_settings = settings_label({name: own.get(name) for name in names})
        of_code = settings_label({name: code.get(name) for name in changed})
        return ", ".join(filter(None, [label, of_settings, of_code]))

    return [
        (text(own, code, shown), text(own, code, telling[record.kind]))
        for record, own, code in zip(records, settings, codes, strict=True)
    ]


def _varying(settings: Sequence[Mapping[str, Any]], names: Iterable[str]) -> list[str]:
    """Of these names those whose values differ."""
    return [name for name in names if len({own.get(name) for own in settings}) > 1]


def _telling(settings: Sequence[Mapping[str, Any]], turned: str | None) -> list[str]:
    """The settings that tell variants apart, without those that follow from the ones before."""

    def variants(names: Sequence[str]) -> int:
        return len({tuple(own.get(name) for name in names) for own in settings})

    telling: list[str] = []
    for name in settings[0]:
        if name != turned and variants([*telling, name]) > max(1, variants(telling)):
            telling.append(name)
    return telling
