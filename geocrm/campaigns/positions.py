"""Positions of customers' phones: taken under a consent, followed into events, and forgotten again.

All that a batch does is one transaction. It holds the consents it relies on, so that they cannot be withdrawn
meanwhile, and its customers' newest positions, so that two batches of one customer come one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from geocrm import access, ids
from geocrm.access import Actor
from geocrm.campaigns import crossings, events
from geocrm.campaigns.crossings import Crossing, Presence
from geocrm.campaigns.events import NewEvent
from geocrm.campaigns.geofences import Fences
from geocrm.crm import consents
from geocrm.crm.forgetting import LOCATION
from geocrm.db.arrays import of_numbers
from geocrm.db.engine import Database
from geocrm.db.models import Consent
from geocrm.db.queries import named
from geocrm.errors import ConsentRequired, Fault, Invalid, NotFound

AHEAD_S: Final = 120.0
"""A phone's clock may be so far ahead of ours."""
MOST: Final = 10_000
_MOST_FAULTS: Final = 50
_AT_ONCE: Final = 1_000
_CHUNK: Final = 20_000
_SURE: Final = 0.99


@dataclass(frozen=True, slots=True)
class Batch:
    """Positions: customers, degrees, metres (radius of 68 %) and seconds since 1970, to the microsecond, all (n,)."""

    customers: NDArray[np.int64]
    lon: NDArray[np.float64]
    lat: NDArray[np.float64]
    accuracy_m: NDArray[np.float64]
    times: NDArray[np.float64]

    @classmethod
    def of(cls, rows: Iterable[tuple[int, float, float, float, datetime]]) -> Batch:
        """From customer, lon, lat, metres and time of each."""
        customers, lon, lat, accuracy_m, moments = zip(*rows, strict=True)
        return cls(
            np.array(customers, dtype=np.int64),
            np.array(lon, dtype=np.float64),
            np.array(lat, dtype=np.float64),
            np.array(accuracy_m, dtype=np.float64),
            np.array([moment.timestamp() for moment in moments]),
        )


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a batch: how many positions are `stored`, how many were there already (`doubles`), how many of
    those stored were older than the newest and so made no events (`late`); which were `ignored`, by their place and the
    reason; and the events."""

    stored: int = 0
    doubles: int = 0
    late: int = 0
    ignored: list[tuple[int, str]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)


def take(
    session: Session,
    actor: Actor,
    fences: Fences,
    batch: Batch,
    *,
    now: datetime,
    keep_days: float = 30.0,
    max_accuracy_m: float = 1000.0,
) -> Taken:
    """Store positions and record the events that they make.

    A position older than `keep_days`, coarser than `max_accuracy_m`, or recorded before its customer's consent, is
    ignored, which is said. Raises Invalid where one is from the future, NotFound where the actor does not see a
    customer, ConsentRequired where one does not allow it (purpose `location`); then nothing is stored."""
    at = now.timestamp()
    _refuse(batch.times > at + AHEAD_S, "recorded_at", "this is in the future: set the clock of the phone")
    customers = np.unique(batch.customers)
    _check_seen(session, actor, batch, customers)
    granted = _check_consents(session, batch, customers)
    reasons = np.full(len(batch.times), "", dtype=object)
    reasons[batch.times < granted] = "recorded before the customer allowed it"
    reasons[batch.times < at - keep_days * 86_400] = f"older than the {keep_days:g} days that positions are kept"
    coarse = batch.accuracy_m > max_accuracy_m
    reasons[coarse] = f"an accuracy of more than {max_accuracy_m:g} m says too little"
    kept = np.flatnonzero(reasons == "")
    ignored = [(int(place), str(reasons[place])) for place in np.flatnonzero(reasons != "")]
    if not len(kept):
        return Taken(ignored=ignored)
    listed = np.unique(batch.customers[kept]).tolist()
    last_at = _lock(session, listed)
    outcome = _follow(batch, kept, fences, _presences(session, listed, fences), last_at)
    stored = _store(session, batch, kept)
    _move(session, outcome)
    happened = [event_of(crossing, fences) for crossing in outcome.crossings]
    numbers = events.record(session, happened)
    # the first of a fix and its double is fresh, or neither is
    late = max(0, stored - int(outcome.fresh.sum()))
    return Taken(
        stored,
        len(kept) - stored,
        late,
        ignored,
        [
            {"id": ids.show("evt", number), "type": event.type, "occurred_at": event.occurred_at, "data": event.data}
            for number, event in zip(numbers, happened, strict=True)
        ],
    )


def _follow(
    batch: Batch,
    kept: NDArray[np.int64],
    fences: Fences,
    presences: dict[tuple[int, int], Presence],
    last_at: dict[int, float],
) -> crossings.Outcome:
    """What the positions `kept` make happen, by customer and time, so many at once: memory does not grow with how many
    fences are near how many of them."""
    in_order = kept[np.lexsort((batch.times[kept], batch.customers[kept]))]
    standing: dict[int, dict[int, Presence]] = {}
    for (customer, fence), presence in presences.items():
        standing.setdefault(customer, {})[fence] = presence
    whole = crossings.Outcome([], {}, {}, np.zeros(len(in_order), dtype=bool))
    for begin in range(0, len(in_order), _AT_ONCE):
        some = in_order[begin : begin + _AT_ONCE]
        customers = np.unique(batch.customers[some]).tolist()
        held = {(customer, fence): one for customer in customers for fence, one in standing.get(customer, {}).items()}
        of = crossings.followed(batch.customers[some], held, fences.fence_ids)
        part = crossings.follow(
            batch.customers[some],
            batch.times[some],
            fences.index.standings(batch.lon[some], batch.lat[some], batch.accuracy_m[some], of=of),
            fences.fence_ids,
            presences=held,
            last_at={customer: last_at[customer] for customer in customers},
            dwell_s=fences.dwell_s,
            is_open=lambda fence, moment: fence not in fences.keeping_hours or fences.held[fence].is_open(moment),
        )
        for (customer, fence), after in part.changed.items():
            if after is None:
                standing[customer].pop(fence, None)
            else:
                standing.setdefault(customer, {})[fence] = after
        last_at = last_at | part.last_at
        whole.crossings.extend(part.crossings)
        whole.changed.update(part.changed)
        whole.last_at.update(part.last_at)
        whole.fresh[begin : begin + _AT_ONCE] = part.fresh
    return whole


def event_of(crossing: Crossing, fences: Fences) -> NewEvent:
    """The event that others are told of a crossing: no coordinates, but how sure it is and how far from the border."""
    border = crossing.border_m
    return NewEvent(
        crossing.subject,
        f"geofence.{crossing.kind}",
        datetime.fromtimestamp(crossing.occurred_at, UTC),
        {
            "customer_id": ids.show("cus", crossing.subject),
            "geofence": fences.held[crossing.fence].reference(),
            "detected_at": _shown(crossing.detected_at),
            "entered_at": _shown(crossing.entered_at),
            "confidence": "high" if crossing.probability >= _SURE else "medium",
            "probability": round(crossing.probability, 4),
            "distance_to_border_m": round(abs(border), 1) if np.isfinite(border) else None,
        },
        purpose=LOCATION,
        geofence_id=crossing.fence,
    )


def _shown(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


# ---------------------------------------------------------------- may it be taken


def _refuse(wrong: NDArray[np.bool_], name: str, fault: str, kind: type[Invalid] = Invalid) -> None:
    if wrong.any():
        raise kind(f"{name}: {fault}", errors=_faults(np.flatnonzero(wrong), name, fault))


def _faults(places: NDArray[np.int64], name: str, fault: str) -> list[Fault]:
    return [{"pointer": f"/positions/{place}/{name}", "detail": fault} for place in places[:_MOST_FAULTS].tolist()]


def _check_seen(session: Session, actor: Actor, batch: Batch, customers: NDArray[np.int64]) -> None:
    with access.as_user(session, actor):
        seen = session.scalars(
            text("SELECT id FROM customers WHERE id = ANY (CAST(:customers AS bigint[])) AND erased_at IS NULL"),
            {"customers": of_numbers(customers.tolist())},
        ).all()
    unseen = ~np.isin(batch.customers, np.array(seen, dtype=np.int64))
    if unseen.any():
        fault = "there is no such customer"
        raise NotFound(errors=_faults(np.flatnonzero(unseen), "customer_id", fault))


def _check_consents(session: Session, batch: Batch, customers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Since when each position's customer allows it, (n,); a consent read here stands until the transaction ends."""
    rows = session.execute(
        text(named("positions", "consented")), {"customers": of_numbers(customers.tolist()), "purpose": LOCATION}
    ).all()
    since: dict[int, float] = {}
    for row in rows:
        since[row.customer_id] = min(row.granted_at, since.get(row.customer_id, np.inf))
    granted = np.array([since.get(customer, np.inf) for customer in customers.tolist()])
    each = granted[np.searchsorted(customers, batch.customers)]
    if np.isinf(each).any():
        places = np.flatnonzero(np.isinf(each))[:_MOST_FAULTS]
        said = f"the customer does not allow this: a consent with the purpose {LOCATION!r} is needed"
        have = _purposes(session, np.unique(batch.customers[places]).tolist())
        faults = _faults(places, "customer_id", said)
        for place, fault in zip(places.tolist(), faults, strict=True):
            fault["detail"] += consents.like(LOCATION, have.get(int(batch.customers[place]), ()))
        raise ConsentRequired(errors=faults)
    return each


