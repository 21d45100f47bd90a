"""What an offer brought: shown, redeemed, and what those who were shown it bought more than those held out.

Everybody counts from when the offer was first shown, or would have been, until the moment asked for; what they bought
in half a year before narrows the interval. The method, and how it was proven: `campaigns.experiments`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pandas as pd
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from geocrm.campaigns import offers
from geocrm.campaigns.experiments import Effect, effect, lacking
from geocrm.db.models import Area, Exposure, Redemption, Segment, SegmentationRun
from geocrm.db.queries import named
from geocrm.errors import Invalid, TooLittleData
from geocrm.segmentation.segmentations import get_segmentation

SQL: Final = "offers"
DAYS_BEFORE: Final = 182
CONFIDENCE: Final = 0.95
_ROWS_AT_ONCE: Final = 20_000


@dataclass(frozen=True)
class Outcome:
    """An effect, or why there is none to tell."""

    effect: Effect | None
    reason: str | None


@dataclass(frozen=True)
class Part:
    """What was brought in one segment or territory, at the confidence at which all parts hold together."""

    id: int
    name: str
    shown: int
    held_out: int
    sales: Outcome


@dataclass(frozen=True)
class Results:
    """What an offer brought until a moment. `margin` is told where every sale has a cost."""

    offer_id: int
    until: datetime
    days_before: int
    currency: str | None
    shown: int
    held_out: int
    redeemed: int
    sales: Outcome
    margin: Outcome
    by: str | None
    parts: tuple[Part, ...]
    notes: tuple[str, ...]


def find_results(
    session: Session, offer_id: int, *, by: str | None = None, until: datetime | None = None, seed: int = 0
) -> Results:
    """What an offer brought until now, or until a moment; in the worker's session, of all customers but erased ones.

    `by`: "territory", of the primary site in the primary sales layer, or the key of a segmentation, whose newest run
    of what was before the first exposure tells who was in which segment: later ones may have been moved by the offer.

    Raises NotFound for an unknown offer or segmentation, `errors.Invalid` for sales in several currencies and for a
    segmentation without such a run, naming the moment."""
    offer = offers.get_offer(session, offer_id)
    moment = (until or datetime.now(UTC)).astimezone(UTC)
    values = {"offer": offer_id, "until": moment, "days_before": DAYS_BEFORE}
    run = None if by in (None, "territory") else _run_before(session, offer_id, str(by))
    part = "NULL" if run is None else named(SQL, "outcome_part_segment")
    if by == "territory":
        part = named(SQL, "outcome_part_territory")
    query = named(SQL, "outcomes").replace("{part}", part)
    frame = _frame(session, query, values | ({} if run is None else {"run": run.id}))
    currencies = list(session.scalars(text(named(SQL, "outcome_currencies")), values))
    if len(currencies) > 1:
        raise Invalid(
            f"Who was shown this offer bought in several currencies: {', '.join(currencies)}. Amounts of different"
            " currencies are not summed, so what it brought cannot be told."
        )
    treated = ~frame["held_out"].to_numpy(np.bool_)
    notes = []
    units = frame["unit"].to_numpy(object)
    by_areas = bool(len(units)) and not all(str(unit).startswith("cus_") for unit in units)
    if by_areas:
        notes.append("Areas were held out as a whole, so each area is one observation.")
    areas = units if by_areas else None
    redeemed = session.scalar(
        select(func.count())
        .select_from(Redemption)
        .where(Redemption.offer_id == offer.id, Redemption.reversed_at.is_(None), Redemption.redeemed_at < moment)
    )
    return Results(
        offer_id=offer.id,
        until=moment,
        days_before=DAYS_BEFORE,
        currency=currencies[0] if currencies else None,
        shown=int(treated.sum()),
        held_out=int((~treated).sum()),
        redeemed=int(redeemed or 0),
        sales=_outcome(frame, treated, areas, "amount", "before", CONFIDENCE, seed),
        margin=_margin(frame, treated, areas, seed),
        by=by,
        parts=() if by is None else _parts(session, frame, treated, areas, by, seed),
        notes=tuple(notes),
    )


def _frame(session: Session, query: str, values: Mapping[str, Any]) -> pd.DataFrame:
    """The rows of a query, of which only some are held as rows at a time: a frame takes less than a third of it."""
    rows = session.execute(text(query), values, execution_options={"yield_per": _ROWS_AT_ONCE})
    names = list(rows.keys())
    parts = [
        pd.DataFrame.from_records([tuple(row) for row in some], columns=names)
        for some in rows.partitions(_ROWS_AT_ONCE)
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=names)


def _run_before(session: Session, offer_id: int, key: str) -> SegmentationRun | None:
    """The newest kept run of a segmentation that saw nothing of the offer; None where nobody has been shown it yet."""
    held = get_segmentation(session, key)
    first = session.scalar(select(func.min(Exposure.first_at)).where(Exposure.offer_id == offer_id))
    if first is None:
        return None
    found = session.scalars(
        select(SegmentationRun)
        .where(
            SegmentationRun.segmentation_id == held.id,
            SegmentationRun.status == "done",
            SegmentationRun.cutoff <= first,
            SegmentationRun.kept.is_(True),
        )
        .order_by(SegmentationRun.cutoff.desc(), SegmentationRun.id.desc())
        .limit(1)
    ).one_or_none()
    if found is None:
        raise Invalid(
            f"No run of {held.key} is of what was before {first.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}, when this offer"
            " was first shown; later ones may have been moved by it. Run it with an earlier cutoff."
        )
    return found


def _outcome(
    frame: pd.DataFrame,
    treated: np.ndarray[Any, np.dtype[np.bool_]],
    areas: np.ndarray[Any, Any] | None,
    outcome: str,
    before: str,
    confidence: float,
    seed: int,
) -> Outcome:
    if not treated.any():
        return Outcome(None, "Nobody has been shown this offer yet.")
    if treated.all():
        return Outcome(None, "Nobody was held out, so nothing tells what would have been bought without it.")
    known = frame[before].to_numpy(np.float64, na_value=0.0)
    after = frame[outcome].to_numpy(np.float64, na_value=0.0)
    try:
        return Outcome(effect(after, treated, before=known, areas=areas, confidence=confidence, seed=seed), None)
    except TooLittleData as missing:
        return Outcome(None, str(missing))


def _margin(
    frame: pd.DataFrame,
    treated: np.ndarray[Any, np.dtype[np.bool_]],
    areas: np.ndarray[Any, Any] | None,
    seed: int,
) -> Outcome:
    unknown = int(frame["sales"].sum() - frame["costed"].sum())
    if unknown:
        return Outcome(None, f"The cost of {unknown:,} of the {int(frame['sales'].sum()):,} sales is not known.")
    return _outcome(frame, treated, areas, "margin", "margin_before", CONFIDENCE, seed)


def _parts(
    session: Session,
    frame: pd.DataFrame,
    treated: np.ndarray[Any, np.dtype[np.bool_]],
    areas: np.ndarray[Any, Any] | None,
    by: str,
    seed: int,
) -> tuple[Part, ...]:
    """Each segment or territory, at a confidence that holds for all of those that can be told together (Bonferroni)."""
    part = frame["part"].to_numpy(np.float64, na_value=np.nan)
    numbers = [int(number) for number in np.unique(part[~np.isnan(part)])]
    named_ones = (
        select(Area.id, Area.name).where(Area.id.in_(numbers))
        if by == "territory"
        else select(Segment.id, Segment.name).where(Segment.id.in_(numbers))
    )
    names = {row.id: row.name for row in session.execute(named_ones)}

    def can_be_told(inside: np.ndarray[Any, np.dtype[np.bool_]]) -> bool:
        if areas is None:
            return lacking(treated[inside], "customers") is None
        _, first = np.unique(areas[inside], return_index=True)
        return lacking(treated[inside][first], "areas") is None

    joint = 1 - (1 - CONFIDENCE) / max(sum(can_be_told(part == number) for number in numbers), 1)

    def found(number: int) -> Part:
        inside = part == number
        own = None if areas is None else areas[inside]
        outcome = _outcome(frame[inside], treated[inside], own, "amount", "before", joint, seed)
        shown = int(treated[inside].sum())
        return Part(number, names[number], shown, int(inside.sum()) - shown, outcome)

    made = [found(number) for number in numbers]
    return tuple(sorted(made, key=lambda one: (one.sales.effect is None, -one.shown, one.name)))


def sentence(outcome: Outcome, what: str, currency: str | None) -> str:
    """An outcome in words: "Sales: 12,300 USD more, between 8,000 and 16,500 (95 %)." """
    found = outcome.effect
    if found is None:
        return f"{what}: {outcome.reason}"
    unit = f" {currency}" if currency else ""
    how = f"between {found.total_low:,.0f} and {found.total_high:,.0f}{unit} ({100 * found.confidence:.4g}%)"
    if not found.shown:
        return f"{what}: no effect is shown; it lies {how}."
    return f"{what}: {abs(found.total):,.0f}{unit} {'more' if found.total > 0 else 'less'}, {how}."
