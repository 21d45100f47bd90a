"""Offers from draft to end, what stands in their way, and what is redeemed."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import access
from geocrm.access import SYSTEM, Actor
from geocrm.campaigns import audiences, eligibility, holdouts, offers, redemptions, results
from geocrm.crm import changes, places
from geocrm.db import models
from geocrm.errors import Conflict, Forbidden, Invalid, NotFound
from geocrm.spatial import areas, layers, territories
from tests.makers import actor_of, make_customer, make_place, make_sale, make_user, square

NOW = datetime(2026, 6, 3, 10, tzinfo=UTC)  # a Wednesday
WEEK = timedelta(days=7)
AsUser = Callable[[Actor], AbstractContextManager[Session]]


def make_offer(session: Session, *, live: bool = True, **values: Any) -> models.Offer:
    """An offer for everybody everywhere for a week, without consent, unless said otherwise."""
    given = {"title": "A coffee", "ends_at": NOW + WEEK, "consent_purpose": None, "starts_at": NOW - WEEK} | values
    made = offers.create_offer(session, actor=SYSTEM, name=given.pop("name", "Coffee"), **given)
    return offers.go_live(session, made.id, actor=SYSTEM, moment=NOW) if live else made


def judged(
    session: Session, customer: models.Customer, lon: float | None = 0, lat: float | None = 0, at: datetime = NOW
) -> dict[int, tuple[str, ...]]:
    with access.as_user(session, SYSTEM):
        found = eligibility.judge(session, customer.id, lon, lat, moment=at, explain=True)
    return {one.offer_id: one.reasons for one in found}


def make_area(session: Session, kind: str, key: str, geometry: Any) -> int:
    """A published layer of one area; the area's id."""
    layer = layers.create_layer(session, key=key, name=key, kind=kind, actor=SYSTEM)
    draft = layers.create_draft(session, layer.id, actor=SYSTEM).version
    area = areas.put_area(session, layer.id, draft, actor=SYSTEM, name=key, geometry=geometry).area_id
    territories.publish(session, layer.id, draft, actor=SYSTEM, reason="first", effective_from=NOW - WEEK)
    return area


def test_from_draft_to_live_to_a_new_version_to_the_end(session: Session) -> None:
    customer = make_customer(session, 0, 0)
    offer = make_offer(session, live=False)
    assert offers.status_of(offer) == "draft"
    assert judged(session, customer) == {}
    offers.go_live(session, offer.id, actor=SYSTEM, moment=NOW)
    assert offers.status_of(offer) == "live"
    assert judged(session, customer) == {offer.id: ()}

    offers.edit_offer(session, offer.id, actor=SYSTEM, title="A large coffee", cap_total=3)
    assert (offer.live_version, offer.draft_version) == (1, 2)
    assert offers.get_version(session, offer.id, 1).version.title == "A coffee"  # not under a customer's feet
    offers.edit_offer(session, offer.id, actor=SYSTEM, cap_total=4)
    assert offer.draft_version == 2
    offers.go_live(session, offer.id, actor=SYSTEM, moment=NOW + timedelta(hours=1))
    one, two = reversed(offers.find_versions(session, offer.id))
    assert (one.version.live_until, two.version.live_from) == (NOW + timedelta(hours=1),) * 2
    assert (two.version.title, two.version.cap_total, two.version.ends_at) == ("A large coffee", 4, one.version.ends_at)

    with pytest.raises(Conflict):
        offers.go_live(session, offer.id, actor=SYSTEM)
    with pytest.raises(Conflict):  # others would be held out
        offers.edit_offer(session, offer.id, actor=SYSTEM, campaign_id=3)
    offers.edit_offer(session, offer.id, actor=SYSTEM, title="Tea")
    assert offers.discard_draft(session, offer.id, actor=SYSTEM)
    assert offer.draft_version is None
    offers.end_offer(session, offer.id, actor=SYSTEM)
    assert judged(session, customer) == {}
    for act in (offers.end_offer, offers.edit_offer, offers.discard_draft, offers.go_live):
        with pytest.raises(Conflict):
            act(session, offer.id, actor=SYSTEM)  # type: ignore[operator]
    never = make_offer(session, live=False)
    assert not offers.discard_draft(session, never.id, actor=SYSTEM)
    with pytest.raises(NotFound):
        offers.get_offer(session, never.id)


