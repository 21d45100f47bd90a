"""Indexes serve the hot lookup of offers: for an administrator, for a manager, and for a rep who sees 1 % of the
customers.

Plans are read from auto_explain, because the statements run inside SQL functions."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy import text

from geocrm import access
from geocrm.access import SYSTEM
from geocrm.campaigns import geofences, offers
from geocrm.db import models
from geocrm.db.engine import Database
from tests.makers import make_team, make_user
from tests.plans import touched

CUSTOMERS = 20_000
FENCES = 3_000
OFFERS = 12
LARGE = ("customers", "geofences", "consents", "redemptions", "exposures", "audience_members")
Plans = Callable[..., list[str]]


def furnish(database: Database) -> dict[str, bytes]:
    """Fences of three tags on a grid, offers that name them, facts of every customer; the digests of keys by role."""
    digests = {}
    with database.writing() as session:
        team = make_team(session)
        rep = make_user(session, "rep", team_id=team.id)
        for user in (make_user(session, "administrator"), make_user(session, "manager", team_id=team.id), rep):
            token, digest = access.new_token("gk_")
            session.add(models.ApiKey(user_id=user.id, name="plans", prefix=token[:10], digest=digest,
                                      scopes=["offers:redeem"]))  # fmt: skip
            digests[user.role] = digest
        for statement in (
            "INSERT INTO customers (id, kind, name, stage, owner_id) OVERRIDING SYSTEM VALUE"
            " SELECT i, 'person', 'C' || i, 'active', CASE WHEN i % 100 = 7 THEN :rep END"
            " FROM generate_series(1, :customers) i",
            "INSERT INTO consents (customer_id, purpose, channel, granted_at)"
            " SELECT i, 'marketing', 'app', '2026-01-01' FROM generate_series(1, :customers) i",
            "INSERT INTO geofences (tag, external_id, kind, geometry, center, radius_m, metadata, digest, revision)"
            " SELECT 'tag' || i % 3, i, 'circle', ST_Multi(ST_Expand(p, 0.02)), p, 1500, '{}', i, 1"
            " FROM generate_series(1, :fences) i,"
            " ST_SetSRID(ST_MakePoint(-110 + i / 55 * 0.05, 30 + i % 55 * 0.05), 4326) p",
        ):
            session.execute(text(statement), {"rep": rep.id, "customers": CUSTOMERS, "fences": FENCES})
        names = session.scalars(text("SELECT tag || '/' || external_id FROM geofences ORDER BY id")).all()
        for number in range(OFFERS):
            where = [{"geofence": name} for name in names[number * 200 : number * 200 + 200]]
            made = offers.create_offer(
                session, actor=SYSTEM, name="Coffee", title="Coffee", ends_at=datetime.now(UTC) + timedelta(days=9),
                cap_per_customer=3, areas=[{"geofence_tag": "tag1"}] if number == 0 else where,
                audience={"field": "stage", "op": "=", "value": "active"}, hold_out_share=0.1,
            )  # fmt: skip
            offers.go_live(session, made.id, actor=SYSTEM)
        session.execute(
            text("INSERT INTO redemptions (customer_id, offer_id, version, idempotency_key, redeemed_at)"
                 " SELECT i, (SELECT min(id) FROM offers), 1, i, now() FROM generate_series(1, :customers) i"),
            {"customers": CUSTOMERS},
        )  # fmt: skip
        session.execute(
            text(
                "INSERT INTO exposures SELECT customer_id, offer_id, 1, now(), false, 'off_1', 'cus_1' FROM redemptions"
            )
        )
        geofences.put(session, SYSTEM, "rare", "one", {"center": {"lon": -109.0, "lat": 31.0}, "radius_m": 900.0})
    return digests


@pytest.fixture(scope="module")
def plans(new_database: Callable[[], Database]) -> Iterator[Plans]:
    """`plans(role, lon, explain)`: the plans of everything that the lookup runs on large tables, as that role's key."""
    database = new_database()
    digests = furnish(database)
    with psycopg.connect(database.conninfo("admin"), autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        connection.execute("LOAD 'auto_explain'")
        for setting in (
            "auto_explain.log_min_duration = 0", "auto_explain.log_nested_statements = on",
            "auto_explain.log_analyze = on", "auto_explain.log_timing = off", "client_min_messages = log", "jit = off",
        ):  # fmt: skip
            connection.execute(f"SET {setting}")  # type: ignore[arg-type]
        heard: list[str] = []
        connection.add_notice_handler(lambda notice: heard.append(notice.message_primary or ""))

        def run(role: str, lon: float, explain: bool) -> list[str]:
            heard.clear()
            connection.execute("SET ROLE geocrm_api")
            row = connection.execute(
                "SELECT geocrm_hot_offers(%s, 107, %s, 31.0, NULL, 20, %s, true, 0, 100)", (digests[role], lon, explain)
            ).fetchone()
            connection.execute("RESET ROLE")
            assert row is not None
            told = row[0]
            assert explain == bool(told["others"])
            assert explain or any(one["where"]["geofence"] for one in told["data"])
            return [plan for plan in heard if any(f" on {table} " in plan for table in LARGE)]

        yield run


@pytest.mark.parametrize("role", ["administrator", "manager", "rep"])
def test_indexes_serve_what_holds_here(plans: Plans, role: str) -> None:
    """The fences of the point by the index of their shapes alone, facts by the customer's key: a handful of rows."""
    seen = plans(role, -109.0, False)
    assert not [plan for plan in seen if re.search(rf"Seq Scan on ({'|'.join(LARGE)}) ", plan)]
    assert any("using ix_geofences_geometry" in plan and "(geometry && " in plan for plan in seen)
    assert not [plan for plan in seen if "ix_geofences_tag_geometry" in plan]  # all of it would be searched
    assert touched(seen, "geofences") <= 12, "\n".join(seen)
    assert sum(touched(seen, table) for table in LARGE) <= 60, "\n".join(seen)


def test_the_nearest_of_a_tag_is_found_through_its_own_index(plans: Plans) -> None:
    seen = plans("rep", -120.0, True)  # far from every fence
    assert not [plan for plan in seen if re.search(rf"Seq Scan on ({'|'.join(LARGE)}) ", plan)]
    ordered = [plan for plan in seen if "using ix_geofences_tag_geometry" in plan]
    assert any("Order By: (geometry <->" in plan and "Index Cond: (tag = " in plan for plan in ordered)
