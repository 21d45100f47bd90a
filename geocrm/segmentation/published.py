"""What is published of one customer: its segments and scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import ids
from geocrm.db.queries import named


def of_customer(session: Session, customer_id: int) -> tuple[list[dict[str, Any]], dict[str, dict[str, float | None]]]:
    """The published segments of a customer that the reader sees, and the scores by the segmentation's key."""
    rows = session.execute(text(named("segmentation", "of_customer")), {"customer_id": customer_id}).all()
    segments = [
        {
            "segmentation": ids.reference("sgm", row.segmentation_id, row.segmentation),
            "key": row.key,
            "segment": ids.reference("seg", row.segment_id, row.segment),
            "is_active": row.is_active,
            "run": row.number,
            "cutoff": row.cutoff,
            "because": because(row.drivers or (), scores_by_name(row.score_names, row.numbers)),
        }
        for row in rows
        if row.segment_id is not None
    ]
    return segments, {row.key: scores_by_name(row.score_names, row.numbers) for row in rows if row.numbers is not None}


def because(drivers: Sequence[Mapping[str, Any]], scores: Mapping[str, float | None]) -> list[str]:
    """The features that move the odds of a customer most, in words, the strongest first: those that make them at least
    a tenth higher or lower than the average customer's, at most three."""
    told = []
    for driver in drivers:
        times = scores.get(driver["score"]) if driver["score"] else None
        if times and abs(math.log(times)) >= math.log(1.1):
            told.append((abs(math.log(times)), driver["meaning"], times))
    return [_moves(meaning, times) for _, meaning, times in sorted(told, key=lambda one: -one[0])[:3]]


def _moves(meaning: str, times: float) -> str:
    how = f"{times:.1f} times" if times >= 2 else f"by {abs(times - 1):.0%}"
    what = f"{meaning[0].upper()}{meaning[1:]}"
    return f"{what}: {'raises' if times > 1 else 'lowers'} the odds of leaving {how}"


def scores_by_name(names: Sequence[str], numbers: Sequence[float] | None) -> dict[str, float | None]:
    """Scores of a customer by name; None where there is none."""
    held = [None] * len(names) if numbers is None else numbers
    return {
        name: None if number is None or number != number else round(float(number), 6)
        for name, number in zip(names, held, strict=True)
    }