@pytest.mark.parametrize(
    ("values", "pointer"),
    [
        pytest.param({"ends_at": None}, "/ends_at", id="an offer without end"),
        ({"ends_at": NOW - timedelta(days=1)}, "/ends_at"),
        ({"ends_at": NOW + timedelta(days=4000)}, "/ends_at"),
        ({"title": None}, "/title"),
        ({"closed_on": [date(2026, 6, 4)]}, "/time_zone"),
        ({"hours": [{"days": ["mon"], "from": "09:00", "to": "10:00"}]}, "/time_zone"),
        ({"hours": [{"days": ["mon"], "from": "09:00", "to": "10:00"}], "time_zone": "UTC",
          "ends_at": NOW + timedelta(days=2)}, "/hours"),
        ({"closed_on": [date(2026, 6, 3)], "time_zone": "UTC", "ends_at": NOW + timedelta(hours=3)}, "/hours"),
        ({"cap_total": 2, "cap_per_customer": 3}, "/cap_per_customer"),
        ({"hold_out_share": 0.1, "hold_out_unit": "area"}, "/hold_out_unit"),
        pytest.param(
            {"audience": {"field": "name", "op": "=", "value": "nobody"}}, "/audience", id="an empty audience"
        ),
        ({"areas": [{"place_kind": "depot", "radius_m": 100}]}, "/areas/0"),
    ],
)  # fmt: skip
def test_what_stands_in_the_way(session: Session, values: dict[str, Any], pointer: str) -> None:
    offer = make_offer(session, live=False, **values)
    assert [fault["pointer"] for fault in offers.check_draft(session, offer.id, moment=NOW)] == [pointer]
    with pytest.raises(Invalid) as caught:
        offers.go_live(session, offer.id, actor=SYSTEM, moment=NOW)
    assert caught.value.errors[0]["pointer"] == pointer
    assert offers.status_of(offer) == "draft"


@pytest.mark.parametrize(
    ("values", "pointer"),
    [
        ({"cap_total": 0}, "/cap_total"),
        ({"cap_per_customer": -1}, "/cap_per_customer"),
        ({"hold_out_share": 0.95}, "/hold_out_share"),
        ({"time_zone": "Mars/Olympus"}, "/time_zone"),
        ({"hours": []}, "/hours"),
        ({"product_ids": [999_999_999]}, "/product_ids/0"),
        ({"starts_at": NOW + 2 * WEEK}, "/ends_at"),
        ({"audience": {"field": "nothing", "op": "=", "value": 1}}, "/audience/field"),
        ({"areas": [{}]}, "/areas/0"),
        ({"areas": [{"area_id": 999_999_999}]}, "/areas/0/area_id"),
        ({"areas": [{"place_id": 999_999_999, "radius_m": 5}]}, "/areas/0/place_id"),
        ({"areas": [{"place_kind": "own"}]}, "/areas/0/radius_m"),
        ({"areas": [{"place_kind": "kiosk", "radius_m": 5}]}, "/areas/0/place_kind"),
        ({"areas": [{"place_kind": "own", "radius_m": 200_000}]}, "/areas/0/radius_m"),
    ],
)
def test_what_cannot_be_written(session: Session, values: dict[str, Any], pointer: str) -> None:
    with pytest.raises(Invalid) as caught:
        make_offer(session, live=False, **values)
    assert [fault["pointer"] for fault in caught.value.errors] == [pointer]


def test_who_may(session: Session) -> None:
    rep, analyst = (actor_of(session, make_user(session, role)) for role in ("rep", "analyst"))
    values = {"name": "Tea", "title": "Tea", "ends_at": NOW + WEEK}
    with pytest.raises(Forbidden):
        offers.create_offer(session, actor=rep, **values)
    draft = offers.create_offer(session, actor=analyst, **values)
    with pytest.raises(Forbidden):
        offers.go_live(session, draft.id, actor=analyst, moment=NOW)


