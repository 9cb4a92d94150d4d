"""The matching stage: rankings cut to exactly the numbers of edges that other methods found.

So a circuit is compared with what every ranking gives at its own size. Only sizes that a ranking
has not been cut to yet are evaluated, so the stage costs nothing when it is repeated.
"""

from benchmarks.grid.cell import Bench
from benchmarks.record import Finished
from benchmarks.run.execute import evaluate_scores
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
        matched = store.matched_rows(record.name)
        sizes = sorted(found - {row.edges for row in (*record.rows, *matched)})
        if sizes:
            draws = draws_of(store.discovery(record.name))
            model, task = loader.model(bench), loader.task(bench)
            rows, _ = evaluate_scores(model, task, draws, sizes)
            store.add_matched_rows(record.name, rows)
