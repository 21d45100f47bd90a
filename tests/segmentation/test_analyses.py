"""Analyses: what the methods say of the same data, kept with what made it, the same again, told to whom it may be."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
import shapely
from sqlalchemy import text

from geocrm import jobs
from geocrm.access import SYSTEM, as_user
from geocrm.db import models
from geocrm.db.engine import Database
from geocrm.errors import Conflict, Forbidden, GeocrmError, Invalid
from geocrm.segmentation import (
    affinity,
    analyses,
    analysis_console,
    analysis_kinds,
    churn_rate,
    features,
    handing_on,
    next_offers,
    regional_churn,
    sales_series,
    statistics,
)
from geocrm.segmentation.churn_rate import Book
from geocrm.segmentation.clv import bg_nbd
from geocrm.segmentation.clv.counts import collapse
from geocrm.spatial import areas, hotspot_data, layers, lookup, territories
from tests.makers import actor_of, make_customer, make_user

CUTOFF = datetime(2026, 1, 1, tzinfo=UTC)
WEEKS = 20
PEOPLE = 400
SQUARES = 6


@pytest.fixture(scope="module")
def company(new_database: Callable[[], Database]) -> Database:
    """Customers in six square areas, the last with five of them, who buy tea with cups, and other things, for three
    years."""
    database = new_database()
    dice = np.random.default_rng(5)
    with database.writing() as session:
        layer = layers.create_layer(
            session, actor=SYSTEM, key="sales", name="Sales", kind="territories", is_primary=True
        )
        version = layers.create_draft(session, layer.id, actor=SYSTEM).version
        for i in range(SQUARES):
            areas.put_area(
                session, layer.id, version, actor=SYSTEM, name=f"Square {i}", attributes={"population": 1000 + 500 * i},
                geometry=shapely.box(-105 + i / 5, 39, -104.8 + i / 5, 39.2),
            )  # fmt: skip
        names = ["Tea", "Cup", *(f"Thing {number}" for number in range(10))]
        products = [models.Product(sku=name, name=name, category="all") for name in names]
        session.add_all(products)
        session.flush()
        ids = [product.id for product in products]
        made, sales, lines = [], [], []
        for number in range(PEOPLE):
            square = SQUARES - 1 if number < 5 else number % (SQUARES - 1)
            customer = make_customer(session, -104.9 + square / 5 + dice.normal(0, 0.01), 39.1)
            made.append(customer.id)
            rate, leaves, day = dice.gamma(2, 1 / 80), dice.beta(1, 6), dice.uniform(100, 1090)
            spends = dice.gamma(6, 5)
            while day > 0:
                sales.append({"customer": customer.id, "id": len(sales) + 1, "at": CUTOFF - timedelta(days=day),
                              "amount": round(float(dice.gamma(4, spends / 4)), 2)})  # fmt: skip
                bought = ids[:2] if dice.random() < 0.25 else list(dice.choice(ids[2:], dice.integers(1, 3), False))
                lines += [{"customer": customer.id, "sale": len(sales), "line": n, "product": int(one)}
                          for n, one in enumerate(bought, 1)]  # fmt: skip
                day -= dice.exponential(1 / rate)
                if dice.random() < leaves:
                    break
        session.execute(
            text("INSERT INTO sales (customer_id, id, occurred_at, currency, amount) OVERRIDING SYSTEM VALUE"
                 " VALUES (:customer, :id, :at, 'USD', :amount)"), sales
        )  # fmt: skip
        session.execute(
            text("INSERT INTO sale_lines (customer_id, sale_id, line_no, product_id, quantity, unit_price, amount)"
                 " VALUES (:customer, :sale, :line, :product, 1, 1, 1)"), lines
        )  # fmt: skip
        lookup.refresh(session, made)
        territories.publish(session, layer.id, version, actor=SYSTEM, reason="first",
                            effective_from=CUTOFF - timedelta(days=1200))  # fmt: skip
    return database


def find(database: Database, kind: str, **parameters: Any) -> models.Analysis:
    """An analysis, done by the worker's own code."""
    with database.writing() as session:
        started = analyses.start(session, kind, actor=SYSTEM, parameters=parameters, cutoff=CUTOFF)
    jobs.run_queued(database)
    with database.writing() as session:
        return analyses.get_analysis(session, started.id)


