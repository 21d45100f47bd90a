"""Results as they may be handed on: nothing that fewer than ten customers made, nor what tells it by subtraction.

Pure. For pages and files whose readers nobody knows; what is left out is counted in `withheld`.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
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
    """The results of an analysis of a kind. Figures of older ones, of which it is not known how many made them, are
    withheld."""
    return _KINDS[kind](dict(results))


def _affinity(results: dict[str, Any]) -> dict[str, Any]:
    """Pairs that ten customers have; regions where ten have them, elsewhere ten or nobody. Sentences speak of the
    surest pairs, and go with them."""
    pairs = [row for row in results["pairs"] if row["both"] >= SMALLEST_GROUP]
    by_region = _pairs_by_region(results["by_region"])
    withheld = len(results["pairs"]) - len(pairs) + len(results["by_region"]) - len(by_region)
    results |= {"pairs": pairs, "by_region": by_region}
    del results["sentences"]
    results.pop("model", None)
    offers = results["offers"]
    if results["customers"] < SMALLEST_GROUP or (offers is not None and offers["customers"] < SMALLEST_GROUP):
        results["offers"] = None
    return results | {"withheld": withheld}


def _pairs_by_region(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each row tells how many have its pair elsewhere, those of a pair together how many have it in none of them."""
    of_pair: dict[tuple[int, int], list[int]] = defaultdict(list)
    for at, row in enumerate(rows):
        if "both_elsewhere" in row:
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
    """Series of ten buyers or more, in periods that ten of them made (else null), and of the whole what does not tell
    the others with them. Those together as `others` hold what is withheld, and stay only without it."""
    whole, *series = results["rows"]
    named = [row for row in series if row["customers"] is not None]
    own = _few(whole.get("buyers", ()))
    if whole["customers"] < SMALLEST_GROUP or "buyers" not in whole or _repeats(whole, own):
        return results | {"rows": [], "withheld": len(named) + 1, "periods_withheld": 0}
    # customers of regions are known by period alone: so many at least
    many = [max(row["customers"], *row["buyers"], int(any(row["history"]))) for row in named]
    shown = {at for at, row in enumerate(named)
             if not many[at] or (many[at] >= SMALLEST_GROUP and not _repeats(row, _few(row["buyers"])))}  # fmt: skip
    counted = results["counted"] and results["by"] != "region"
    while not _enough(whole["customers"], many, shown, counted):
        shown.remove(min((at for at in shown if many[at]), key=lambda at: many[at]))
    untold = own | _told_by_the_rest(whole, named, shown, results["counted"])
    if _repeats(whole, untold):
        shown, untold = set(), own
    rows = [_without(whole, untold)]
    rows += [_without(row, _few(row["buyers"])) for at, row in enumerate(named) if at in shown]
    withheld = len(named) - len(shown)
    others = [row for row in series if row["customers"] is None and not withheld]
    nulls = sum(one is None for row in rows for one in row["history"])
    return results | {"rows": [*rows, *others], "withheld": withheld, "periods_withheld": nulls}


def _few(buyers: Sequence[int]) -> set[int]:
    return {at for at, many in enumerate(buyers) if 0 < many < SMALLEST_GROUP}


def _enough(total: int, many: Sequence[int], shown: Collection[int], counted: bool) -> bool:
    """Whether what is not shown is of nobody or of ten different ones at least, or nothing is left to show."""
    hidden = [one for at, one in enumerate(many) if one and at not in shown]
    least = max([*hidden, total - sum(many[at] for at in shown) if counted else 0], default=0)
    return not hidden or least >= SMALLEST_GROUP or not any(many[at] for at in shown)


def _told_by_the_rest(
    whole: Mapping[str, Any], named: Sequence[Mapping[str, Any]], shown: Collection[int], counted: bool
) -> set[int]:
    """The periods in which the whole less what is shown would be of a few."""
    found = set()
    for period, total in enumerate(whole["buyers"]):
        many = [row["buyers"][period] for row in named]
        here = {at for at in shown if not 0 < many[at] < SMALLEST_GROUP}
        if any(many[at] for at in here) and not _enough(total, many, here, counted):
            found.add(period)
    return found


def _repeats(row: Mapping[str, Any], periods: Collection[int]) -> bool:
    """Whether the forecast is what was sold in one of these periods, as that of the naive methods is."""
    sold = [row["history"][at] for at in periods if row["history"][at]]
    return any(math.isclose(mean, one, rel_tol=1e-6) for mean in row["mean"] if mean is not None for one in sold)


def _without(row: Mapping[str, Any], periods: Collection[int]) -> dict[str, Any]:
    """A series without the figures of these periods, and without how many made them."""
    history = [None if at in periods else one for at, one in enumerate(row["history"])]
    return {name: value for name, value in row.items() if name != "buyers"} | {"history": history}


def _penetration(results: dict[str, Any]) -> dict[str, Any]:
    """Areas of ten customers or more; what was sold in them where ten bought."""
    rows, withheld = shown_rows(results["rows"])
    for row in rows:
        if 0 < row.pop("buyers", 1) < SMALLEST_GROUP:
            row |= {name: None for name in row if name == "sales" or name.startswith("potential_sales")}
    return results | {"rows": rows, "withheld": withheld}


def _tracking(results: dict[str, Any]) -> dict[str, Any]:
    """Purchases of all customers together, in weeks, or several of them, that ten customers bought in; else null."""
    if results["customers"] < SMALLEST_GROUP or "buyers" not in results:
        return {"weeks": results["weeks"], "customers": None, "notes": results["notes"], "withheld": 1}
    buyers = results.pop("buyers")
    end = len(buyers)
    fit = end - results["weeks"]
    told = _told_weeks(buyers, 0, fit)
    told = told | _told_weeks(buyers, fit, end) if fit in told else _told_weeks(buyers, 0, end)
    results["actual"] = [one if at in told else None for at, one in enumerate(results["actual"])]
    if not {fit, end} <= told:
        results |= dict.fromkeys(("came", "error", "weekly_mean"))
    if not set(range(fit, end + 1)) <= told:
        results["weekly_error"] = None
    return results | {"withheld": 0}


def _told_weeks(buyers: Sequence[int], start: int, end: int) -> set[int]:
    """Which sums from the start on may be told beside that of the start: between two of them at least ten different
    customers bought, or nobody. That of the end is, if any."""
    told, most = [start], 0
    for at in range(start, end):
        most = max(most, buyers[at])
        if not 0 < most < SMALLEST_GROUP:
            told.append(at + 1)
            most = 0
    while told[-1] != end and len(told) > 1:
        told.pop()
        if max(buyers[told[-1] : end]) >= SMALLEST_GROUP:
            told.append(end)
    return set(told)


_KINDS: Final[dict[str, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "affinity": _affinity, "forecast": _forecast, "penetration": _penetration, "tracking": _tracking,
}  # fmt: skip