def _purposes(session: Session, customers: Sequence[int]) -> dict[int, set[str]]:
    """The purposes of these customers' consents that stand."""
    found: dict[int, set[str]] = {}
    rows = session.execute(
        select(Consent.customer_id, Consent.purpose).where(
            Consent.customer_id.in_(customers), Consent.withdrawn_at.is_(None)
        )
    )
    for row in rows:
        found.setdefault(row.customer_id, set()).add(row.purpose)
    return found


# ---------------------------------------------------------------- what is known, and kept


def _lock(session: Session, customers: Sequence[int]) -> dict[int, float]:
    found = _newest(session, customers)
    missing = [customer for customer in customers if customer not in found]
    if missing:
        session.execute(text(named("positions", "add_subjects")), {"customers": of_numbers(missing)})
        found |= _newest(session, missing)
    return found


def _newest(session: Session, customers: Sequence[int]) -> dict[int, float]:
    rows = session.execute(text(named("positions", "lock_subjects")), {"customers": of_numbers(customers)})
    return {row.customer_id: row.last_at for row in rows}


def _presences(session: Session, customers: Sequence[int], fences: Fences) -> dict[tuple[int, int], Presence]:
    rows = session.execute(text(named("positions", "presences")), {"customers": of_numbers(customers)})
    return {
        (row.customer_id, row.geofence_id): Presence(
            row.inside, row.evidence_since, row.since or 0.0, row.told, row.seen_s, row.dwelled
        )
        for row in rows
        if row.geofence_id in fences.held
    }


