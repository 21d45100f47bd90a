"""The marketer's report: its figures are the database's, nothing of few stands in it, and it opens by itself."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from geocrm import ids
from geocrm.access import SYSTEM
from geocrm.db.engine import Database
from geocrm.errors import Forbidden
from geocrm.reports import segments_report, segments_who
from geocrm.reports.charts import View
from geocrm.reports.segments_content import CellPart, Content
from geocrm.reports.segments_page import render
from geocrm.segmentation import analyses, publishing, runs, segmentations
from tests.makers import actor_of, make_customer, make_sale, make_user
from tests.segmentation.test_analyses import CUTOFF, PEOPLE, company  # noqa: F401

SQUARE = (10.0, 50.0, 11.0, 50.6)
CELLS = CellPart(8, ((135, 86),), np.array([[12]]), {}, 0)
RARE = '<b onmouseover="alert(1)">Rare</b>'


class Page(HTMLParser):
    """The rows of the page's tables by section, and everything that could run or be fetched."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: dict[str, list[list[str]]] = {}
        self.texts: dict[str, str] = {}
        self.strange: list[str] = []
        self._section, self._cell = "", False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "link") or any(name.startswith("on") for name in given):
            self.strange.append(tag)
        for name in ("href", "src"):
            if name in given and not str(given[name]).startswith("#"):
                self.strange.append(str(given[name]))
        if tag == "section":
            self._section = str(given["id"])
        if tag == "tr":
            self.rows.setdefault(self._section, []).append([])
        if tag in ("td", "th"):
            self.rows[self._section][-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        self.texts[self._section] = self.texts.get(self._section, "") + data
        if self._cell:
            self.rows[self._section][-1][-1] += data


@pytest.fixture(scope="module")
def done(company: Database) -> Database:  # noqa: F811
    """The company of analyses with everything run, but churn; four customers are in a rule's segment of their own."""
    with company.writing() as session:
        few = [make_customer(session, name=RARE) for _ in range(4)]
        for customer in few:
            make_sale(session, customer, occurred_at=CUTOFF.replace(year=2025))
        made = {
            method: segmentations.create_segmentation(
                session, actor=SYSTEM, key=method, name=RARE if method == "rfm" else method, method=method,
                parameters=parameters,
            ).id
            for method, parameters in (("rfm", {}), ("value", {}), ("groups", {"k": 3}), ("hotspots", {"zoom": 14}))
        }  # fmt: skip
        asked = [
            analyses.start(session, kind, actor=SYSTEM, parameters=parameters, cutoff=CUTOFF, queued=False).id
            for kind, parameters in (
                ("affinity", {"fewest": 3}), ("forecast", {"horizon": 3}), ("penetration", {"layer": "sales"}),
                ("tracking", {}),
            )
        ]  # fmt: skip
        started = {method: runs.start(session, number, actor=SYSTEM, cutoff=CUTOFF, queued=False).id
                   for method, number in made.items()}  # fmt: skip
    for number in asked:
        analyses.execute(company, number)
    for method, number in started.items():
        runs.execute(company, number)
        with company.writing() as session:
            publishing.publish(session, made[method], 1, actor=SYSTEM)
    return company


def report(database: Database, **given: Any) -> str:
    with database.writing() as session:
        return segments_report.make(session, SYSTEM, **given)


def test_figures_are_those_of_the_database(done: Database) -> None:
    page = Page(report(done))
    with done.writing() as session:
        sizes = session.execute(
            text("SELECT s.name, count(*) AS n FROM segment_members m JOIN segments s ON s.id = m.segment_id JOIN"
                 " segmentations g ON g.current_run_id = m.run_id WHERE g.key = 'rfm' GROUP BY 1")
        ).all()  # fmt: skip
        worth = session.scalar(
            text("SELECT sum(x.numbers[3]) FROM scores x JOIN segmentations g ON g.current_run_id = x.run_id"
                 " WHERE g.key = 'value' AND x.numbers[3] <> 'NaN'")
        )  # fmt: skip
        customers = session.scalar(text("SELECT count(*) FROM customers"))
        forecast = analyses.find_newest(session, "forecast")
        together = analyses.find_newest(session, "affinity")
        assert forecast is not None
        assert together is not None
    assert f"{customers:,} customers" in page.texts[""]
    large = {row.name: row.n for row in sizes if row.n >= 10}
    told = [(row[0], re.match(r"([\d,]+) · [\d.]+%", row[-1])) for row in page.rows["customers"]]
    shown = {name: int(found[1].replace(",", "")) for said, found in told if found
             for name in large if said.startswith(name)}  # fmt: skip
    assert set(shown.items()) <= set(large.items())
    assert len(shown) == sum(found is not None for _, found in told)
    assert len(large) - len(shown) <= 1, "one more may go with those of few"
    total = next(part for part in re.findall(r"bring: ([\d.]+[kM]?|[\d,]+) USD", page.texts["value"]))
    assert float(total.rstrip("kM").replace(",", "")) * {"k": 1e3, "M": 1e6}.get(total[-1], 1) == pytest.approx(
        worth, rel=0.01
    )
    pair = together.results["pairs"][0]
    assert page.rows["products"][1][0].startswith(f"{pair['first_name']} and {pair['second_name']}")
    assert page.rows["products"][1][-1] == f"{pair['lift']:.1f} ×"
    names = [row[0] for row in page.rows["forecast"][1:]]
    assert names[0] == "whole"
    assert "Square 5" not in names, "five customers"
    areas = {row[0]: row[-1] for row in page.rows["penetration"]}
    assert areas["Square 379 of 2,500"] == f"{79 / 2500:.2%}"
    assert "Square 5" not in page.texts["penetration"]
    assert "areas of too few customers are not told" in page.texts["penetration"]
    assert "geocrm segments create churn --method churn" in page.texts["leaving"]
    with done.writing() as session:
        track = analyses.find_newest(session, "tracking")
        assert track is not None
    off = track.results["expected_of_histories"] / track.results["came"] - 1
    said = f"{track.results['came']:,.0f} came: {abs(off):.1%} too {'many' if off > 0 else 'few'} were expected."
    assert said in page.texts["value"]


def test_the_newest_analysis_is_that_of_the_latest_cutoff(done: Database) -> None:
    """Neither one of an earlier cutoff that was asked for later, nor of one cutoff the one asked for first."""

    def penetration(cutoff: datetime) -> int:
        with done.writing() as session:
            number = analyses.start(session, "penetration", actor=SYSTEM, parameters={"layer": "sales"}, cutoff=cutoff,
                                    queued=False).id  # fmt: skip
        analyses.execute(done, number)
        return number

    def told() -> str:
        with done.writing() as session:
            return segments_report._analyses(session, {})["penetration"].id

    again = penetration(CUTOFF)
    assert told() == ids.show("ana", again)
    penetration(CUTOFF - timedelta(days=100))
    assert told() == ids.show("ana", again)
    with done.writing() as session:
        newest = analyses.find_newest(session, "penetration")
        assert newest is not None
        assert newest.id == again


def test_one_group_is_set_beside_nothing(done: Database) -> None:
    with done.writing() as session:
        groups = segments_report._runs(session)[0]["groups"][0]
    one = replace(
        groups, segments=groups.segments[:1], results=groups.results | {"k": 1, "choice": {"reason": "None."}}
    )
    content = Content("", CUTOFF, "", None, {"groups": (one,)}, {}, {}, {}, (), None, (), None)
    page = render(content)
    assert "There is one group: no other division comes back in other samples." in page
    assert "1</b> groups" not in page
    section = page.partition('id="groups"')[2].partition("</section>")[0]
    assert "None." in section
    for what in ("What tells them apart", "usual share", "<article>"):
        assert what in segments_who.groups(replace(content, runs={"groups": (groups,)}, cells=CELLS), View(SQUARE))
        assert what not in section


def test_it_opens_by_itself_and_runs_nothing(done: Database) -> None:
    page = report(done, title=RARE)
    read = Page(page)
    assert read.strange == []
    assert "default-src 'none'" in page
    assert RARE not in page
    assert "&lt;b onmouseover" in page
    assert len(page) < 1_000_000


def test_whoever_does_not_see_everybody_gets_none(done: Database) -> None:
    with done.writing() as session:
        for role in ("rep", "manager"):
            with pytest.raises(Forbidden):
                segments_report.make(session, actor_of(session, make_user(session, role)))
        page = segments_report.make(session, actor_of(session, make_user(session, "analyst")))
        assert "Made" in page
        entry = session.execute(text("SELECT action FROM audit_log ORDER BY id DESC LIMIT 1")).scalar_one()
    assert entry == "report.segments"


def test_an_empty_company_is_told_what_is_missing(new_database: Callable[[], Database]) -> None:
    page = Page(report(new_database()))
    for section in ("customers", "groups", "value", "hotspots", "penetration", "products", "forecast", "leaving"):
        assert "geocrm " in page.texts[section], section


def test_worth_of_few_is_not_told_by_that_of_all(done: Database) -> None:
    """Where five of a segment have a worth, another one goes with it; so it is where three with one are in none."""
    member = "SELECT customer_id FROM segment_members WHERE run_id = :rfm AND"
    no_worth = "UPDATE scores SET numbers[3] = 'NaN' WHERE run_id = :value AND customer_id IN"
    with done.writing() as session:
        parts, _ = segments_report._runs(session)
        value, rfm = parts["value"][0], parts["rfm"][0]
        shown = [row["id"] for row in rfm.segments]
        bound = {"rfm": rfm.run_id, "value": value.run_id, "shown": shown, "one": shown[0]}
        session.execute(text(f"{no_worth} ({member} segment_id <> ALL(:shown))"), bound)
        worth = segments_report._worth(session, rfm, value)
        assert len(worth) > 3
        with session.begin_nested() as few:
            session.execute(
                text(f"{no_worth} ({member} segment_id = :one) AND customer_id NOT IN"
                     f" ({member} segment_id = :one ORDER BY 1 LIMIT 5)"), bound
            )  # fmt: skip
            left = segments_report._worth(session, rfm, value)
            assert shown[0] not in left
            assert len(left) == len(worth) - 2
            few.rollback()
        with session.begin_nested() as few:
            session.execute(
                text(f"DELETE FROM segment_members WHERE run_id = :rfm AND customer_id IN"
                     f" ({member} segment_id = :one ORDER BY 1 LIMIT 3)"), bound
            )  # fmt: skip
            assert len(segments_report._worth(session, rfm, value)) == len(worth) - 1
            few.rollback()
        session.rollback()