def test_why_not(session: Session) -> None:
    """Each reason alone, and all that apply together."""
    inside = make_area(session, "territories", "sales", square(0, 0, 0.5))
    customer = make_customer(session, 0, 0, attributes={"plan": "gold"})
    plan = {"field": "attributes.plan", "op": "=", "value": "silver"}
    make_customer(session, 5, 5, attributes={"plan": "silver"})
    zone = {"time_zone": "Europe/Zurich"}
    held = next(n for n in range(1, 1000) if holdouts.is_held_out(f"cam_{n}", f"cus_{customer.id}", 0.5))
    cases = {
        (): {"areas": [{"area_id": inside}], "audience": {"field": "stage", "op": "=", "value": "active"}},
        ("not_started",): {"starts_at": NOW + timedelta(hours=1)},
        ("closed",): {"hours": [{"days": ["wed"], "from": "13:00", "to": "14:00"}], **zone},
        ("not_in_audience",): {"audience": plan},
        ("no_consent",): {"consent_purpose": "marketing"},
        ("held_out",): {"campaign_id": held, "hold_out_share": 0.5},
        ("closed", "not_in_audience", "no_consent"): {
            "closed_on": [date(2026, 6, 3)], "audience": plan, "consent_purpose": "marketing", **zone,
        },
    }  # fmt: skip
    expected = {make_offer(session, **values).id: reasons for reasons, values in cases.items()}
    assert judged(session, customer) == expected
    (offer,) = [number for number, reasons in expected.items() if reasons == ()]
    assert judged(session, customer, 0.9, 0)[offer] == ("outside",)
    assert judged(session, customer, None, None)[offer] == ("no_position",)
    assert judged(session, customer, at=NOW + WEEK)[offer] == ("over",)
    with access.as_user(session, SYSTEM):
        (one,) = eligibility.judge(session, customer.id, 0.9, 0, moment=NOW, explain=True, offer_id=offer)
    assert one.distance_m == pytest.approx(0.4 * 111_319.49, abs=1)  # along the equator


def test_areas_of_every_kind_of_layer_and_places(session: Session) -> None:
    customer = make_customer(session, 0, 0)
    shop = make_place(session, 179.9999, 10.0)
    make_place(session, -179.99, 10.0)
    ids = {kind: make_area(session, kind, f"k{kind}", square(30, 10, 1)) for kind in ("trading_areas", "reference")}
    by_area = {kind: make_offer(session, areas=[{"area_id": number}]).id for kind, number in ids.items()}
    one = make_offer(session, areas=[{"place_id": shop.id, "radius_m": 500}]).id
    kind = make_offer(session, areas=[{"area_id": ids["reference"]}, {"place_kind": "own", "radius_m": 700}]).id
    at_area = judged(session, customer, 30.5, 10.5)
    assert all(at_area[number] == () for number in (*by_area.values(), kind))
    assert at_area[one] == ("outside",)
    across = judged(session, customer, -179.9999, 10.0)  # 22 m over the date line
    assert across[one] == across[kind] == ()
    beside = judged(session, customer, -179.995, 10.0)  # 560 m from the one, 548 m from the other
    assert beside[one] == ("outside",)
    assert beside[kind] == ()
    session.execute(text("UPDATE places SET placement = 'flagged' WHERE id = :id"), {"id": shop.id})
    assert judged(session, customer, -179.9999, 10.0)[one] == ("outside",)


def test_ranked_by_priority_then_nearness_then_end(session: Session) -> None:
    make_place(session, 0, 0)
    customer = make_customer(session, 0, 0)
    area = make_area(session, "reference", "all", square(0, 0, 1))
    later = make_offer(session, ends_at=NOW + 2 * WEEK).id
    soon = make_offer(session).id
    zone = make_offer(session, areas=[{"area_id": area}]).id
    shop = make_offer(session, areas=[{"place_kind": "own", "radius_m": 50}]).id
    first = make_offer(session, priority=5, ends_at=NOW + 3 * WEEK).id
    assert list(judged(session, customer)) == [first, shop, zone, soon, later]


