"""Series of sales: sums by hand, whole periods, nothing after the cutoff, and forecasts of them."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from sqlalchemy.orm import Session

from geocrm.access import SYSTEM, Actor
from geocrm.db import models
from geocrm.errors import Invalid, NotFound, TooLittleData
from geocrm.segmentation import sales_series
from geocrm.spatial import areas, layers, territories
from tests.makers import actor_of, make_customer, make_sale, make_user, square

CUTOFF = datetime(2026, 5, 11, 9, tzinfo=UTC)


def at(year: int, month: int, day: int = 15) -> datetime:
    return datetime(year, month, day, 12, tzinfo=UTC)


def read(session: Session, **options: Any) -> sales_series.SalesSeries:
    return sales_series.read_series(session, CUTOFF, **({"by": "stage"} | options))


def monthly(session: Session, customer: models.Customer, months: int, amount: float = 100.0) -> None:
    """A sale on the 2nd and one in the middle of every month up to May 2026."""
    for back in range(months):
        year, month = divmod(2026 * 12 + 4 - back, 12)
        season = 1 + 0.4 * np.sin(2 * np.pi * month / 12)
        for day in (2, 10):
            make_sale(session, customer, f"{amount * season:.2f}", occurred_at=at(year, month + 1, day))


def test_sums_by_month_are_net_whole_and_without_gaps(session: Session) -> None:
    active, lapsed = make_customer(session), make_customer(session, stage="lapsed")
    for amount, when in (("10", at(2026, 1, 2)), ("5", at(2026, 1, 31)), ("7", at(2026, 3)), ("9", at(2026, 5, 11))):
        make_sale(session, active, amount, occurred_at=when - timedelta(hours=4))
    make_sale(session, active, "-2", returned=True, occurred_at=at(2026, 3, 20))
    make_sale(session, lapsed, "3", occurred_at=datetime(2026, 3, 31, 23, 59, tzinfo=UTC))
    make_sale(session, active, "1000", occurred_at=CUTOFF)
    found = read(session)
    assert found.names == ("active", "lapsed")
    assert found.starts == (date(2026, 1, 1), date(2026, 2, 1), date(2026, 3, 1), date(2026, 4, 1))
    assert found.amounts.tolist() == [[15, 0, 5, 0], [0, 0, 3, 0]]
    assert found.sales.tolist() == [[2, 0, 2, 0], [0, 0, 1, 0]]
    assert found.running == date(2026, 5, 1)
    assert found.running_amounts.tolist() == [9, 0]
    assert found.currency == "USD"


def test_weeks_begin_on_monday_and_a_begun_first_period_is_left_out(session: Session) -> None:
    customer = make_customer(session)
    for amount, when in (("1", at(2026, 4, 9)), ("2", at(2026, 4, 13)), ("4", at(2026, 4, 26)), ("8", at(2026, 5, 8))):
        make_sale(session, customer, amount, occurred_at=when)
    found = read(session, period="week", by="nothing")
    assert found.starts == tuple(date(2026, 4, 13) + timedelta(days=7 * i) for i in range(4))
    assert found.amounts.tolist() == [[2, 4, 0, 8]]
    assert found.names == ("all sales",)
    assert found.running is None


def test_books_that_end_in_mid_month_make_no_drop(session: Session) -> None:
    customer = make_customer(session)
    for day in range(100):  # up to 10 April, daily
        make_sale(session, customer, "10", occurred_at=at(2026, 1, 1) + timedelta(days=day))
    found = read(session)
    assert found.starts[-1] == date(2026, 3, 1)
    assert found.running == date(2026, 4, 1)
    assert "2026-04-10" in found.notes[-1]
    known = read(session, known_until=CUTOFF)
    assert known.amounts[0].tolist() == [310, 280, 310, 100]


def test_regions_restated_as_was_and_as_seen(session: Session, as_user: Callable[[Actor], Any]) -> None:
    layer = layers.create_layer(session, actor=SYSTEM, key="regions", name="Regions", kind="territories")
    draft = layers.create_draft(session, layer.id, actor=SYSTEM).version
    west = areas.put_area(session, layer.id, draft, actor=SYSTEM, name="West", geometry=square(0.5, 0.5)).area_id
    territories.publish(
        session, layer.id, draft, actor=SYSTEM, reason="first", effective_from=at(2020, 1), now=at(2026, 1, 1)
    )
    inside, outside = make_customer(session, 0.5, 0.5), make_customer(session, 50, 50)
    territories.evaluate(session, [inside.id, outside.id], actor=SYSTEM, reason="new", now=at(2020, 2))
    for customer, amount in ((inside, "10"), (outside, "3")):
        for month in (1, 2):
            make_sale(session, customer, amount, occurred_at=at(2026, month, 2))
    for basis in ("restated", "as_was"):
        found = read(session, by="region", layer="regions", basis=basis, known_until=CUTOFF)
        assert found.names == ("West", "no region")
        assert found.keys == (west, None)
        assert found.amounts[:, :2].tolist() == [[10, 10], [3, 3]]
    with as_user(actor_of(session, make_user(session))), pytest.raises(TooLittleData):
        read(session, by="region", layer="regions")
    with pytest.raises(Invalid, match="layer"):
        read(session, by="region")
    with pytest.raises(NotFound):
        read(session, by="region", layer="none")


def test_owners_under_row_security(session: Session, as_user: Callable[[Actor], Any]) -> None:
    user = make_user(session, name="Ann")
    owned, other = make_customer(session, owner_id=user.id), make_customer(session)
    for customer in (owned, other):
        make_sale(session, customer, "10", occurred_at=at(2026, 3, 2))
    assert read(session, by="owner").names == ("Ann", "no owner")
    with as_user(actor_of(session, user)):
        assert read(session, by="owner").names == ("Ann",)


def test_currencies_are_not_mixed(session: Session) -> None:
    customer = make_customer(session)
    make_sale(session, customer, "10", occurred_at=at(2026, 2, 2))
    make_sale(session, customer, "10", occurred_at=at(2026, 3, 2), currency="EUR")
    with pytest.raises(Invalid, match=r"EUR \(1 sales\), USD|USD \(1 sales\), EUR"):
        read(session)
    with pytest.raises(Invalid, match="no rate for EUR"):
        read(session, currency="USD", rates={"CHF": Decimal(1)})
    found = read(session, currency="USD", rates={"EUR": Decimal("1.25")})
    assert found.amounts[0].tolist() == [10, 12.5, 0]
    assert found.currency == "USD"


def test_later_sales_change_nothing(session: Session) -> None:
    customer, other = make_customer(session), make_customer(session, stage="lapsed")
    monthly(session, customer, 32)
    monthly(session, other, 32, 40.0)
    before = sales_series.forecast_sales(session, CUTOFF, horizon=2, by="stage")
    for day in range(20):
        make_sale(session, customer, "99999", occurred_at=CUTOFF + timedelta(days=day))
    after = sales_series.forecast_sales(session, CUTOFF, horizon=2, by="stage")
    assert after.series.amounts.tobytes() == before.series.amounts.tobytes()
    assert after.forecasts.means.tobytes() == before.forecasts.means.tobytes()
    assert after.forecasts.high.tobytes() == before.forecasts.high.tobytes()
    assert after.periods == (date(2026, 5, 1), date(2026, 6, 1))
    assert after.series.starts[-1] == date(2026, 4, 1)
    last_may = after.series.amounts[:, after.series.starts.index(date(2025, 5, 1))]
    assert after.forecasts.means[1:, 0] == pytest.approx(last_may, rel=0.1)


def test_honest_answers(session: Session) -> None:
    with pytest.raises(TooLittleData, match="no sales before 2026-05-11"):
        read(session)
    customer = make_customer(session)
    for month in range(1, 5):
        make_sale(session, customer, "10", occurred_at=at(2026, month, 2))
    make_sale(session, customer, "10", occurred_at=at(2026, 5, 2))
    with pytest.raises(TooLittleData, match=r"12 complete months .* there are 4, 4 of them with sales"):
        sales_series.forecast_sales(session, CUTOFF, horizon=3, by="stage")
    with pytest.raises(Invalid, match="time zone"):
        sales_series.read_series(session, datetime(2026, 1, 1), by="stage")  # noqa: DTZ001
    with pytest.raises(Invalid, match="future"):
        sales_series.read_series(session, datetime(2999, 1, 1, tzinfo=UTC), by="stage")
    with pytest.raises(Invalid, match="month or week"):
        read(session, period="day")
    with pytest.raises(Invalid, match="need the segmentation"):
        read(session, by="segment")


def test_segments_are_those_of_a_run_that_knows_nothing_later(session: Session) -> None:
    bought, other = make_customer(session), make_customer(session)
    held = models.Segmentation(key="groups", name="Groups", method="rule")
    session.add(held)
    session.flush()
    run = models.SegmentationRun(segmentation_id=held.id, number=1, cutoff=at(2026, 4), seed=1, parameters={})
    segment = models.Segment(segmentation_id=held.id, identity=1, name="Regulars")
    session.add_all([run, segment])
    session.flush()
    with pytest.raises(NotFound):
        read(session, by="segment", segmentation="groups")
    held.current_run_id = run.id
    session.add(models.SegmentMember(customer_id=bought.id, run_id=run.id, segment_id=segment.id))
    for customer, amount in ((bought, "10"), (other, "3")):
        for month in (2, 3, 4):
            make_sale(session, customer, amount, occurred_at=at(2026, month, 1))
    session.flush()
    for which in ("groups", held.id):
        found = read(session, by="segment", segmentation=which)
        assert found.names == ("Regulars", "no segment")
        assert found.amounts.tolist() == [[10, 10, 10], [3, 3, 3]]
    assert "chosen by what its customers" in found.notes[0]
    run.cutoff = CUTOFF + timedelta(days=1)
    session.flush()
    with pytest.raises(Invalid, match="know what happened"):
        read(session, by="segment", segmentation="groups")
