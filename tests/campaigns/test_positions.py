"""Positions through the database: events as in memory, consent first, and forgotten for good."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from geocrm import errors
from geocrm.access import SYSTEM
from geocrm.campaigns import geofences, positions, webhooks
from geocrm.crm import changes
from geocrm.db import models
from geocrm.db.engine import Database
from tests.campaigns import walks
from tests.campaigns.test_crossings import SEED, Followed
from tests.campaigns.walks import Drawn, Fix
from tests.makers import actor_of, make_customer, make_user

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
CANARY = (8.541234567, 47.371234567)


def allow(session: Session, customer: models.Customer, purpose: str = "location", days: float = 3000.0) -> None:
    granted = datetime.now(UTC) - timedelta(days=days)
    session.add(models.Consent(customer_id=customer.id, purpose=purpose, channel="app", granted_at=granted))
    session.flush()


def batch(*rows: tuple[int, Fix]) -> positions.Batch:
    return positions.Batch(
        np.array([customer for customer, _ in rows], dtype=np.int64),
        *(np.array([getattr(fix, name) for _, fix in rows]) for name in ("lon", "lat", "accuracy_m", "at")),
    )


def take(session: Session, *rows: tuple[int, Fix], actor: Any = SYSTEM, **more: Any) -> positions.Taken:
    fences = geofences.Holder().current(session)
    return positions.take(session, actor, fences, batch(*rows), **({"now": NOW, "keep_days": 9999.0} | more))


def fix(minutes_ago: float = 1.0, lon: float = CANARY[0], lat: float = CANARY[1], accuracy_m: float = 10.0) -> Fix:
    return Fix((NOW - timedelta(minutes=minutes_ago)).timestamp(), lon, lat, accuracy_m)


def put_circle(session: Session, **more: Any) -> int:
    center = {"lon": CANARY[0], "lat": CANARY[1]}
    return geofences.put(session, SYSTEM, "shops", "a", {"center": center, "radius_m": 120.0} | more).fence_id


def test_walks_through_the_database_make_the_events_of_memory(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(positions, "_AT_ONCE", 2)  # batches are followed in parts
    random = np.random.default_rng(SEED)
    customers = [make_customer(session) for _ in range(3)]
    for customer in customers:
        allow(session, customer)
    middle = Drawn([], 8.54, 47.37, 150.0, 60.0)
    ring = np.array([[8.538, 47.369], [8.542, 47.369], [8.541, 47.372], [8.538, 47.369]])
    drawn = [middle, Drawn([ring], 8.54, 47.37, 0.0, None)]
    followed = Followed(drawn)
    followed.ids = [
        put_circle(session, center={"lon": 8.54, "lat": 47.37}, radius_m=150.0, dwell_s=60.0),
        geofences.put(
            session, SYSTEM, "shops", "b", {"geometry": {"type": "Polygon", "coordinates": [ring.tolist()]}}
        ).fence_id,
    ]
    followed.dwell = {followed.ids[0]: 60.0}
    lots = {customer.id: walks.draw_walk(random, middle, 60) for customer in customers}
    taken = []
    for turn in range(max(map(len, lots.values()))):
        rows = [(customer, one) for customer, lot in lots.items() if turn < len(lot) for one in lot[turn]]
        followed.send(rows)
        taken.append(take(session, *rows))
    stored = session.execute(
        text("SELECT customer_id, geofence_id, type, occurred_at, data FROM events ORDER BY customer_id, id")
    ).all()
    found: dict[tuple[int, int], list[tuple[str, float, float]]] = {}
    for row in stored:
        detected = datetime.fromisoformat(row.data["detected_at"]).timestamp()
        event = (row.type.removeprefix("geofence."), row.occurred_at.timestamp(), detected)
        found.setdefault((row.customer_id, row.geofence_id), []).append(event)
    expected = {
        key: [(kind, round(at, 6), round(by, 6)) for kind, at, by in told] for key, told in followed.events.items()
    }
    assert {key: [(k, round(a, 6), round(b, 6)) for k, a, b in told] for key, told in found.items()} == expected
    assert len(stored) > 10
    sent = [one for lot in lots.values() for part in lot for one in part]
    different = {(customer, one.at) for customer, lot in lots.items() for part in lot for one in part}
    assert sum(one.stored for one in taken) == len(different)
    assert sum(one.doubles for one in taken) == len(sent) - len(different)
    assert sum(one.late for one in taken) == 0
    before = lots[customers[0].id][0][0]
    late = take(session, (customers[0].id, Fix(before.at - 0.5, before.lon, before.lat, 10.0)))
    assert (late.stored, late.late, late.events) == (1, 1, [])


def test_nothing_is_kept_without_a_consent_for_it(session: Session) -> None:
    customer, other = make_customer(session), make_customer(session)
    put_circle(session)
    allow(session, other)
    for purpose in ("marketing", "location"):
        with pytest.raises(errors.ConsentRequired) as caught:
            take(session, (other.id, fix()), (customer.id, fix()))
        assert caught.value.errors[0]["pointer"] == "/positions/1/customer_id"
        assert session.scalar(text("SELECT count(*) FROM positions")) == 0
        allow(session, customer, purpose)
    assert take(session, (other.id, fix()), (customer.id, fix())).stored == 2
    with pytest.raises(errors.NotFound):
        take(session, (customer.id, fix(0.5)), (999_999_999, fix()))
    rep = actor_of(session, make_user(session, "rep"))
    with pytest.raises(errors.NotFound):
        take(session, (customer.id, fix(0.5)), actor=rep)
    assert session.scalar(text("SELECT count(*) FROM positions")) == 2


def test_what_says_too_little_is_ignored_and_what_cannot_be_is_refused(session: Session) -> None:
    customer = make_customer(session)
    put_circle(session)
    allow(session, customer, days=20)
    with pytest.raises(errors.Invalid, match="in the future") as caught:
        take(session, (customer.id, fix()), (customer.id, fix(-10)))
    assert caught.value.errors[0]["pointer"] == "/positions/1/recorded_at"
    assert session.scalar(text("SELECT count(*) FROM positions")) == 0
    day = 24 * 60.0
    taken = take(
        session, (customer.id, fix(accuracy_m=10_000.0)), (customer.id, fix(40 * day)), (customer.id, fix(25 * day)),
        (customer.id, fix(-1)), now=NOW, keep_days=30.0,
    )  # fmt: skip
    assert taken.stored == 1
    assert [place for place, _ in taken.ignored] == [0, 1, 2]
    reasons = [reason for _, reason in taken.ignored]
    assert "more than 1000 m" in reasons[0]
    assert "older than the 30 days" in reasons[1]
    assert "before the customer allowed" in reasons[2]
    assert take(session, (customer.id, fix(accuracy_m=10_000.0))).stored == 0


def everywhere(session: Session, *needles: str) -> list[str]:
    """Tables, but fences themselves, in which one of the texts stands."""
    tables = session.scalars(
        text("SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT IN"
             " ('geofences', 'spatial_ref_sys', 'audit_log', 'audit_payloads') ORDER BY 1")
    ).all()  # fmt: skip
    return [
        table
        for table in tables
        if session.scalar(
            text(f"SELECT EXISTS (SELECT FROM {table} x WHERE x::text LIKE ANY (:needles))"),
            {"needles": [f"%{needle}%" for needle in needles]},
        )
    ]


def test_a_withdrawn_consent_deletes_positions_events_and_what_was_to_be_told(session: Session) -> None:
    customer, other = make_customer(session), make_customer(session)
    put_circle(session, name="Kiosk Canary")
    webhooks.create(session, SYSTEM, url="http://127.0.0.1:9/", allow_private=True)
    for one in (customer, other):
        allow(session, one)
    for minutes in (10, 9, 8):
        taken = take(session, (customer.id, fix(minutes)))
        take(session, (other.id, fix(minutes, lon=8.6)))
    assert everywhere(session, "8.541234567", "Kiosk Canary") == ["events", "positions"]
    assert session.scalar(text("SELECT count(*) FROM webhook_deliveries WHERE customer_id IS NOT NULL")) == 1
    for one in (customer, other):
        for offer, unit in ((1, "fen_7"), (2, f"cus_{one.id}")):
            session.add(
                models.Exposure(
                    customer_id=one.id, offer_id=offer, version=1, first_at=NOW, held_out=False, hold_out_key="off_1",
                    unit=unit,
                )
            )  # fmt: skip
    session.flush()
    changes.withdraw_consent(session, SYSTEM, customer, "location", "app")
    shown = session.execute(text("SELECT customer_id, unit FROM exposures ORDER BY customer_id, offer_id")).all()
    assert shown == [(customer.id, f"cus_{customer.id}"), (other.id, "fen_7"), (other.id, f"cus_{other.id}")]
    assert everywhere(session, "8.541234567", "Kiosk Canary", "geofence.entered") == []
    payloads = session.scalars(text("SELECT x::text FROM audit_payloads x WHERE x::text LIKE '%8.5412%'")).all()
    assert all("radius_m" in one or "center" in one for one in payloads)
    for table in ("positions", "position_subjects", "geofence_states", "events", "webhook_deliveries"):
        owners = session.scalars(text(f"SELECT DISTINCT customer_id FROM {table} WHERE customer_id IS NOT NULL")).all()
        assert customer.id not in owners, table
    assert session.scalar(text("SELECT count(*) FROM positions")) == 3, "those of the other customer stay"
    with pytest.raises(errors.ConsentRequired):
        take(session, (customer.id, fix(1)))
    assert taken.events == []


def test_other_consents_delete_nothing_of_it(session: Session) -> None:
    customer = make_customer(session)
    put_circle(session)
    allow(session, customer)
    allow(session, customer, "marketing")
    assert [one["type"] for one in take(session, (customer.id, fix(5))).events] == ["geofence.entered"]
    changes.withdraw_consent(session, SYSTEM, customer, "marketing", "app")
    assert session.scalar(text("SELECT count(*) FROM events")) == 1
    (event,) = session.scalars(select(models.Event)).all()
    assert set(event.data) == {
        "customer_id", "geofence", "detected_at", "entered_at", "confidence", "probability", "distance_to_border_m",
    }  # fmt: skip
    assert "8.54" not in str(event.data), "no coordinates"
    assert event.data["distance_to_border_m"] is None  # deep inside
    left = take(session, (customer.id, fix(4, lon=8.7)))
    assert [(one["type"], one["data"]["confidence"]) for one in left.events] == [("geofence.exited", "high")]


def test_a_deleted_fence_says_nothing_more(session: Session) -> None:
    customer = make_customer(session)
    fence = put_circle(session)
    allow(session, customer)
    assert len(take(session, (customer.id, fix(5))).events) == 1
    geofences.delete(session, SYSTEM, "shops", "a")
    assert session.scalar(text("SELECT count(*) FROM geofence_states")) == 0
    assert take(session, (customer.id, fix(4, lon=9.0))).events == []
    assert put_circle(session) == fence
    assert [one["type"] for one in take(session, (customer.id, fix(3))).events] == ["geofence.entered"]


def test_old_positions_and_events_are_deleted_in_chunks(new_database: Callable[[], Database]) -> None:
    database = new_database()
    with database.writing() as session:
        customer, idle = make_customer(session), make_customer(session)
        put_circle(session)
        for one in (customer, idle):
            allow(session, one)
        day = 24 * 60.0
        take(session, *[(customer.id, fix(days * day)) for days in (50, 40, 31, 29, 1)])
        take(session, (idle.id, fix(60 * day)))
        session.execute(text("UPDATE events SET created_at = :at"), {"at": NOW - timedelta(days=91)})
        take(session, (customer.id, fix(0.5, lon=9.0)))
    counts = positions.expire(database, now=NOW, keep_days=30.0, event_days=90.0, chunk=2)
    assert counts == {"positions": 4, "events": 2, "customers": 1}
    with database.reading() as session, pytest.raises(Exception, match="permission denied"):
        session.execute(text("SELECT * FROM positions"))  # nobody reads them through the API
    with database.writing() as session:
        kept = session.execute(text("SELECT customer_id, recorded_at FROM positions")).all()
        assert {row.customer_id for row in kept} == {customer.id}
        assert min(row.recorded_at for row in kept) > NOW - timedelta(days=30)
        assert session.scalars(text("SELECT DISTINCT customer_id FROM geofence_states")).all() == []
        assert session.scalar(text("SELECT type FROM events")) == "geofence.exited"


def test_a_batch_and_a_withdrawal_at_once_leave_nothing(new_database: Callable[[], Database]) -> None:
    database = new_database()
    with database.writing() as session:
        customer = make_customer(session)
        put_circle(session)
        allow(session, customer)
    began, withdrawn = threading.Event(), threading.Event()

    def withdraw() -> None:
        with database.writing() as session:
            opened = session.get_one(models.Customer, customer.id)
            began.set()
            changes.withdraw_consent(session, SYSTEM, opened, "location", "app")
        withdrawn.set()

    thread = threading.Thread(target=withdraw)
    with database.writing() as session:
        assert len(take(session, (customer.id, fix(5))).events) == 1
        thread.start()
        assert began.wait(10)
        assert not withdrawn.wait(0.5), "it waits for the batch, whose consent it would take"
    thread.join(10)
    assert withdrawn.is_set()
    with database.writing() as session:
        assert everywhere(session, "8.541234567", "geofence.entered") == []
        with pytest.raises(errors.ConsentRequired):
            take(session, (customer.id, fix(4)))
