"""Which offers hold for a customer here and now, and what speaks against the others.

The work is done by the SQL function `geocrm_offers_judged`, which `GET /v1/offers/eligible` asks too.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlalchemy.orm import Session

MOST_SHOWN: Final = 100
OTHERS: Final = 100
"""So many others are explained unless asked otherwise, at most `MOST_OTHERS`."""
MOST_OTHERS: Final = 1000
REASONS: Final = (
    "not_started", "over", "closed", "no_position", "outside", "needs_exact_places", "not_in_audience", "no_consent",
    "cap_reached", "customer_cap_reached", "held_out",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Judged:
    """A live offer for a customer: `reasons` why not, none where it holds.

    `n` is the place among the offer's areas of the one that holds the point, None for an offer that holds everywhere or
    elsewhere. `distance_m` is how far the point is from where the offer holds. `left_*` is None where there is no cap.
    `exposed`: it was shown, or held out, before."""

    offer_id: int
    version: int
    priority: int
    n: int | None
    distance_m: float | None
    open_until: datetime | None
    opens_at: datetime | None
    left_in_all: int | None
    left_for_customer: int | None
    hold_out_key: str
    unit: str | None
    held_out: bool
    exposed: bool
    reasons: tuple[str, ...]


def judge(
    session: Session,
    customer_id: int,
    lon: float | None,
    lat: float | None,
    *,
    moment: datetime,
    explain: bool = False,
    offer_id: int | None = None,
) -> list[Judged]:
    """Live offers in the order in which they are shown: those that hold and those held out of, with `explain` all.

    The session is entered as who asks (:func:`geocrm.access.enter`), and the customer is seen. Nothing is written."""
    rows = session.execute(
        text(
            "SELECT * FROM geocrm_offers_judged(CAST(:customer AS bigint), CAST(:lon AS float8), CAST(:lat AS float8),"
            " CAST(:moment AS timestamptz), CAST(:explain AS boolean), CAST(:offer AS bigint))"
            " ORDER BY reasons <> '{}', turn"
        ),
        {"customer": customer_id, "lon": lon, "lat": lat, "moment": moment, "explain": explain, "offer": offer_id},
    )
    return [
        Judged(
            row.offer_id, row.version, row.priority, row.n, row.distance_m, row.open_until, row.opens_at,
            row.left_in_all, row.left_for_customer, row.hold_out_key, row.unit, row.held_out, row.exposed,
            tuple(row.reasons),
        )
        for row in rows
    ]  # fmt: skip
