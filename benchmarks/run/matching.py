"""The matching stage: rankings cut to exactly the numbers of edges that other methods found.

So a circuit is compared with what every ranking gives at its own size. Only circuits of sizes that
are not stored yet are evaluated, so the model runs no pass when the stage is repeated.
"""

from benchmarks.grid.cell import Bench
from benchmarks.record import Finished
from benchmarks.run.execute import cut, evaluate_scores
from benchmarks.run.loading import Loader
from benchmarks.store import Store, draws_of


def records_of(bench: Bench, store: Store) -> list[Finished]:
    """The finished cells of this very task, prompts and model, whatever suite they come from."""
    wanted = bench.definition()
    return [record for record in store.finished() if record.definition.bench() == wanted]


def match(bench: Bench, store: Store, loader: Loader) -> None:
    """Cut every stored ranking of the bench to the sizes of the bench's circuits."""
    records = records_of(bench, store)
    circuits = [record for record in records if record.kind == "circuit"]
    found = {row.edges for record in circuits for row in record.rows}
    for record in records:
        if record.kind != "scores":
            continue
        stored = [*record.rows, *store.matched_rows(record.name)]
        sizes = sorted(found - {row.edges for row in stored})
        if not sizes:
            continue
        known = {(row.draw, row.edges) for row in stored}
        if cuts := cut(draws_of(store.discovery(record.name)), sizes, known):
            rows, _ = evaluate_scores(loader.model(bench), loader.task(bench), cuts)
            store.add_matched_rows(record.name, rows)
