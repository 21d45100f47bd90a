"""Results as they may be handed on: nothing that fewer than ten customers made, nor what tells it by subtraction.

Pure. For pages and files whose readers nobody knows; what is left out is counted in `withheld`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from geocrm.spatial.suppression import SMALLEST_GROUP, suppress


def shown_rows(rows: Sequence[Mapping[str, Any]], count: str = "customers") -> tuple[list[dict[str, Any]], int]:
    """The rows of a table, published beside its total, whose number of customers may be told, and how many may not.
    Rows of nobody stay."""
    if not rows:
        return [], 0
    hidden = suppress([int(row[count]) for row in rows]).hidden
    kept = [dict(row) for row, hides in zip(rows, hidden, strict=True) if not hides]
    return kept, len(rows) - len(kept)


def analysis(kind: str, results: Mapping[str, Any]) -> dict[str, Any]:
    """The results of an analysis of a kind."""
    return _KINDS[kind](dict(results))


def _affinity(results: dict[str, Any]) -> dict[str, Any]:
    """Pairs that ten customers have; sentences speak of the surest pairs, and go with them."""
    withheld = 0
    for table in ("pairs", "by_region"):
        kept = [row for row in results[table] if row["both"] >= SMALLEST_GROUP]
        withheld += len(results[table]) - len(kept)
        results[table] = kept
    del results["sentences"]
    offers = results["offers"]
    if results["customers"] < SMALLEST_GROUP or (offers is not None and offers["customers"] < SMALLEST_GROUP):
        results["offers"] = None
    return results | {"withheld": withheld}


def _forecast(results: dict[str, Any]) -> dict[str, Any]:
    """Series of ten customers or more; those together as `others` hold what is withheld, and stay only without it."""
    whole, *series = results["rows"]
    # sales whose buyers are none of it any more are somebody's, too
    named = [row | {"customers": row["customers"] or int(any(row["history"]))} for row in series
             if row["customers"] is not None]  # fmt: skip
    kept, withheld = shown_rows(named)
    others = [row for row in series if row["customers"] is None and not withheld]
    everybody = whole["customers"] >= SMALLEST_GROUP
    return results | {"rows": [whole, *kept, *others] if everybody else [], "withheld": withheld + (not everybody)}


def _penetration(results: dict[str, Any]) -> dict[str, Any]:
    results["rows"], withheld = shown_rows(results["rows"])
    return results | {"withheld": withheld}


def _tracking(results: dict[str, Any]) -> dict[str, Any]:
    """Purchases of all customers together."""
    if results["customers"] >= SMALLEST_GROUP:
        return results | {"withheld": 0}
    return {"weeks": results["weeks"], "customers": None, "notes": results["notes"], "withheld": 1}


_KINDS: Final[dict[str, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "affinity": _affinity, "forecast": _forecast, "penetration": _penetration, "tracking": _tracking,
}  # fmt: skip
