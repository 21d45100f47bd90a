"""What publishing a draft would do, before anybody does it: who moves, with which sales; overlaps and gaps."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import access
from geocrm.access import Actor
from geocrm.db.engine import expecting_many_rows
from geocrm.db.queries import named
from geocrm.spatial import layers, publishing

LISTED: Final = 500
LEAST_M2: Final = 1.0
"""Overlaps and gaps smaller than this are rounding of borders."""


@dataclass(frozen=True)
class Move:
    """A site that would belong to another area."""

    customer_id: int
    customer_name: str
    site_id: int
    from_area_id: int | None
    from_name: str | None
    from_basis: str | None
    to_area_id: int | None
    to_name: str | None
    to_basis: str


@dataclass(frozen=True)
class Balance:
    """What an area, or an owner, would lose and win: sites, and sales of the last 12 months by currency, of the
    customers that the actor sees."""

    area_id: int | None  # None: no area; in a balance by owner always None
    name: str | None
    owner_id: int | None
    leaving: int
    entering: int
    sales_leaving: dict[str, Decimal]
    sales_entering: dict[str, Decimal]


@dataclass(frozen=True)
class Overlap:
    """Where two areas lie over one another, and which of them wins there."""

    area_id: int
    name: str
    other_area_id: int
    other_name: str
    wins_area_id: int
    area_m2: float
    lon: float
    lat: float
    geometry: dict[str, Any]


@dataclass(frozen=True)
class Gap:
    """A hole between the areas that no area covers."""

    area_m2: float
    lon: float
    lat: float
    geometry: dict[str, Any]


@dataclass(frozen=True)
class Coverage:
    """Overlaps and gaps of a version, the largest first, at most `limit` of each, with how many there are in all."""

    overlaps: list[Overlap]
    overlap_count: int
    gaps: list[Gap]
    gap_count: int


@dataclass(frozen=True)
class Preview:
    """What publishing would do. `moves` counts all sites, `moves_hidden` those that the actor does not see; the list
    holds the first of the others. Sales are those of the customers that the actor sees, by currency."""

    layer_id: int
    version: int
    effective_from: datetime
    concerned: int
    moves: int
    moves_hidden: int
    rebased: int
    moving: list[Move]
    sales: dict[str, Decimal]
    by_area: list[Balance]
    by_owner: list[Balance]
    merged: bool
    coverage: Coverage | None


def preview(
    session: Session,
    layer_id: int,
    version: int,
    *,
    actor: Actor,
    effective_from: datetime | None = None,
    limit: int = LISTED,
    with_coverage: bool = True,
    overwrite: bool = False,
    now: datetime | None = None,
) -> Preview:
    """Work a publication out and take it back: nothing stays written. Raises what publishing raises, but for rights:
    who may draft may preview. Needs the worker's role."""
    with session.begin_nested() as savepoint:
        plan = publishing.work_out(
            session, layer_id, version, actor=actor, reason=None, effective_from=effective_from, overwrite=overwrite,
            now=now,
        )  # fmt: skip
        moved, rebased = publishing.count_moves(session)
        moment = max(plan.effective_from, plan.now)
        drafted = {"layer": layer_id, "version": version}
        counts = session.execute(
            text(named("territories_reading", "preview_counts")), drafted | {"moment": moment}
        ).all()
        session.execute(text("GRANT SELECT ON ledger_moves TO geocrm_api"))
        with access.as_user(session, actor), expecting_many_rows(session):
            rows = session.execute(
                text(named("territories_reading", "preview_moves")), drafted | {"limit": limit}
            ).all()
            moving = [Move(**row._mapping) for row in rows]
            seen = session.scalar(text(named("territories_reading", "preview_seen"))) or 0
            sales = session.execute(text(named("territories_reading", "preview_sales")), {"now": plan.now}).all()
        by_area = _balances(counts, sales)
        # the draft may have taken in what others published: report on it as it would be in force
        found = coverage(session, layer_id, version) if with_coverage else None
        concerned, begin, merged = plan.concerned, plan.effective_from, plan.merged
        savepoint.rollback()
    return Preview(
        layer_id=layer_id,
        version=version,
        effective_from=begin,
        concerned=concerned,
        moves=moved,
        moves_hidden=moved - seen,
        rebased=rebased,
        moving=moving,
        sales=_by_currency((row.currency, row.amount) for row in sales),
        by_area=by_area,
        by_owner=_by_owner(by_area),
        merged=merged,
        coverage=found,
    )


def _balances(counts: Iterable[Any], sales: Iterable[Any]) -> list[Balance]:
    leaving: dict[int | None, list[tuple[str, Decimal]]] = {}
    entering: dict[int | None, list[tuple[str, Decimal]]] = {}
    for row in sales:
        leaving.setdefault(row.from_area_id, []).append((row.currency, row.amount))
        entering.setdefault(row.to_area_id, []).append((row.currency, row.amount))
    return [
        Balance(
            area_id=row.area_id,
            name=row.name,
            owner_id=row.owner_id,
            leaving=int(row.leaving),
            entering=int(row.entering),
            sales_leaving=_by_currency(leaving.get(row.area_id, [])),
            sales_entering=_by_currency(entering.get(row.area_id, [])),
        )
        for row in counts
    ]


def _by_owner(balances: Iterable[Balance]) -> list[Balance]:
    """Areas of one owner together; what moves between two areas of the same owner is in both columns."""
    found: dict[int | None, list[Balance]] = {}
    for balance in balances:
        found.setdefault(balance.owner_id, []).append(balance)
    return [
        Balance(
            area_id=None,
            name=None,
            owner_id=owner,
            leaving=sum(b.leaving for b in theirs),
            entering=sum(b.entering for b in theirs),
            sales_leaving=_by_currency(item for b in theirs for item in b.sales_leaving.items()),
            sales_entering=_by_currency(item for b in theirs for item in b.sales_entering.items()),
        )
        for owner, theirs in found.items()
    ]


def _by_currency(amounts: Iterable[tuple[str, Decimal]]) -> dict[str, Decimal]:
    sums: dict[str, Decimal] = {}
    for currency, amount in amounts:
        sums[currency] = sums.get(currency, Decimal(0)) + amount
    return dict(sorted(sums.items()))


def coverage(
    session: Session, layer_id: int, version: int, *, limit: int = 100, least_m2: float = LEAST_M2
) -> Coverage:
    """Overlaps and gaps of a version of a layer: reported, never in the way. Raises NotFound."""
    layers.get_version(session, layer_id, version)
    values = {"layer": layer_id, "version": version, "limit": limit, "least_m2": least_m2}
    overlaps = session.execute(text(named("territories_reading", "overlaps")), values).all()
    gaps = session.execute(text(named("territories_reading", "gaps")), values).all()
    return Coverage(
        overlaps=[Overlap(**_shown(row)) for row in overlaps],
        overlap_count=overlaps[0].found if overlaps else 0,
        gaps=[Gap(**_shown(row)) for row in gaps],
        gap_count=gaps[0].found if gaps else 0,
    )


def _shown(row: Any) -> dict[str, Any]:
    values = dict(row._mapping)
    del values["found"]
    return values | {"geometry": json.loads(values["geometry"])}