def test_a_hold_out_stays_as_it_was_first_decided(session: Session) -> None:
    """By campaign: all its offers, and those of a later share too."""
    people = [make_customer(session, 0, 0) for _ in range(60)]
    one = make_offer(session, campaign_id=7, hold_out_share=0.3)
    two = make_offer(session, campaign_id=7, hold_out_share=0.3)
    other = make_offer(session, hold_out_share=0.3)
    for person in people:
        out = judged(session, person)
        assert out[one.id] == out[two.id]
        assert (out[one.id] == ("held_out",)) == holdouts.is_held_out("cam_7", f"cus_{person.id}", 0.3)
        assert (out[other.id] == ("held_out",)) == holdouts.is_held_out(f"off_{other.id}", f"cus_{person.id}", 0.3)
    person = next(p for p in people if judged(session, p)[one.id] == ())
    redemptions.redeem(session, one.id, person.id, actor=SYSTEM, key="a", moment=NOW)  # shown, so decided
    with pytest.raises(Invalid) as caught:  # one campaign, one hold-out
        make_offer(session, campaign_id=7, hold_out_share=0.2)
    assert caught.value.errors[0]["pointer"] == "/hold_out_share"
    offers.end_offer(session, one.id, actor=SYSTEM)
    offers.edit_offer(session, two.id, actor=SYSTEM, hold_out_share=0.9)
    offers.go_live(session, two.id, actor=SYSTEM, moment=NOW)
    assert judged(session, person)[two.id] == ()
    drawn = [judged(session, p)[two.id] for p in people if p is not person]
    assert drawn.count(("held_out",)) > 40


def test_areas_are_held_out_whole(session: Session) -> None:
    places = [make_place(session, lon, 0) for lon in range(40)]
    offer = make_offer(
        session, hold_out_share=0.4, hold_out_unit="area", areas=[{"place_kind": "own", "radius_m": 1000}]
    )
    people = [make_customer(session, 0, 0) for _ in range(3)]
    for place, lon in zip(places, range(40), strict=True):
        expected = ("held_out",) if holdouts.is_held_out(f"off_{offer.id}", f"pla_{place.id}", 0.4) else ()
        assert {judged(session, person, lon, 0)[offer.id] for person in people} == {expected}


def test_redeemed_once_for_a_key_and_never_more_than_the_caps(session: Session) -> None:
    one, two, three = (make_customer(session, 0, 0) for _ in range(3))
    offer = make_offer(session, cap_total=3, cap_per_customer=2)
    first = redemptions.redeem(session, offer.id, one.id, actor=SYSTEM, key="a", moment=NOW, reference="R-1")
    again = redemptions.redeem(session, offer.id, one.id, actor=SYSTEM, key="a", moment=NOW)
    assert (again.redemption.id, again.again, first.again) == (first.redemption.id, True, False)
    redemptions.redeem(session, offer.id, one.id, actor=SYSTEM, key="b", moment=NOW)
    with pytest.raises(Conflict) as caught:
        redemptions.redeem(session, offer.id, one.id, actor=SYSTEM, key="c", moment=NOW)
    assert caught.value.extra["reasons"] == ["customer_cap_reached"]
    redemptions.redeem(session, offer.id, two.id, actor=SYSTEM, key="a", moment=NOW)
    with pytest.raises(Conflict) as caught:
        redemptions.redeem(session, offer.id, three.id, actor=SYSTEM, key="a", moment=NOW)
    assert caught.value.extra["reasons"] == ["cap_reached"]
    # reversed: the place is free again, for whoever comes
    taken_back = redemptions.reverse(session, offer.id, first.redemption.id, actor=SYSTEM, reason="wrong till")
    assert taken_back.reason == "wrong till"
    redemptions.reverse(session, offer.id, first.redemption.id, actor=SYSTEM, reason="twice")
    assert redemptions.count_redeemed(session, offer.id) == 2
    redemptions.redeem(session, offer.id, three.id, actor=SYSTEM, key="a", moment=NOW)
    assert redemptions.count_redeemed(session, offer.id) == 3
    # a new version counts on
    offers.edit_offer(session, offer.id, actor=SYSTEM, cap_total=4)
    offers.go_live(session, offer.id, actor=SYSTEM, moment=NOW)
    redemptions.redeem(session, offer.id, two.id, actor=SYSTEM, key="z", moment=NOW)
    with pytest.raises(Conflict):
        redemptions.redeem(session, offer.id, three.id, actor=SYSTEM, key="z", moment=NOW)


