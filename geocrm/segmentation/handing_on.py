"""Results as they may be handed on: nothing that fewer than ten customers made, nor what tells it by subtraction.

Pure. For pages and files whose readers nobody knows; what is left out is counted in `withheld`.
"""

from __future__ import annotations

import re
from collections import defaultdict
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


def churn_rates(rows: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """`churn_rates(rows) -> (shown_rows, withheld)`: churn rates of regions as a run has them, and how many of the
    regions are withheld.

    Shown are regions whose customers at the opening and at the end, newcomers and leavers are none or ten each, where
    what is withheld cannot be worked out from all together; these (`total`) stand last. Where all together would tell
    of a few, nothing is shown, and every region withheld. What became of the customers of the opening
    (`left_of_opening`, `opening_share` with its interval, and their part of `sentence`) is told where nothing is
    withheld and none of the four groups that come and go is of a few; else it is null. The rows given stay as they are.
    """
    regions, whole = [row for row in rows if not row["total"]], [row for row in rows if row["total"]]
    counts = [[int(row[name]) for name in _BOOK] for row in regions]
    hidden, few = [False] * len(regions), any(0 < row[name] < SMALLEST_GROUP for row in whole for name in _BOOK)
    if counts:
        found = suppress(counts)
        hidden, few = found.hidden.any(axis=1).tolist(), few or bool(whole and found.column_totals.any())
    if few:
        return [], len(regions)
    kept = [dict(row) for row, hides in zip(regions, hidden, strict=True) if not hides] + [dict(row) for row in whole]
    if any(hidden) or any(0 < many < SMALLEST_GROUP for row in kept for many in _comings(row)):
        for row in kept:
            row |= dict.fromkeys(("left_of_opening", "opening_share", "opening_low", "opening_high"))
            row["sentence"] = _OF_OPENING.sub("", row["sentence"])
    return kept, sum(hidden)


_BOOK: Final = ("opening", "closing", "joined", "left")
_OF_OPENING: Final = re.compile(r"; of the [\d,]+ at the opening [^()]*\([^()]*\)")


def _comings(row: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """Who was there and left, who was there and stayed, who came and left, who came and stayed."""
    gone = row["left"] - row["left_of_opening"]
    return row["left_of_opening"], row["opening"] - row["left_of_opening"], gone, row["joined"] - gone


def analysis(kind: str, results: Mapping[str, Any]) -> dict[str, Any]:
    """The results of an analysis of a kind."""
    return _KINDS[kind](dict(results))


def _affinity(results: dict[str, Any]) -> dict[str, Any]:
    """Pairs that ten customers have; regions where ten have them, elsewhere ten or nobody. Sentences speak of the
    surest pairs, and go with them."""
    pairs = [row for row in results["pairs"] if row["both"] >= SMALLEST_GROUP]
    by_region = _pairs_by_region(results["by_region"])
    withheld = len(results["pairs"]) - len(pairs) + len(results["by_region"]) - len(by_region)
    results |= {"pairs": pairs, "by_region": by_region}
    del results["sentences"]
    offers = results["offers"]
    if results["customers"] < SMALLEST_GROUP or (offers is not None and offers["customers"] < SMALLEST_GROUP):
        results["offers"] = None
    return results | {"withheld": withheld}


def _pairs_by_region(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each row tells how many have its pair elsewhere, those of a pair together how many have it in none of them."""
    of_pair: dict[tuple[int, int], list[int]] = defaultdict(list)
    for at, row in enumerate(rows):
        of_pair[row["first"], row["second"]].append(at)
    kept: set[int] = set()
    for places in of_pair.values():
        both = [rows[at]["both"] for at in places]
        rest = both[0] + rows[places[0]]["both_elsewhere"] - sum(both)
        hidden = suppress([*both, rest]).hidden
        kept |= {at for at, hides in zip(places, hidden[:-1], strict=True)
                 if not hides and not 0 < rows[at]["both_elsewhere"] < SMALLEST_GROUP}  # fmt: skip
    return [row for at, row in enumerate(rows) if at in kept]


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
