"""What `edgewise discover` prints of its one cell."""

from benchmarks.record import Finished
from benchmarks.report.table import aligned


def show_record(record: Finished) -> str:
    """One cell's circuits and what they cost."""
    lines = [
        {
            **({} if row.draw is None else {"draw": row.draw}),
            "edges": row.edges,
            "sparsity, %": f"{100 * row.sparsity:.2f}",
            "live, %": f"{100 * row.live_sparsity:.2f}",
            **{name: f"{value:.4g}" for name, value in row.metrics.items()},
            **(row.truth.as_json() if row.truth else {}),
        }
        for row in record.rows
    ]
    return (
        f"{aligned(lines, 'simple')}\n\n"
        f"{record.seconds:.1f} s, {record.peak_bytes / 2**20:,.0f} MB, "
        f"{record.forward_equivalents:,.1f} forward-equivalents of "
        f"{record.n_prompts.train:,} prompts; graph of {record.graph}, "
        f"{record.ablation} ablation, {record.n_prompts.test:,} test prompts"
    )
