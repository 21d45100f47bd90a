"""The lookup rows and the pyramid follow: by small steps, in bulk and rebuilt, and all ways agree."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import access
from geocrm.db import models
from geocrm.db.engine import Database
from geocrm.spatial import lookup, nearby
from tests.makers import make_customer, make_site

ROWS = (
    "SELECT customer_id, site_id, ST_AsText(location), stage, kind, owner_id, territory_id, segment_id, is_primary,"
    " location_precision, precision_m FROM site_lookup ORDER BY 1, 2"
)
WANTED = (
    "SELECT s.customer_id, s.id, ST_AsText(s.location), c.stage, c.kind, c.owner_id, s.territory_id, NULL,"
    " s.is_primary, s.location_precision, s.precision_m FROM sites s JOIN customers c ON c.id = s.customer_id"
    " WHERE s.placement = 'placed' AND c.erased_at IS NULL ORDER BY 1, 2"
)


def cells(session: Session) -> Counter[Any]:
    """Counts per cell and dimension, deltas included."""
    made: Counter[Any] = Counter()
    for row in session.execute(
        text(
            "SELECT level, cell, stage, kind, owner_id, territory_id, segment_id, n FROM site_cells UNION ALL"
            " SELECT level, cell, stage, kind, owner_id, territory_id, segment_id, n FROM site_cell_deltas"
        )
    ):
        made[tuple(row)[:-1]] += int(row.n)
    return +made


def counted(session: Session) -> Counter[Any]:
    """The same from the lookup rows."""
    made: Counter[Any] = Counter()
    for row in session.execute(
        text(
            "SELECT level, geocrm_cell(location, level) AS cell, stage, kind, owner_id, territory_id, segment_id"
            " FROM site_lookup CROSS JOIN (VALUES (8), (11), (14), (17)) AS p(level)"
            " WHERE geocrm_cell(location, level) IS NOT NULL"
        )
    ):
        made[tuple(row)] += 1
    return made


def check(session: Session) -> None:
    """Rows are those of customers and sites; cells are those of the rows."""
    assert [tuple(r) for r in session.execute(text(ROWS))] == [tuple(r) for r in session.execute(text(WANTED))]
    assert cells(session) == counted(session)


def test_random_edits(session: Session) -> None:
    """After any sequence of edits, refreshed by ids, in bulk or rebuilt, rows and counts are right."""
    seed = int(np.random.SeedSequence().entropy % 2**32)
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    people = [
        make_customer(
            session, float(rng.uniform(-180, 180)), float(rng.uniform(-90, 90)), owner_id=int(rng.integers(1, 4))
        )
        for _ in range(40)
    ]
    lookup.refresh(session, [p.id for p in people])
    check(session)
    for step in range(12):
        touched = [people[int(i)] for i in rng.choice(len(people), 6, replace=False)]
        for customer in touched:
            match int(rng.integers(6)):
                case 0:
                    customer.stage = str(rng.choice(["prospect", "lead", "active", "lapsed"]))
                case 1:
                    customer.owner_id = None if rng.random() < 0.3 else int(rng.integers(1, 4))
                case 2:
                    make_site(session, customer, float(rng.uniform(-180, 180)), float(rng.uniform(-90, 90)))
                case 3:
                    session.execute(
                        text(
                            "UPDATE sites SET location = ST_SetSRID(ST_MakePoint(:x, :y), 4326) WHERE customer_id = :i"
                        ),
                        {"x": float(rng.uniform(-180, 180)), "y": float(rng.uniform(-90, 90)), "i": customer.id},
                    )
                case 4:
                    session.execute(
                        text(
                            "UPDATE sites SET placement = CASE placement WHEN 'placed' THEN 'flagged' ELSE 'placed'"
                            " END, territory_id = :t WHERE customer_id = :i AND location IS NOT NULL"
                        ),
                        {"t": int(rng.integers(1, 4)), "i": customer.id},
                    )
                case 5:
                    session.execute(text("UPDATE customers SET erased_at = now() WHERE id = :i"), {"i": customer.id})
        session.flush()
        match step % 4:
            case 0 | 1:
                lookup.refresh(session, [c.id for c in touched])
            case 2:
                session.execute(text("CREATE TEMP TABLE changed_customers (customer_id bigint PRIMARY KEY)"))
                session.execute(
                    text("INSERT INTO changed_customers SELECT unnest(CAST(:ids AS bigint[]))"),
                    {"ids": [c.id for c in touched]},
                )
                lookup.refresh_bulk(session)
                session.execute(text("DROP TABLE changed_customers"))
            case 3:
                assert lookup.rebuild(session) == session.scalar(text(f"SELECT count(*) FROM ({WANTED}) AS w"))
        check(session)
        if rng.random() < 0.4:
            before = cells(session)
            lookup.merge_cells(session)
            assert cells(session) == before
            assert session.scalar(text("SELECT count(*) FROM site_cell_deltas")) == 0


def test_the_version_changes_with_the_rows_only(session: Session) -> None:
    """Another version after a change, the same after a refresh that changed nothing."""
    customer = make_customer(session, 7.0, 46.0)
    lookup.refresh(session, [customer.id])
    first = lookup.version(session)
    assert lookup.refresh(session, [customer.id]) == 0
    assert lookup.version(session) == first
    session.execute(text("UPDATE sites SET location = ST_SetSRID(ST_MakePoint(7.0000001, 46), 4326)"))
    assert lookup.refresh(session, [customer.id]) == 1
    assert lookup.version(session) != first


def test_segments_stay(session: Session) -> None:
    """A customer's segment of the active segmentation stands on all its sites, and on a new one."""
    customer = make_customer(session, 7.0, 46.0)
    lookup.refresh(session, [customer.id])
    active = models.Segmentation(key="rfm", name="RFM", method="rfm", is_active=True, current_run_id=3)
    session.add(active)
    for run, segment in ((2, 4), (3, 5)):
        session.add(models.SegmentMember(customer_id=customer.id, run_id=run, segment_id=segment))
    make_site(session, customer, 8.0, 46.0)
    lookup.refresh(session, [customer.id])
    assert session.scalars(text("SELECT segment_id FROM site_lookup")).all() == [5, 5]
    lookup.rebuild(session)
    assert session.scalars(text("SELECT segment_id FROM site_lookup")).all() == [5, 5]
    active.is_active = False
    lookup.refresh(session, [customer.id])
    assert session.scalars(text("SELECT segment_id FROM site_lookup")).all() == [None, None]


