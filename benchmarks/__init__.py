"""Each workload beside its peers, results checked equal before they are timed. `make bench` runs all of them.

A module of this package that has a function `measure() -> Iterable[Row]` is a benchmark; `benchmarks.run` finds it.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One comparison. `ratio` says how many times better we are; `met` whether it reaches `target`; a row
    printed for comparison only has neither."""

    row: str
    peer: str
    metric: str
    ours: float
    theirs: float
    ratio: float
    target: float | None
    met: bool | None
    scale: str
    equal: bool


def compare(
    row: str, peer: str, metric: str, ours: float, theirs: float, *, target: float | None, scale: str, equal: bool,
    less_is_better: bool = False,
) -> Row:  # fmt: skip
    """A row from two figures."""
    ratio = (theirs / ours if less_is_better else ours / theirs) if ours and theirs else 0.0
    met = None if target is None else ratio >= target
    return Row(row, peer, metric, round(ours, 4), round(theirs, 4), round(ratio, 3), target, met, scale, equal)