def _store(session: Session, batch: Batch, kept: NDArray[np.int64]) -> int:
    return int(
        session.scalar(
            text(named("positions", "store")),
            {
                "customers": of_numbers(batch.customers[kept].tolist()),
                "times": of_numbers(batch.times[kept].tolist()),
                "lons": of_numbers(batch.lon[kept].tolist()),
                "lats": of_numbers(batch.lat[kept].tolist()),
                "accuracies": of_numbers(batch.accuracy_m[kept].tolist()),
            },
        )
        or 0
    )


def _move(session: Session, outcome: crossings.Outcome) -> None:
    if outcome.last_at:
        moved = sorted(outcome.last_at.items())
        session.execute(
            text(named("positions", "move_subjects")),
            {"customers": of_numbers(customer for customer, _ in moved), "times": of_numbers(at for _, at in moved)},
        )
    put = sorted((key, after) for key, after in outcome.changed.items() if after is not None)
    if put:
        session.execute(
            text(named("positions", "put_presences")),
            {
                "customers": of_numbers(customer for (customer, _), _ in put),
                "fences": of_numbers(fence for (_, fence), _ in put),
                "inside": of_numbers(after.inside for _, after in put),
                "evidence": of_numbers(after.evidence_since for _, after in put),
                "since": of_numbers(after.since for _, after in put),
                "told": of_numbers(after.told for _, after in put),
                "seen": of_numbers(after.seen_s for _, after in put),
                "dwelled": of_numbers(after.dwelled for _, after in put),
            },
        )
    gone = sorted(key for key, after in outcome.changed.items() if after is None)
    if gone:
        session.execute(
            text(named("positions", "drop_presences")),
            {
                "customers": of_numbers(customer for customer, _ in gone),
                "fences": of_numbers(fence for _, fence in gone),
            },
        )


# ---------------------------------------------------------------- forgetting


def expire(
    database: Database, *, now: datetime, keep_days: float, event_days: float, chunk: int = _CHUNK
) -> dict[str, int]:
    """Delete positions older than `keep_days` with what is known of customers who sent none since, and events with
    their deliveries older than `event_days`: in transactions of at most `chunk` rows, so that nobody waits for them."""
    before = now - timedelta(days=keep_days)
    counts = {
        "positions": _in_chunks(database, "expire_positions", before, chunk),
        "events": _in_chunks(database, "expire_events", now - timedelta(days=event_days), chunk),
    }
    with database.writing() as session:
        counts["customers"] = int(session.scalar(text(named("positions", "expire_subjects")), {"before": before}) or 0)
        session.execute(text(named("positions", "expire_tests")), {"before": now - timedelta(days=event_days)})
    return counts


def _in_chunks(database: Database, query: str, before: datetime, chunk: int) -> int:
    total = 0
    while True:
        with database.writing() as session:
            gone = int(session.scalar(text(named("positions", query)), {"before": before, "most": chunk}) or 0)
        total += gone
        if gone < chunk:
            return total
