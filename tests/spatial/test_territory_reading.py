"""What is read of territories: sales as was and restated, points, what a reader sees."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from geocrm import access
from geocrm.access import SYSTEM, Actor
from geocrm.db import models
from geocrm.errors import (
    Invalid,
    TooLarge,
)
from geocrm.spatial import handover, layers, territories
from tests.makers import actor_of, make_customer, make_sale, make_site, make_user
from tests.spatial.two_squares import NOW, Sales, day


def test_sales_as_was_and_restated(session: Session, sales: Sales, as_user: Callable[[Actor], Any]) -> None:
    customer = make_customer(session, 0.5, 0.5)
    far = make_site(session, customer, 60, 60)
    sales.evaluate(customer)
    make_sale(session, customer, "10", occurred_at=day(-40))
    make_sale(session, customer, "20", occurred_at=day(-5))
    make_sale(session, customer, "5", occurred_at=day(-5), currency="EUR")
    make_sale(session, customer, "3", occurred_at=day(-5), site_id=far.id)
    draft = sales.draft()
    layers.name_accounts(session, sales.layer.id, draft, [(customer.id, sales.east)], actor=SYSTEM)
    sales.publish(draft, effective_from=day(-10))

    def report(basis: Any) -> list[tuple[Any, ...]]:
        rows = territories.sales_by_territory(
            session, sales.layer.id, day(-365), NOW, basis=basis, period="year", now=NOW
        )
        return [(r.area_id, r.currency, r.amount, r.sales) for r in rows]

    assert report("as_was") == [
        (sales.west, "USD", Decimal(10), 1), (sales.east, "EUR", Decimal(5), 1), (sales.east, "USD", Decimal(23), 2),
    ]  # fmt: skip
    assert report("restated") == [(sales.east, "EUR", Decimal(5), 1), (sales.east, "USD", Decimal(33), 3)]
    with as_user(actor_of(session, make_user(session))):
        assert report("as_was") == []
    with pytest.raises(Invalid):
        report("guessed")


def test_sales_without_a_site_are_those_of_the_primary_site_of_their_time(session: Session, sales: Sales) -> None:
    customer = make_customer(session, 0.5, 0.5)
    third, second = make_site(session, customer, 1.5, 0.5), make_site(session, customer, 60, 60)
    is_primary = (models.Site.customer_id == customer.id, models.Site.is_primary)
    was = session.scalars(select(models.Site).where(*is_primary)).one()
    sales.evaluate(customer)
    for until, site in ((day(-30), was), (day(-20), second)):
        session.add(models.FormerPrimarySite(customer_id=customer.id, until=until, site_id=site.id))
    was.is_primary, third.is_primary = False, True
    for amount, when in (("1", day(-40)), ("20", day(-30)), ("300", day(-21)), ("4000", day(-20)), ("50000", day(-5))):
        make_sale(session, customer, amount, occurred_at=when)
    make_sale(session, customer, "600000", occurred_at=day(-40), site_id=third.id)

    def report(basis: Any) -> dict[int | None, Decimal]:
        rows = territories.sales_by_territory(
            session, sales.layer.id, day(-365), NOW, basis=basis, period="year", now=NOW
        )
        return {row.area_id: row.amount for row in rows}

    assert report("as_was") == {sales.west: Decimal(1), None: Decimal(320), sales.east: Decimal(654000)}
    assert report("restated") == {sales.east: Decimal(654321)}


def test_reading_shows_what_the_actor_sees(session: Session, sales: Sales, as_user: Callable[[Actor], Any]) -> None:
    customer = make_customer(session, 0.5, 0.5)
    sales.evaluate(customer)
    rep = make_user(session)
    with as_user(actor_of(session, rep)):
        assert territories.history(session, customer.id) == []
        assert len(territories.at(session, 0.5, 0.5, as_of=NOW)) == 1  # whose an area is, everybody may know
    handover.set_owner(session, sales.west, owner_id=rep.id, team_id=None, actor=SYSTEM, reason="plan", now=NOW)
    with as_user(actor_of(session, rep)):
        assert [h.area_id for h in territories.history(session, customer.id)] == [sales.west]


def test_the_hot_function_answers_like_the_domain(session: Session, sales: Sales) -> None:
    rep = make_user(session, "rep")
    handover.set_owner(session, sales.west, owner_id=rep.id, team_id=None, actor=SYSTEM, reason="plan", now=day(-3))
    token, digest = access.new_token()
    session.add(models.UserSession(digest=digest, user_id=rep.id, csrf_token="x", expires_at=day(9999)))
    session.flush()
    session.execute(text("SET LOCAL ROLE geocrm_api"))
    query = text("SELECT geocrm_territories_at(:digest, :lon, :lat, CAST(:as_of AS timestamptz))")
    values = {"digest": digest, "lon": 0.5, "lat": 0.5, "as_of": NOW}
    assert session.scalar(query, values) == {
        "data": [
            {
                "layer": {"id": f"lay_{sales.layer.id}", "key": "sales", "name": sales.layer.name, "is_primary": True},
                "area": {"id": f"ter_{sales.west}", "name": "West"},
                "owner": {"id": f"usr_{rep.id}", "name": rep.name},
                "team": None,
                "basis": "polygon",
                "reason": "initial import",
                "since": "2024-01-01T00:00:00Z",
                "until": None,
                "layer_version": 1,
            }
        ]
    }
    shown = territories.as_shown(territories.at(session, 0.5, 0.5, as_of=NOW)[0])
    assert shown | {"since": "2024-01-01T00:00:00Z"} == session.scalar(query, values)["data"][0]
    assert shown["since"] == datetime(2024, 1, 1, tzinfo=UTC)
    outside = session.scalar(query, values | {"lon": 50})["data"][0]
    said = {"layer", "basis"}  # and nothing that would be invented
    assert outside == dict.fromkeys(outside, None) | {name: outside[name] for name in said}
    assert (outside["layer"]["key"], outside["basis"]) == ("sales", "none")
    assert session.scalar(query, values | {"as_of": datetime(2023, 1, 1, tzinfo=UTC)}) == {"data": []}
    assert token


def test_a_key_without_exact_places_is_answered_for_the_grid(session: Session, sales: Sales) -> None:
    user = make_user(session, "administrator")
    _, digest = access.new_token("gk_")
    session.add(
        models.ApiKey(user_id=user.id, name="k", prefix="gk", digest=digest, scopes=["customers:read"], created_at=NOW)
    )
    session.flush()
    snapped = session.execute(
        text("SELECT ST_X(p), ST_Y(p) FROM geocrm_snap(ST_SetSRID(ST_MakePoint(0.9999, 0.5), 4326)) p")
    ).one()
    expected = "West" if snapped[0] <= 1 else "East"
    found = session.scalar(
        text("SELECT geocrm_territories_at(:digest, 0.9999, 0.5, CAST(:as_of AS timestamptz))"),
        {"digest": digest, "as_of": NOW},
    )
    assert found["data"][0]["area"]["name"] == expected


def test_points_are_checked(session: Session) -> None:
    with pytest.raises(Invalid, match="lon, lat"):
        territories.at(session, float("nan"), 0)
    with pytest.raises(Invalid):
        territories.at_points(session, [0, 1], [0])
    with pytest.raises(TooLarge):
        territories.at_points(session, [0] * 1001, [0] * 1001)
    assert territories.at_points(session, [], []) == []
