"""What is published of one customer: its segments and scores."""

from __future__ import annotations

from collections.abc import Sequence
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
        }
        for row in rows
        if row.segment_id is not None
    ]
    return segments, {row.key: scores_by_name(row.score_names, row.numbers) for row in rows if row.numbers is not None}


def scores_by_name(names: Sequence[str], numbers: Sequence[float] | None) -> dict[str, float | None]:
    """Scores of a customer by name; None where there is none."""
    held = [None] * len(names) if numbers is None else numbers
    return {
        name: None if number is None or number != number else round(float(number), 6)
        for name, number in zip(names, held, strict=True)
    }
