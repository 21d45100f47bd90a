"""Features of customers: by hand, against lifetimes, without leakage, under row security, in chunks."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.errors import InsufficientPrivilege
from pyproj import Geod
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import access
from geocrm.db.engine import Database
from geocrm.db.models import Interaction
from geocrm.errors import Invalid, NotFound, TooLittleData, TryAgain
from geocrm.segmentation import customer_statistics, feature_registry, features, rfm, statistics
from tests import makers
from tests.segmentation import cdnow
from tests.segmentation.test_statistics import CUTOFF, World, _rolled_back

NAMES = tuple(feature.name for feature in feature_registry.FEATURES)
EVERYTHING = (*NAMES, "channel_share.*", "category_share.*")


def read(session: Session, names: Sequence[str] = NAMES, **options: Any) -> pd.DataFrame:
    frames = list(features.read_features(session, CUTOFF, names, **options))
    return pd.concat(frames) if frames else pd.DataFrame()


def ago(days: float) -> datetime:
    return CUTOFF - timedelta(days=days)


def speak(session: Session, customer_id: int, kind: str, days: float) -> None:
    makers._add(session, Interaction(customer_id=customer_id, kind=kind, occurred_at=ago(days)))


def test_one_customer_by_hand(session: Session) -> None:
    """Orders 400, 40, 30.5 (two that day) and 10 days ago; one return; a visit and calls."""
    customer = makers.make_customer(
        session, kind="organisation", industry="Lodge", size_class="large", preferred_channel="phone",
        attributes={"plan": "gold", "beds": 12},
    )  # fmt: skip
    child = makers.make_customer(session, parent_id=customer.id, kind="organisation", attributes={"beds": None})
    tents = makers._add(session, makers.models.Product(name="tent", category="Camp"))
    ropes = makers._add(session, makers.models.Product(name="rope", category="Climb"))
    for days, amount, cost, channel in (
        (400, "100", "60", "web"),
        (40, "50", None, "web"),
        (30.5, "20", "10", "shop"),
        (30.4, "30", "10", "web"),
        (10, "40", "20", None),
    ):
        sale = makers.make_sale(
            session, customer, amount, occurred_at=ago(days), channel=channel,
            cost=None if cost is None else Decimal(cost), discount=Decimal(6 if days == 40 else 0),
        )  # fmt: skip
        for number, (product, share) in enumerate(((tents, "0.75"), (ropes, "0.25")) if days == 10 else ()):
            makers._add(
                session,
                makers.models.SaleLine(
                    customer_id=customer.id, sale_id=sale.id, line_no=number, product_id=product.id,
                    quantity=Decimal(1), unit_price=Decimal(1), amount=Decimal(amount) * Decimal(share),
                ),
            )  # fmt: skip
    makers.make_sale(session, customer, "-30", occurred_at=ago(5), returned=True, cost=Decimal("-15"), channel="web")
    speak(session, customer.id, "visit", 200)
    speak(session, customer.id, "call", 100)
    speak(session, customer.id, "call", 20)
    speak(session, customer.id, "complaint", 20)
    speak(session, customer.id, "note", 3)
    statistics.refresh(session, CUTOFF)
    names = (*NAMES, "channel_share.*", "category_share.*", "attributes.plan", "attributes.beds")
    frame = read(session, names)
    got = frame.loc[customer.id].to_dict()
    gaps = [360, 9, 21]  # days before the cutoff's last day: 399, 39, 30, 30, 9
    assert [int((ago(d).date() - ago(e).date()).days) for d, e in ((40, 400), (30.5, 40), (10, 30.5))] == gaps
    mean, variation = np.mean(gaps), np.std(gaps) / np.mean(gaps)
    expected = {
        "is_organisation": 1, "industry": "Lodge", "size_class": "large", "stated_channel": "phone",
        "children": 1, "depth": 0, "recency_days": 9, "frequency": 5, "monetary_value": 210, "tenure_days": 399,
        "orders_90": 4, "orders_365": 4, "orders_year_before": 1,
        "sales_90": 110, "sales_365": 110, "sales_year_before": 100, "growth": 0.1,
        "purchase_days": 4, "gap_mean_days": mean, "gap_variation": variation,
        "gap_typical_days": mean / math.sqrt(1 + variation**2), "overdue_days": 9 - mean, "overdue_ratio": 9 / mean,
        "basket_value": 48, "basket_lines": 2, "returned_share": 30 / 240, "returns": 1, "discount_share": 6 / 246,
        "main_channel": "web", "contacts_90": 2, "contacts_365": 4, "contacts": 4, "complaints_90": 1,
        "complaints_365": 1, "complaints": 1, "visits_365": 1, "calls_365": 2, "contact_days": 19,
        "margin": 40 + 10 + 20 + 20 - 15, "margin_365": 10 + 20 + 20 - 15, "cost_known_share": 5 / 6,
        "cost_to_serve": 60, "cost_to_serve_365": 60, "profit": 75 - 60, "profit_365": 35 - 60,
        "repeat_frequency": 3, "recency_weeks": 390 / 7, "t_weeks": 399 / 7, "mean_repeat_value": 140 / 3,
        "freshness_days": 2, "channel_share.shop": 0.2, "channel_share.web": 0.6, "category_share.Camp": 0.75,
        "category_share.Climb": 0.25, "attributes.plan": "gold", "attributes.beds": 12,
    }  # fmt: skip
    assert {n: v for n, v in got.items() if isinstance(v, str)} == {
        n: v for n, v in expected.items() if isinstance(v, str)
    }
    for name, value in expected.items():
        if not isinstance(value, str):
            assert got[name] == pytest.approx(value, rel=1e-12), name
    of_others = {"sector_growth", "region_growth", "share_of_wallet"}
    assert got.keys() - expected.keys() == of_others
    assert all(math.isnan(got[name]) for name in of_others)  # there are no others
    never = frame.loc[child.id]
    assert (never["depth"], never["frequency"], never["profit"], never["sales_365"]) == (1, 0, 0, 0)
    assert never[["recency_days", "t_weeks", "gap_mean_days", "basket_value", "attributes.beds"]].isna().all()
    assert (
        read(session, ["profit"], costs=feature_registry.ServingCosts(visit=1, call=2)).loc[customer.id, "profit"] == 70
    )


def test_visits_cost_the_drive_there_and_back(session: Session) -> None:
    far, near, unknown, unvisited = (makers.make_customer(session) for _ in range(4))
    session.execute(text("DELETE FROM sites"))
    for customer, lon in ((far, 8.0), (near, 9.0), (unvisited, 7.0)):
        makers.make_site(session, customer, lon, 47.0, is_primary=True)
    makers.make_place(session, 9.1, 47.0, "depot")
    makers.make_place(session, 8.01, 47.0, "competitor")
    makers.make_place(session, 8.02, 47.0, attributes={"closed_on": "2020-01-01"})
    makers.make_place(session, 8.03, 47.0, attributes={"opened_on": "2030-01-01"})
    for customer, days in ((far, 10), (far, 500), (near, 10), (unknown, 10)):
        speak(session, customer.id, "visit", days)
    speak(session, unvisited.id, "call", 10)
    statistics.refresh(session, CUTOFF)
    got = read(session, ["profit", "cost_to_serve", "cost_to_serve_365"])
    km = {c.id: Geod(ellps="WGS84").inv(lon, 47, 9.1, 47)[2] / 1000 for c, lon in ((far, 8.0), (near, 9.0))}
    trip = {number: 2 * 1.3 * 1.07 * length for number, length in km.items()}
    assert got["cost_to_serve"].to_dict() == pytest.approx(
        {far.id: 80 + 2 * trip[far.id], near.id: 40 + trip[near.id], unknown.id: 40, unvisited.id: 10}
    )
    assert got.loc[far.id, "cost_to_serve_365"] == pytest.approx(40 + trip[far.id])
    assert (got["profit"] == -got["cost_to_serve"]).all()


def test_growth_of_the_sector_leaves_the_customer_out(session: Session) -> None:
    customers = [makers.make_customer(session, industry="Lodge") for _ in range(3)]
    for customer, before, last in zip(customers, ("100", "200", "300"), ("150", "100", "900"), strict=True):
        makers.make_sale(session, customer, before, occurred_at=ago(500))
        makers.make_sale(session, customer, last, occurred_at=ago(100))
    statistics.refresh(session, CUTOFF)
    assert read(session, ["sector_growth"])["sector_growth"].tolist() == pytest.approx(
        [1.0, 1050 / 400 - 1, 250 / 300 - 1]
    )


def test_growth_of_the_region_is_that_of_the_others_in_it(session: Session) -> None:
    sold = (("US", "CO", "100", "150"), ("US", "CO", "200", "100"), ("CA", "CO", "300", "900"), (None, "CO", "1", "2"))
    for country, region, before, last in sold:
        customer = makers.make_customer(session)
        session.execute(text("DELETE FROM sites WHERE customer_id = :id"), {"id": customer.id})
        makers.make_site(session, customer, -105, 40, country=country, region=region, is_primary=True)
        makers.make_site(session, customer, -100, 40, country="US", region="KS", is_primary=False)
        makers.make_sale(session, customer, before, occurred_at=ago(500))
        makers.make_sale(session, customer, last, occurred_at=ago(100))
    statistics.refresh(session, CUTOFF)
    got = read(session, ["region_growth"])["region_growth"].tolist()
    assert got[:2] == pytest.approx([-0.5, 0.5])
    assert all(math.isnan(value) for value in got[2:])  # alone in its region, or in none


def test_share_of_wallet_is_of_what_like_buyers_spend(session: Session) -> None:
    amounts = [10 * (i + 1) for i in range(feature_registry.LEAST_PEERS)]
    for amount in amounts:
        customer = makers.make_customer(session, kind="organisation", industry="Lodge", size_class="small")
        makers.make_sale(session, customer, str(amount), occurred_at=ago(100))
    asleep = makers.make_customer(session, kind="organisation", industry="Lodge", size_class="small")
    makers.make_sale(session, asleep, "999", occurred_at=ago(500))  # before the year that counts
    other = makers.make_customer(session, kind="organisation", industry="Lodge", size_class="large")
    makers.make_sale(session, other, "50", occurred_at=ago(100))
    statistics.refresh(session, CUTOFF)
    got = read(session, ["share_of_wallet"])["share_of_wallet"]
    wallet = np.quantile(amounts, feature_registry.WALLET)
    assert got.tolist()[:-2] == pytest.approx([amount / wallet for amount in amounts])
    assert got[asleep.id] == 0
    assert math.isnan(got[other.id])  # too few of its kind, industry and size


def test_costs_that_are_not_known_make_no_margin(session: Session) -> None:
    customer = makers.make_customer(session)
    makers.make_sale(session, customer, occurred_at=ago(3))
    statistics.refresh(session, CUTOFF)
    row = read(session).loc[customer.id]
    assert row[["margin", "margin_365", "profit", "profit_365"]].isna().all()
    assert row["cost_known_share"] == 0


def test_inputs_of_customer_value_are_those_of_lifetimes(session: Session) -> None:
    World(session, seed=11).load(150)
    statistics.refresh(session, CUTOFF)
    sales = pd.read_sql(
        text(
            "SELECT customer_id, occurred_at AT TIME ZONE 'UTC' AS at, CAST(amount AS float8) AS amount FROM sales"
            " WHERE NOT returned AND occurred_at < :cutoff"
        ),
        session.connection(),
        params={"cutoff": CUTOFF},
    )
    theirs = cdnow.lifetimes().utils.summary_data_from_transaction_data(
        sales,
        "customer_id",
        "at",
        "amount",
        observation_period_end=datetime(2025, 12, 31),  # noqa: DTZ001
    )
    names = ["repeat_frequency", "recency_weeks", "t_weeks", "mean_repeat_value"]
    ours = read(session, names).loc[theirs.index]
    assert ours["repeat_frequency"].tolist() == theirs["frequency"].tolist()
    assert ours["recency_weeks"].to_numpy() == pytest.approx(theirs["recency"].to_numpy() / 7)
    assert ours["t_weeks"].to_numpy() == pytest.approx(theirs["T"].to_numpy() / 7)
    assert ours["mean_repeat_value"].fillna(0).to_numpy() == pytest.approx(theirs["monetary_value"].to_numpy())
    counted = features.count_histories(session, CUTOFF)
    assert counted["customers"].sum() == len(theirs)
    grouped = theirs.astype(int).groupby(["frequency", "recency", "T"]).size()
    assert [tuple(row) for row in counted.itertuples(index=False)] == [(*key, n) for key, n in grouped.items()]


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10**6), followed=st.booleans())
def test_nothing_after_the_cutoff_changes_a_feature(database: Database, seed: int, followed: bool) -> None:
    """Bit for bit: sales, returns and interactions at the cutoff or later are as if they were not."""
    with _rolled_back(database) as session:
        world = World(session, seed)
        world.load(40)
        for number, customer in enumerate(world.customers):
            speak(session, customer.id, "visit", 50 * number + 1)
        statistics.refresh(session, CUTOFF, full=True)
        before = read(session, EVERYTHING)
        for customer in world.customers:
            for days in (0, -0.001, -1, -400):
                returned = days == -1
                sale = makers.make_sale(
                    session, customer, "-77" if returned else "77", occurred_at=ago(days), returned=returned,
                    channel="fair", currency="CHF", cost=Decimal(1),
                )  # fmt: skip
                statistics.tell_added(session, customer.id, sale.id)
                for kind in ("call", "visit", "complaint", "note"):
                    speak(session, customer.id, kind, days)
        statistics.refresh(session, CUTOFF, full=not followed)
        after = read(session, EVERYTHING)
        pd.testing.assert_frame_equal(before, after, check_exact=True)


def test_base_and_added_read_as_one(session: Session) -> None:
    world = World(session, seed=12)
    world.load(60)
    statistics.refresh(session, CUTOFF)
    makers.make_customer(session)
    world.customers.append(makers.make_customer(session))  # has added statistics alone
    for _ in range(3):
        world.load(9, newest=True)
        statistics.refresh(session, CUTOFF)
    generations = session.scalars(text("SELECT DISTINCT generation FROM customer_statistics")).all()
    assert sorted(generations) == [0, 1]  # three refreshes of one size are put together
    followed = read(session, EVERYTHING)
    assert statistics.refresh(session, CUTOFF, full=True).full
    pd.testing.assert_frame_equal(followed, read(session, EVERYTHING), check_exact=True)


def test_chunks_hold_the_same_as_one_frame(session: Session) -> None:
    world = World(session, seed=13)
    world.load(40)
    erased = world.customers[2]
    session.execute(text("UPDATE customers SET erased_at = now() WHERE id = :id"), {"id": erased.id})
    statistics.refresh(session, CUTOFF)
    whole = read(session, EVERYTHING)
    assert erased.id not in whole.index
    chunks = list(features.read_features(session, CUTOFF, EVERYTHING, chunk_rows=2))
    assert [len(chunk) for chunk in chunks] == [2, 2, 1]
    pd.testing.assert_frame_equal(whole, pd.concat(chunks), check_exact=True)
    one = world.customers[1].id
    pd.testing.assert_frame_equal(whole.loc[[one]], read(session, EVERYTHING, customer_id=one), check_exact=True)
    assert read(session, EVERYTHING, customer_id=erased.id).empty


def test_ranges_read_side_by_side_hold_the_same(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(session, seed=18)
    world.load(60)
    statistics.refresh(session, CUTOFF)
    world.load(9, newest=True)
    statistics.refresh(session, CUTOFF)

    def answers() -> list[Any]:
        return [
            read(session, EVERYTHING),
            features.rfm_cuts(session, CUTOFF),
            features.count_histories(session, CUTOFF),
        ]

    whole = answers()
    monkeypatch.setattr(features, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(features, "IDS_AT_ONCE", 3)
    monkeypatch.setattr(customer_statistics, "IN_BLOCK", 2)
    assert statistics.refresh(session, CUTOFF, full=True).full
    for one, other in zip(whole, answers(), strict=True):
        assert isinstance(one, rfm.RfmCuts) or len(one) > 0
        if isinstance(one, rfm.RfmCuts):
            assert one == other
        else:
            pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_a_refresh_between_two_chunks_is_noticed(session: Session) -> None:
    world = World(session, seed=14)
    world.load(20)
    statistics.refresh(session, CUTOFF)
    chunks = features.read_features(session, CUTOFF, ["frequency"], chunk_rows=3)
    next(chunks)
    world.load(3)
    statistics.refresh(session, CUTOFF)
    with pytest.raises(TryAgain):
        next(chunks)


def test_nobody_but_the_worker_reads_statistics(session: Session, as_user: Any) -> None:
    administrator = makers.make_user(session, role="administrator")
    World(session, seed=15).load(20)
    statistics.refresh(session, CUTOFF)
    with pytest.raises(InsufficientPrivilege), session.begin_nested():  # noqa: SIM117 (the savepoint goes last)
        with as_user(access.load_actor(session, administrator.id)):
            read(session, ["frequency"])


def test_cuts_from_the_database_are_those_of_the_frame(session: Session) -> None:
    world = World(session, seed=16)
    world.customers = [makers.make_customer(session) for _ in range(60)]
    world.load(400)
    makers.make_customer(session)  # never buys
    statistics.refresh(session, CUTOFF)
    frame = read(session, ["recency_days", "frequency", "monetary_value"])
    cuts = features.rfm_cuts(session, CUTOFF)
    theirs = rfm.cut_by_quantiles(frame)
    assert (cuts.recency, cuts.frequency) == (theirs.recency, theirs.frequency)
    pd.testing.assert_frame_equal(rfm.score(frame, cuts), rfm.score(frame, theirs))
    assert cuts.monetary == theirs.monetary


def test_nobody_who_ordered_means_no_cuts(session: Session) -> None:
    makers.make_customer(session)
    statistics.refresh(session, CUTOFF)
    with pytest.raises(TooLittleData, match="at least one customer"):
        features.rfm_cuts(session, CUTOFF)


def test_features_of_place_are_given_beside(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    customer = makers.make_customer(session)
    statistics.refresh(session, CUTOFF)
    far = feature_registry.Feature("shop_distance_m", "metres", "to the nearest own shop", "place")
    monkeypatch.setitem(features.BY_NAME, far.name, far)
    with pytest.raises(Invalid, match="beside the others: shop_distance_m"):
        read(session, ["frequency", far.name])

    def place(ids: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame({far.name: ids * 2.0}, index=pd.Index(ids, name="customer_id"))

    frame = read(session, [far.name, "frequency"], place=place)
    assert list(frame.columns) == [far.name, "frequency"]
    assert frame.loc[customer.id, far.name] == 2 * customer.id


def test_what_is_not_there_is_said(session: Session) -> None:
    with pytest.raises(NotFound, match="make them by a refresh"):
        read(session)
    World(session, seed=17).load(20)
    statistics.refresh(session, CUTOFF)
    with pytest.raises(Invalid, match="no feature 'recency'; there are is_organisation"):
        read(session, ["recency"])
    with pytest.raises(Invalid, match="no channel 'fax'; there is shop, web"):
        read(session, ["channel_share.fax"])
    with pytest.raises(Invalid, match="family"):
        read(session, ["share.web"])


def test_every_feature_is_explained_in_the_docs(request: pytest.FixtureRequest) -> None:
    page = (request.config.rootpath / "docs" / "methods" / "features.md").read_text(encoding="utf-8")
    assert len(set(NAMES)) == len(NAMES)
    missing = [name for name in NAMES if f"`{name}`" not in page]
    assert not missing
