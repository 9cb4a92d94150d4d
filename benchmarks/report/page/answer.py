"""The answer that the page begins with: which method, how sure, at what cost, in sentences."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.report.comparison import Comparison, Contender, Entry, labels_of
from benchmarks.report.panels import Estimate, grouped
from benchmarks.report.results import Results
from benchmarks.report.tables.recovered import best_rows

CONTROLS = ("random", "activation-difference")


@dataclass(frozen=True)
class Answer:
    """A headline, what qualifies it, and a paragraph per task."""

    headline: str
    sentences: Sequence[str]
    of_tasks: Sequence[tuple[str, Sequence[str]]]


def answer(results: Results, found: Sequence[Comparison]) -> Answer:
    recovered = _recovered(results)
    if not found:
        headline, *rest = recovered or [_nothing(results)]
        return Answer(headline, rest, [])
    labels = labels_of(entry.contender for one in found for entry in one.entries)
    headline, sentences = _overall(found, labels)
    tasks = grouped(found, lambda one: one.panel.heading)
    of_tasks = [(task, [_of(one, labels) for one in group]) for task, group in tasks.items()]
    return Answer(headline, [*sentences, *recovered], of_tasks)


def _overall(found: Sequence[Comparison], labels: Mapping[Contender, str]) -> tuple[str, list[str]]:
    """How often each contender is best or level with the best."""
    wins = Counter(entry.contender for one in found for entry in one.level)
    most = max(wins.values())
    leaders = [contender for contender, n in wins.items() if n == most]
    names = listed([labels[contender] for contender in leaders])
    verb = "is" if len(leaders) == 1 else "are each"
    n = len(found)
    headline = (
        f"{names} {verb} best, or level with the best, in {most} of {n} {_plural('comparison', n)}."
    )
    others = sorted((one for one in wins if one not in leaders), key=lambda one: -wins[one])
    sentences = []
    if others:
        sentences.append(
            "Next: " + listed([f"{labels[one]} ({wins[one]})" for one in others[:4]]) + "."
        )
    if 2 * most <= n:
        sentences.append(
            "No method leads in more than half of them: the answer depends on task and size."
        )
    costs = [f"{labels[one]} {_median_cost(found, one)}" for one in [*leaders, *others][:4]]
    sentences.append("Median cost of a discovery: " + "; ".join(costs) + ".")
    if (devices := _devices(found)) and len(devices) > 1:
        sentences.append(
            f"Seconds are of different devices ({'; '.join(devices)}): compare forward-equivalents."
        )
    seeds = sorted({len(one.seeds) for one in found})
    sentences.append(
        f"A comparison is one task at one sparsity, over the test prompts of {_span(seeds)} "
        f"{_plural('seed', seeds[-1])}; level means not significantly worse (paired bootstrap over "
        "prompts, 95 %, Holm's correction). It says nothing of seeds or settings that were not run."
    )
    return headline, sentences


def _devices(found: Sequence[Comparison]) -> list[str]:
    """What the circuits that are compared were found on."""
    names = {
        record.environment.device_name
        for one in found
        for record in one.panel.records
        if any(record.name in entry.cells for entry in one.entries)
    }
    return sorted(names)


def _of(one: Comparison, labels: Mapping[Contender, str]) -> str:
    """One task at one sparsity."""
    best, metric = one.best, one.panel.records[0].metrics[one.panel.metric]
    unit = metric.unit
    text = (
        f"At {100 * one.sparsity:g} % sparsity ({one.edges:,} of {one.panel.n_edges:,} edges), "
        f"{labels[best.contender]} is best: {interval(best.value)}, {unit}"
    )

    def value(entry: Entry) -> str:
        return f"{labels[entry.contender]} ({entry.value.mean:.3g})"

    level = [entry for entry in one.level if entry is not best]
    worse = [entry for entry in one.entries if not entry.is_level]
    if len(level) > 5:
        text += f"; {len(level)} methods are not significantly worse, among them "
        text += listed([value(entry) for entry in level[:3]])
    elif level:
        text += f"; not significantly worse: {listed([value(entry) for entry in level])}"
    elif worse:
        text += f", significantly better than all others; next is {value(worse[0])}"
    text += f". It cost {_cost(best)}"
    cheap = [
        e
        for e in level
        if e.method not in CONTROLS and e.forward_equivalents < 0.8 * best.forward_equivalents
    ]
    if cheap:
        cheapest = min(cheap, key=lambda entry: entry.forward_equivalents)
        text += f"; the cheapest of the level ones, {labels[cheapest.contender]}, {_cost(cheapest)}"
    random = next((entry for entry in one.entries if entry.method == "random"), None)
    if random is not None:
        text += f". Random circuits have {random.value.mean:.3g}"
    if best.is_found:
        text += f". Its circuit has {best.edges:,.0f} edges"
    return text + "."


def _recovered(results: Results) -> list[str]:
    """How many compiled programs each method recovers exactly, at its best."""
    panels = [panel for panel in results.panels if panel.records[0].true_circuits]
    if not panels:
        return []
    exact: dict[str, int] = {}
    ran: dict[str, int] = {}
    for panel in panels:
        for row in best_rows(panel):
            ran[row.method] = ran.get(row.method, 0) + 1
            exact[row.method] = exact.get(row.method, 0) + bool(row.truth and row.truth.exact)
    labels = _labels(ran)
    order = sorted(ran, key=lambda method: -exact[method] / ran[method])
    top = order[0]
    n = len(panels)
    headline = (
        f"{labels[top]} finds the exact true circuit of {exact[top]} of {ran[top]} compiled "
        f"{_plural('program', n)}."
    )
    rest = listed([f"{labels[m]} of {exact[m]} of {ran[m]}" for m in order[1:]])
    costs = [
        f"{labels[m]} {median(seconds):,.3g} s"
        for m in order
        if (seconds := [r.seconds for p in panels for r in p.records if r.definition.method == m])
    ]
    sentences = [headline]
    if rest:
        sentences.append(f"{rest}.")
    sentences.append(
        "Of each method this counts the setting, seed or draw nearest to the truth, chosen by the "
        "truth: an upper bound. Rankings are cut to the true circuit's size."
    )
    sentences.append("Median cost of a discovery: " + ", ".join(costs) + ".")
    return sentences


def _nothing(results: Results) -> str:
    n = sum(len(panel.records) for panel in results.panels)
    return (
        f"{n} {_plural('discovery', n)}, no two methods at the same sparsity on the same prompts: "
        "nothing to rank."
    )


def _labels(methods: Sequence[str] | dict[str, int]) -> dict[str, str]:
    from benchmarks.drawing.style import method_style

    return {method: method_style(method).label for method in methods}


def _median_cost(found: Sequence[Comparison], contender: Contender) -> str:
    """Over all discoveries that are compared, each of which counts once."""
    entries = [entry for one in found for entry in one.entries if entry.contender == contender]
    compared = {cell for entry in entries for cell in entry.cells}
    panels = dict.fromkeys(one.panel for one in found)
    records = [record for panel in panels for record in panel.records if record.name in compared]
    seconds = median(record.seconds for record in records)
    return _seconds_and_passes(seconds, median(record.forward_equivalents for record in records))


def _cost(entry: Entry) -> str:
    text = _seconds_and_passes(entry.seconds, entry.forward_equivalents)
    n = len(entry.cells)
    return text if n == 1 else f"{text} (medians of {n} discoveries)"


def _seconds_and_passes(seconds: float, passes: float) -> str:
    return f"{seconds:,.3g} s and {passes:,.3g} forward-equivalents"


def interval(value: Estimate) -> str:
    return f"{value.mean:.3g} [{value.low:.3g}, {value.high:.3g}]"


def listed(names: Sequence[str]) -> str:
    """a, b and c."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _span(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def _plural(word: str, n: int) -> str:
    if n == 1:
        return word
    return f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