def test_what_goes_together(company: Database) -> None:
    done = find(company, "affinity", fewest=3, days=240)
    assert (done.status, done.error) == ("done", None)
    with company.writing() as session:
        direct = affinity.find_pairs(session, CUTOFF, regions="territory", fewest=3)
        model = affinity.learn_offers(
            session, CUTOFF - timedelta(days=240), window_days=365, regions="territory", fewest=3
        )
        judged = affinity.judge_offers(session, model, seed=1, days=240)
    first = done.results["pairs"][0]
    assert {first["first_name"], first["second_name"]} == {"Tea", "Cup"}
    assert [row["both"] for row in done.results["pairs"]] == direct.pairs["both"].tolist()
    assert first["lift"] == pytest.approx(direct.pairs["lift"][0])
    assert done.results["offers"]["methods"][0]["hit_rate"] == pytest.approx(judged.hit_rate[0])
    with company.writing() as session:
        (drinker,) = session.scalars(
            text("SELECT customer_id FROM sale_lines JOIN sales s USING (customer_id)"
                 " WHERE s.id = sale_id AND s.occurred_at > CAST(:since AS timestamptz) GROUP BY 1"
                 " HAVING bool_or(product_id = :tea) AND count(DISTINCT product_id) < 6 LIMIT 1"),
            {"since": CUTOFF - timedelta(days=365), "tea": min(done.results["model"]["items"])},
        ).all()  # fmt: skip
        with as_user(session, SYSTEM):
            told = next_offers.for_customer(session, SYSTEM, done, drinker, k=3)
    assert len(told["data"]) == 3
    assert told["held_out"]["sentence"] == judged.sentence()
    assert told["held_out"]["hit_rate"] == pytest.approx(judged.hit_rate[0])
    assert "model" not in analyses.results_of(done)
    assert "model" not in handing_on.analysis("affinity", done.results)
    again = find(company, "affinity", fewest=3, days=240)
    assert (again.data_version, again.result_version) == (done.data_version, done.result_version)
    assert handing_on.analysis("affinity", done.results | {"pairs": [first, first | {"both": 9}]})["pairs"] == [first]


def test_forecast_by_region(company: Database) -> None:
    done = find(company, "forecast", horizon=3)
    with company.writing() as session:
        direct = sales_series.forecast_sales(session, CUTOFF, horizon=3, by="region", layer="sales")
    rows = done.results["rows"]
    assert [row["name"] for row in rows] == list(direct.forecasts.names)
    assert rows[0]["mean"] == pytest.approx(direct.forecasts.means[0])
    assert rows[1]["history"] == pytest.approx(direct.series.amounts[0])
    assert rows[0]["history"] == pytest.approx(direct.series.amounts.sum(axis=0))
    with company.writing() as session:
        held = session.execute(
            text("SELECT CAST(date_trunc('month', s.occurred_at AT TIME ZONE 'UTC') AS date), a.name,"
                 " count(DISTINCT s.customer_id) FROM sales s JOIN sites p ON p.customer_id = s.customer_id"
                 " JOIN assignments x ON x.site_id = p.id JOIN areas a ON a.id = x.area_id GROUP BY GROUPING SETS"
                 " ((1, 2), (1))")
        ).all()  # fmt: skip
    bought = {(month.isoformat(), name): many for month, name, many in held}
    for row, name in ((rows[0], None), (rows[1], rows[1]["name"])):
        assert row["buyers"] == [bought.get((month, name), 0) for month in done.results["starts"]]
    people = {row["name"]: row["customers"] for row in rows}
    assert (people["whole"], people["Square 0"]) == (PEOPLE, max(rows[1]["buyers"]))
    assert 0 < people["Square 5"] <= 5
    told = handing_on.analysis("forecast", done.results)
    kept = {row["name"] for row in told["rows"]}
    assert len(kept & {f"Square {i}" for i in range(5)}) == 4, "the smallest goes with it, else it could be told"
    assert "Square 5" not in kept
    assert told["withheld"] == 2
    everything = find(company, "forecast", by="nothing", horizon=2)
    assert [row["name"] for row in everything.results["rows"]] == ["whole"]