def test_a_new_generation_is_like_the_old_one(new_database: Callable[[], Database]) -> None:
    """After the flip: the same indexes, policies and grants; readers under row security see it, edits go on."""
    database = new_database()
    describe = text(
        "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid IN ('site_lookup'::regclass,"
        " 'site_cells'::regclass) UNION ALL SELECT tablename || policyname || cmd || roles::text || qual FROM"
        " pg_policies UNION ALL SELECT relname || relrowsecurity || relforcerowsecurity || array_to_string(ARRAY("
        "SELECT a::text FROM unnest(relacl) a ORDER BY 1), ',') FROM pg_class WHERE relname IN ('site_lookup',"
        " 'site_cells',"
        " 'site_cells_id_seq') UNION ALL SELECT conname FROM pg_constraint WHERE conrelid IN ('site_lookup'::regclass,"
        " 'site_cells'::regclass) ORDER BY 1"
    )
    with database.writing() as session:
        before = session.scalars(describe).all()
        customer = make_customer(session, 7.0, 46.0, owner_id=3).id
    for _ in range(2):
        with database.writing() as session:
            lookup.rebuild(session)
    with database.writing() as session:
        after = session.scalars(describe).all()
        assert [line for line in after if "_id_seq" not in line] == [line for line in before if "_id_seq" not in line]
        session.execute(text("UPDATE customers SET stage = 'lapsed'"))
        assert lookup.refresh(session, [customer]) == 1
        assert lookup.merge_cells(session) > 0
    with database.reading() as session:
        assert session.scalar(text("SELECT count(*) FROM site_lookup")) == 0
        access.enter(session, access.Actor(user_id=3, name="rep", role="rep", owners=(3,)))
        assert session.scalar(text("SELECT count(*) FROM site_lookup")) == 1
        assert session.scalar(text("SELECT sum(n) FROM site_cells")) == 4


def test_two_at_once(new_database: Callable[[], Database]) -> None:
    """Two transactions that change one customer follow each other; the lookup ends with what both wrote."""
    database = new_database()
    with database.writing() as session:
        customer = make_customer(session, 7.0, 46.0, owner_id=1).id
        lookup.refresh(session, [customer])
    ready = threading.Event()

    def second() -> None:
        with database.writing() as other:
            ready.set()
            other.execute(text("UPDATE customers SET stage = 'lapsed' WHERE id = :i"), {"i": customer})
            lookup.refresh(other, [customer])

    thread = threading.Thread(target=second)
    with database.writing() as session:
        session.execute(text("UPDATE sites SET territory_id = 9 WHERE customer_id = :i"), {"i": customer})
        lookup.refresh(session, [customer])
        thread.start()
        ready.wait(10)
        thread.join(0.3)
        assert thread.is_alive()  # it waits for this transaction
    thread.join(20)
    with database.writing() as session:
        check(session)
        assert session.execute(text("SELECT stage, territory_id FROM site_lookup")).one() == ("lapsed", 9)
        assert [r["stage"] for r in nearby.find_near(session, access.SYSTEM, 7, 46).data] == ["lapsed"]