def test_a_key_without_exact_places_exceeds_no_cap_and_learns_nothing_of_where(session: Session) -> None:
    snapped = replace(SYSTEM, exact=False)
    person = make_customer(session, 0, 0)
    near = {"near": {"lon": 0, "lat": 0, "radius_m": 500}}
    offer = make_offer(session, cap_per_customer=1, audience=near)
    taken = redemptions.redeem(session, offer.id, person.id, actor=SYSTEM, key="a", moment=NOW).redemption
    offers.edit_offer(session, offer.id, actor=SYSTEM, audience=None)
    offers.go_live(session, offer.id, actor=SYSTEM, moment=NOW)  # for everybody now, but who had it was near
    with pytest.raises(Conflict) as caught:
        redemptions.redeem(session, offer.id, person.id, actor=snapped, key="b", moment=NOW)
    assert caught.value.extra["reasons"] == ["needs_exact_places"]

    other = make_offer(session, cap_per_customer=1)
    redemptions.redeem(session, other.id, person.id, actor=snapped, key="a", moment=NOW)
    offers.edit_offer(session, other.id, actor=SYSTEM, audience=near)  # a draft that nobody has
    with pytest.raises(Conflict) as caught:
        redemptions.redeem(session, other.id, person.id, actor=snapped, key="b", moment=NOW)
    assert caught.value.extra["reasons"] == ["customer_cap_reached"]

    session.execute(text("UPDATE offer_versions SET audience_id = NULL"))  # as when an audience with a name is deleted
    with pytest.raises(NotFound), access.as_user(session, snapped):
        redemptions.read_redemption(session, offer.id, taken.id)
    with pytest.raises(NotFound):
        redemptions.reverse(session, offer.id, taken.id, actor=snapped, reason="whose is it?")
    assert redemptions.reverse(session, offer.id, taken.id, actor=SYSTEM, reason="Rung up twice").reversed_at


def test_a_place_that_an_offer_names_stays(session: Session) -> None:
    shop = make_place(session, 10, 10)
    offer = make_offer(session, areas=[{"place_id": shop.id, "radius_m": 100}])
    with pytest.raises(Conflict, match=rf"off_{offer.id} \(Coffee\)"):
        places.delete(session, SYSTEM, shop)
    assert len(offers.get_version(session, offer.id, 1).areas) == 1


def test_redeemed_where_it_holds_by_who_may(session: Session) -> None:
    shop = make_place(session, 10, 10)
    rep = make_user(session, "rep")
    own, foreign = make_customer(session, 0, 0, owner_id=rep.id), make_customer(session, 0, 0)
    offer = make_offer(session, areas=[{"place_id": shop.id, "radius_m": 100}])
    actor = actor_of(session, rep)
    ask = {"actor": actor, "moment": NOW}
    with pytest.raises(Invalid, match="lon and lat"):
        redemptions.redeem(session, offer.id, own.id, key="a", **ask)
    with pytest.raises(Conflict) as caught:
        redemptions.redeem(session, offer.id, own.id, key="a", lon=10, lat=10.01, **ask)
    assert caught.value.extra["reasons"] == ["outside"]
    paid = {"amount": Decimal("4.50"), "currency": "CHF"}
    made = redemptions.redeem(session, offer.id, own.id, key="a", place_id=shop.id, **paid, **ask).redemption
    assert (made.place_id, made.actor_id) == (shop.id, rep.id)
    with pytest.raises(NotFound):
        redemptions.redeem(session, offer.id, foreign.id, key="a", place_id=shop.id, **ask)
    theirs = redemptions.redeem(session, offer.id, foreign.id, key="a", place_id=shop.id, actor=SYSTEM, moment=NOW)
    with pytest.raises(NotFound):
        redemptions.reverse(session, offer.id, theirs.redemption.id, actor=actor, reason="no")
    with access.as_user(session, actor):
        assert [row.id for row in redemptions.find_redemptions(session, offer.id)] == [made.id]
    with pytest.raises(Forbidden):
        redemptions.redeem(session, offer.id, own.id, key="b", actor=actor_of(session, make_user(session, "analyst")))
    offers.end_offer(session, offer.id, actor=SYSTEM)
    with pytest.raises(Conflict, match="not live"):
        redemptions.redeem(session, offer.id, own.id, key="b", place_id=shop.id, **ask)