def test_penetration(company: Database) -> None:
    done = find(company, "penetration", layer="sales", currency="USD")
    with company.writing() as session:
        direct = hotspot_data.find_penetration(
            session, SYSTEM, "sales", seed=1, currency="USD", window=(CUTOFF - timedelta(days=365), CUTOFF)
        )
    rows = done.results["rows"]
    assert [row["customers"] for row in rows] == direct.counts.customers.tolist()
    assert rows[0]["share"] == pytest.approx(79 / 1000)
    assert rows[2]["potential_sales"] == pytest.approx(direct.potential.sales[2])
    with company.writing() as session:
        bought = session.scalar(text("SELECT count(DISTINCT customer_id) FROM sales WHERE occurred_at >= :since"),
                                {"since": CUTOFF - timedelta(days=365)})  # fmt: skip
    assert 0 < sum(row["buyers"] for row in rows) == bought < PEOPLE
    told = handing_on.analysis("penetration", done.results)
    assert told["withheld"] == 2
    assert "Square 5" not in {row["name"] for row in told["rows"]}


def test_track_of_purchases(company: Database) -> None:
    """Histories are those that customer value is fitted on; what came is counted by hand."""
    done = find(company, "tracking", weeks=WEEKS)
    upto = CUTOFF - timedelta(weeks=WEEKS)
    with company.writing() as session:
        statistics.refresh(session, upto)
        held = features.count_histories(session, upto)
        days: dict[int, set[Any]] = {}
        for who, at in session.execute(text("SELECT customer_id, occurred_at FROM sales ORDER BY occurred_at")):
            days.setdefault(who, set()).add(at.astimezone(UTC).date())
    fitted = bg_nbd.fit(
        collapse(held["repeat_frequency"], held["recency_days"] / 7, held["t_days"] / 7, held["customers"])
    )
    assert [row["value"] for row in done.results["parameters"]] == pytest.approx(list(fitted.model.values))
    known = [sorted(one) for one in days.values() if min(one) < upto.date()]
    assert done.results["customers"] == len(known) == held["customers"].sum()
    assert done.results["came"] == sum(day >= upto.date() for one in known for day in one)
    actual = dict(zip(done.results["ends"], done.results["actual"], strict=True))
    assert actual[upto.date().isoformat()] == sum(day < upto.date() for one in known for day in one[1:])
    back = np.array([((upto.date() - one[0]).days - 1) / 7 for one in known])  # to the last day before
    expected = dict(zip(done.results["ends"], done.results["expected"], strict=True))
    later = fitted.model.expected_since_first(back + WEEKS).sum()
    assert expected[CUTOFF.date().isoformat()] == pytest.approx(later)
    weeks: dict[int, set[int]] = {}
    for who, when in days.items():
        if min(when) < upto.date():
            for day in sorted(when)[1:]:
                weeks.setdefault((day - upto.date()).days // 7, set()).add(who)
    oldest = WEEKS - len(done.results["buyers"])
    assert done.results["buyers"] == [len(weeks.get(week, ())) for week in range(oldest, WEEKS)]
    assert done.results["low"] < done.results["expected_of_histories"] < done.results["high"]
    off = done.results["expected_of_histories"] / done.results["came"] - 1
    said: list[str] = []
    analysis_console._show(done, as_json=False, echo=said.append)
    assert f"came: {abs(off):.1%} too {'many' if off > 0 else 'few'} were expected; a week is off by" in said[1]


def test_asked_for_by_whom_cancelled_and_refused(company: Database) -> None:
    with company.writing() as session:
        for role in ("rep", "manager"):
            with pytest.raises(Forbidden):
                analyses.start(session, "affinity", actor=actor_of(session, make_user(session, role)))
        waiting = analyses.start(session, "affinity", actor=actor_of(session, make_user(session, "analyst")))
        analyses.cancel(session, waiting.id, actor=SYSTEM)
        with pytest.raises(Conflict):
            analyses.cancel(session, waiting.id, actor=SYSTEM)
        future = datetime.now(UTC) + timedelta(days=3)
        for given, pointer in (({"kind": "horoscope"}, "/kind"), ({"kind": "affinity", "cutoff": future}, "/cutoff")):
            with pytest.raises(Invalid) as caught:
                analyses.start(session, actor=SYSTEM, **given)
            assert caught.value.errors[0]["pointer"] == pointer
    jobs.run_queued(company)
    with company.writing() as session:
        held = analyses.get_analysis(session, waiting.id)
        assert (held.status, held.results) == ("cancelled", {})
        none = analyses.start(session, "tracking", actor=SYSTEM, cutoff=CUTOFF - timedelta(days=5000), queued=False)
    with pytest.raises(GeocrmError, match="customers with an order"):
        analyses.execute(company, none.id)
    with company.writing() as session:
        failed = analyses.get_analysis(session, none.id)
        assert failed.status == "failed"
        assert failed.error is not None
        newest = analyses.find_newest(session, "tracking")
        assert newest is None or newest.status == "done"
    assert analyses.execute(company, waiting.id) == {"status": "cancelled"}


@pytest.mark.parametrize(
    ("kind", "parameters", "pointer"),
    [
        ("affinity", {"by": "colour"}, "by"),
        ("affinity", {"window_days": 0}, "window_days"),
        ("affinity", {"layer": 3}, "layer"),
        ("forecast", {"by": "segment"}, "segmentation"),
        ("forecast", {"horizon": 0}, "horizon"),
        ("forecast", {"rates": {"USD": "much"}}, "rates"),
        ("forecast", {"known_until": "soon"}, "known_until"),
        ("penetration", {}, "layer"),
        ("penetration", {"layer": "x", "level": 1}, "level"),
        ("tracking", {"weeks": 3}, "weeks"),
        ("tracking", {"years": 3}, "years"),
    ],
)
def test_parameters_that_a_kind_does_not_take(kind: str, parameters: dict[str, Any], pointer: str) -> None:
    with pytest.raises(Invalid) as caught:
        analysis_kinds.KINDS[kind].check(parameters)
    assert caught.value.errors[0]["pointer"] == f"/parameters/{pointer}"


def test_what_few_made_is_not_handed_on() -> None:
    """Few customers in all: no forecast, no track, no offers."""
    row = {"name": "whole", "customers": 9, "buyers": [9], "history": [9.0], "mean": [9.0]}
    assert handing_on.analysis("forecast", {"rows": [row]})["rows"] == []
    given = {"by": "owner", "counted": True}
    few = row | {"name": "few", "customers": 5, "buyers": [5], "history": [5.0]}
    kept = [row | {"name": name, "customers": many, "buyers": [many]} for name, many in
            (("whole", 155), ("one", 40), ("two", 50), ("three", 60))]  # fmt: skip
    told = handing_on.analysis("forecast", given | {"rows": [*kept, few]})
    assert [one["name"] for one in told["rows"]] == ["whole", "two", "three"], "and one that would tell it"
    held = {"weeks": 26, "customers": 9, "came": 3.0, "notes": []}
    assert "came" not in json.dumps(handing_on.analysis("tracking", held))
    few = {"pairs": [], "by_region": [], "sentences": [], "customers": 9, "offers": {"customers": 60}}
    assert handing_on.analysis("affinity", few)["offers"] is None


def test_churn_rates_tell_of_nobody_by_subtraction() -> None:
    """By the sums of a book too: of 20 at the opening 15 left, so five stayed."""

    def row(region: str, opening: int, joined: int, left: int, left_of_opening: int, total: bool = False) -> Any:
        book = Book(region, opening, joined, left, left_of_opening, opening + joined - left, 365.0 * opening)
        return regional_churn._row(churn_rate.churn_rates((book,))[0], total=total)

    fine = [row("North", 200, 60, 50, 30), row("South", 300, 40, 40, 30), row("West", 100, 30, 30, 10)]
    every = row("All", 600, 130, 120, 70, total=True)
    assert handing_on.churn_rates([*fine, every]) == ([*fine, every], 0)
    stayed = row("East", 20, 0, 15, 15)
    told, withheld = handing_on.churn_rates([*fine, stayed, row("All", 620, 130, 135, 85, total=True)])
    names = [one["region"] for one in told]
    assert "East" not in names
    assert names[-1] == "All"
    assert (withheld, len(told)) == (2, 3), "another goes with it, else all together would tell it"
    assert {one["left_of_opening"] for one in told} == {None}
    assert not any("opening" in one["sentence"] for one in told)
    came_and_went = row("East", 100, 30, 30, 27)
    told, withheld = handing_on.churn_rates([*fine, came_and_went, row("All", 700, 160, 150, 97, total=True)])
    assert (withheld, {one["opening_share"] for one in told}) == (0, {None}), "three came and left"
    assert handing_on.churn_rates([stayed, row("All", 20, 0, 15, 15, total=True)]) == ([], 1)
    assert handing_on.churn_rates([]) == ([], 0)


def test_pairs_of_a_region_tell_of_nobody_elsewhere() -> None:
    def told(*rows: tuple[int, int, int]) -> list[tuple[int, int]]:
        held = [{"first": 1, "second": pair, "both": both, "both_elsewhere": rest} for pair, both, rest in rows]
        given = {"pairs": [], "by_region": held, "sentences": [], "customers": 90, "offers": None}
        found = handing_on.analysis("affinity", given)
        assert found["withheld"] == len(rows) - len(found["by_region"])
        return [(row["second"], row["both"]) for row in found["by_region"]]

    assert told((2, 12, 3), (3, 30, 40), (4, 20, 0)) == [(3, 30), (4, 20)], "three have the first pair elsewhere"
    assert told((2, 12, 33), (2, 30, 15)) == [(2, 30)], "three in neither region"
    assert told((2, 12, 30), (2, 20, 22), (2, 7, 35)) == [(2, 12), (2, 20)], "ten in the third and in none"


@pytest.mark.parametrize("by", ["owner", "region"])
def test_periods_of_few_are_not_told_by_any_sum(by: str) -> None:
    """Whatever is told of random companies, and the whole less what is told, is of nobody or of ten different buyers.
    A customer of a region may buy in another one, too."""
    dice = np.random.default_rng(8)
    told_of, nulls = 0, 0
    for _ in range(150):
        groups, periods, people = int(dice.integers(2, 6)), 6, int(dice.integers(12, 90))
        sizes = dice.dirichlet(np.full(groups, 0.7))
        home = dice.choice(groups, people, p=sizes)
        bought = np.zeros((people, groups, periods))
        for who in range(people):
            often = dice.random() < dice.beta(1, 1, periods)
            where = home[who] if by == "owner" else dice.choice([home[who], int(dice.integers(groups))])
            bought[who, where] += often * dice.gamma(2, 9, periods)
            if by == "region":
                bought[who, home[who]] += dice.gamma(2, 9, periods) * (dice.random(periods) < 0.3)
        in_period = (bought > 0).sum(axis=0)
        customers = (bought > 0).any(axis=2).sum(axis=0) if by == "owner" else in_period.max(axis=1)
        rows = [
            {"name": name, "customers": int(many), "buyers": buyers.tolist(), "history": sold.tolist(),
             "mean": [float(sold.mean())]}
            for name, many, buyers, sold in [
                ("whole", (bought > 0).any(axis=(1, 2)).sum(), (bought.sum(axis=1) > 0).sum(axis=0),
                 bought.sum(axis=(0, 1))),
                *((group, customers[group], in_period[group], bought[:, group].sum(axis=0)) for group in range(groups)),
            ]
        ]  # fmt: skip
        told = handing_on.analysis("forecast", {"by": by, "counted": True, "rows": rows})
        if not told["rows"]:
            continue
        whole, *series = told["rows"]
        assert "buyers" not in whole
        for period in range(periods):
            left = bought[:, :, period].copy()
            for row in series:
                if row["history"][period] is not None:
                    assert len(np.flatnonzero(left[:, row["name"]])) not in range(1, 10)
                    left[:, row["name"]] = 0
                    told_of += 1
            if whole["history"][period] is not None:
                assert len(np.flatnonzero(left.any(axis=1))) not in range(1, 10)
        rest = np.delete(bought, [row["name"] for row in series], axis=1)
        assert len(np.flatnonzero(rest.any(axis=(1, 2)))) not in range(1, 10)
        nulls += told["periods_withheld"]
    assert told_of > 300
    assert nulls > 100


def test_a_forecast_does_not_repeat_what_few_bought() -> None:
    """The naive method's forecast is the last period itself."""
    whole = {"name": "whole", "customers": 200, "buyers": [90, 90], "history": [90.0, 80.0], "mean": [85.0]}
    rows = [whole | {"name": name, "customers": 50, "buyers": [50, 30]} for name in ("one", "two", "three")]
    rows.append(whole | {"name": "naive", "customers": 50, "buyers": [50, 3], "mean": [80.0]})
    told = handing_on.analysis("forecast", {"by": "owner", "counted": True, "rows": [whole, *rows]})
    assert "naive" not in {row["name"] for row in told["rows"]}
    naive = whole | {"buyers": [90, 9], "mean": [80.0]}
    assert handing_on.analysis("forecast", {"by": "nothing", "counted": True, "rows": [naive]})["rows"] == []


def test_weeks_of_few_are_not_told() -> None:
    """A sum of purchases is told where ten different customers bought since the one told before."""

    def told(buyers: list[int], weeks: int) -> dict[str, Any]:
        actual = np.concatenate([[0.0], np.cumsum(buyers)]).tolist()
        held = {"weeks": weeks, "customers": 50, "actual": actual, "buyers": buyers, "came": 1.0, "error": 0.1,
                "weekly_error": 1.0, "weekly_mean": 1.0}  # fmt: skip
        return handing_on.analysis("tracking", held)

    assert told([10, 0, 20, 11], 2) == {
        "weeks": 2, "customers": 50, "actual": [0, 10, 10, 30, 41], "came": 1.0, "error": 0.1, "weekly_error": 1.0,
        "weekly_mean": 1.0, "withheld": 0,
    }  # fmt: skip
    gaps = told([10, 3, 20, 12, 11, 4], 3)
    assert gaps["actual"] == [0, 10, None, 33, 45, None, 60]
    assert (gaps["came"], gaps["weekly_error"]) == (1.0, None)
    few = told([12, 3, 4, 2], 2)
    assert few["actual"] == [0, None, 15, None, None]
    assert (few["came"], few["error"], few["weekly_mean"]) == (None, None, None)


def test_sales_of_one_buyer_are_not_told() -> None:
    row = {"name": "A", "customers": 40, "buyers": 12, "sales": 5.0, "potential": 1.0, "potential_sales": 3.0,
           "potential_sales_low": 2.0}  # fmt: skip
    told = handing_on.analysis("penetration", {"rows": [row, row | {"name": "B", "buyers": 1}]})["rows"]
    assert [one["sales"] for one in told] == [5.0, None]
    assert [one["potential_sales_low"] for one in told] == [2.0, None]
    assert [one["potential"] for one in told] == [1.0, 1.0]