def test_an_erased_customer_redeems_nothing_and_what_it_redeemed_counts_on(session: Session) -> None:
    gone, other = make_customer(session, 0, 0), make_customer(session, 0, 0)
    everybody = {"field": "stage", "op": "=", "value": "active"}
    offer = make_offer(session, cap_total=2, audience=everybody)
    taken = redemptions.redeem(session, offer.id, gone.id, actor=SYSTEM, key="a", moment=NOW).redemption
    gone.erased_at = NOW
    session.flush()
    with pytest.raises(NotFound):
        redemptions.redeem(session, offer.id, gone.id, actor=SYSTEM, key="b", moment=NOW)
    redemptions.redeem(session, offer.id, other.id, actor=SYSTEM, key="a", moment=NOW)
    assert judged(session, other)[offer.id] == ("cap_reached",)  # the erased one's place is taken
    found = results.find_results(session, offer.id)
    assert (found.shown, found.redeemed) == (1, 2)
    redemptions.reverse(session, offer.id, taken.id, actor=SYSTEM, reason="Given back")
    assert judged(session, other)[offer.id] == ()
    audience_id = offers.get_version(session, offer.id, 1).version.audience_id
    assert audience_id is not None
    assert audiences.refresh(session, audience_id) == 1  # and is in no audience


def test_audiences_follow_customers(session: Session) -> None:
    """Shared by offers, right after each edit's job; a redemption asks the customer and not what is kept."""
    one, two = (make_customer(session, 0, 0, attributes={"plan": plan}) for plan in ("gold", "tin"))
    gold = {"field": "attributes.plan", "op": "=", "value": "gold"}
    offer, second = (make_offer(session, audience=wanted) for wanted in (gold, {"all": [gold]}))
    audience = session.get_one(models.Audience, offers.get_version(session, offer.id, 1).version.audience_id)
    assert offers.get_version(session, second.id, 1).version.audience_id == audience.id
    assert (audience.members, judged(session, one)[offer.id]) == (1, ())
    from geocrm.crm import changes

    opened = changes.open_for_edit(session, SYSTEM, two.id)
    changes.edit(session, SYSTEM, opened, {"attributes": {"plan": "gold"}})
    assert judged(session, two)[offer.id] == ("not_in_audience",)
    redemptions.redeem(session, offer.id, two.id, actor=SYSTEM, key="a", moment=NOW)
    assert audiences.follow(session) == 1
    assert (audience.members, judged(session, two)[offer.id]) == (2, ())
    changes.edit(session, SYSTEM, opened, {"attributes": {}})
    assert audiences.follow(session) == 1
    assert (audience.members, judged(session, two)[offer.id]) == (1, ("not_in_audience",))
    # what nobody told of is found when it is worked out anew
    session.execute(text("UPDATE customers SET attributes = '{}' WHERE id = :id"), {"id": one.id})
    assert audiences.refresh(session, audience.id) == 0
    assert judged(session, one)[offer.id] == ("not_in_audience",)


def test_sales_move_an_audience(session: Session) -> None:
    customer = make_customer(session, 0, 0)
    make_sale(session, make_customer(session, 0, 0), "900.00")
    wanted = {"field": "sales.amount", "op": ">=", "value": 500}
    offer = make_offer(session, audience=wanted)
    assert judged(session, customer)[offer.id] == ("not_in_audience",)
    from geocrm.crm import changes, sales

    opened = changes.open_for_edit(session, SYSTEM, customer.id)
    sales.create(session, SYSTEM, opened, {"amount": Decimal(600), "currency": "USD", "occurred_at": NOW})
    audiences.follow(session)
    assert judged(session, customer)[offer.id] == ()


def test_a_consent_that_nobody_ever_gave_is_a_warning(session: Session) -> None:
    offer = make_offer(session, live=False, consent_purpose="Newsletters")
    (doubt,) = offers.find_doubts(session, offer.id)
    assert (doubt["pointer"], "misspelt" in doubt["detail"]) == ("/consent_purpose", False)
    consent = {"purpose": "newsletter", "channel": "app", "granted_at": NOW - timedelta(days=900)}
    changes.grant_consent(session, SYSTEM, make_customer(session), consent)
    (doubt,) = offers.find_doubts(session, offer.id)
    assert doubt["detail"].endswith("; there is one with the purpose 'newsletter': is either misspelt?")
    offers.edit_offer(session, offer.id, actor=SYSTEM, consent_purpose="newsletter")
    assert offers.find_doubts(session, offer.id) == []
