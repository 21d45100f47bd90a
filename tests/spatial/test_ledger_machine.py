"""The ledger against the oracle, on random sequences of what a company does to its territories and customers.

After every step the whole ledger equals the oracle's, which looks at everything anew: so what is computed on
differences equals a full recomputation. At the end, what was known at each step is asked again.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from shapely import MultiPolygon, Polygon, box
from shapely.geometry.base import BaseGeometry
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm.access import SYSTEM
from geocrm.db import models
from geocrm.db.engine import Database
from geocrm.spatial import areas, layers, ledger, territories
from tests.makers import make_customer, make_site
from tests.spatial.world_of_territories import FOREVER, AreaState, Oracle, SiteState, Version, carry, evaluate

DAY_ZERO = datetime(2026, 1, 1, tzinfo=UTC)
REGIONS = ("north", "south", "west")

# Everything lies on a grid of quarter degrees, so that points on borders and corners are common and exact. The grid
# is the strip on both sides of ±180°.
STEPS = [x / 4 for x in range(17)]


def lon_of(x: float) -> float:
    """Grid column 0 to 4 degrees, from 178° E over the antimeridian to 178° W."""
    return 178 + x if x <= 2 else x - 182


def shape(x: float, y: float, width: float, height: float) -> BaseGeometry:
    """A rectangle on the grid, cut in two where it crosses ±180°."""
    parts = []
    for low, high, shift in ((0.0, 2.0, 178.0), (2.0, 4.0, -182.0)):
        left, right = max(x, low), min(x + width, high)
        if left < right:
            parts.append(box(left + shift, y, right + shift, y + height))
    return MultiPolygon(parts)


def triangle(x: float, y: float, size: float) -> BaseGeometry:
    """A right triangle with a slanted border, on one side of ±180°."""
    x = min(x, 2 - size)
    return MultiPolygon([Polygon([(178 + x, y), (178 + x + size, y), (178 + x, y + size)])])


grid = st.sampled_from(STEPS)
sizes = st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0])


@st.composite
def geometries(draw: st.DrawFn) -> BaseGeometry | None:
    """Rectangles, triangles, rectangles with a hole or an enclave, two parts, or no polygon."""
    kind = draw(st.sampled_from(["box", "box", "triangle", "hole", "parts", "none"]))
    if kind == "none":
        return None
    x, y = draw(grid), draw(grid)
    if kind == "triangle":
        return triangle(min(x, 1.5), y, draw(st.sampled_from([0.5, 1.0])))
    width, height = draw(sizes), draw(sizes)
    made = shape(min(x, 3.5), y, min(width, 4 - min(x, 3.5)), height)
    if kind == "hole":
        made = made.difference(shape(min(x, 3.5) + 0.25, y + 0.25, 0.25, min(height, 1) - 0.25))
    if kind == "parts":
        made = made.union(shape(draw(st.sampled_from([0.0, 3.0])), draw(grid), 0.5, 0.5))
    polygons = [made] if isinstance(made, Polygon) else list(made.geoms)
    return MultiPolygon([p for p in polygons if isinstance(p, Polygon) and p.area > 0])


places = st.one_of(st.none(), st.tuples(st.sampled_from([lon_of(x) for x in STEPS]), grid))


class Machine(RuleBasedStateMachine):
    """One layer, a handful of customers with one or two sites each."""

    database: Database

    def __init__(self) -> None:
        super().__init__()
        self.connection = self.database.writing_engine.connect()
        self.transaction = self.connection.begin()
        self.session = Session(self.connection, join_transaction_mode="create_savepoint", expire_on_commit=False)
        self.oracle = Oracle()
        self.now = 0.0
        self.versions: dict[int, Version] = {}
        self.drafts: dict[int, tuple[Version, Version | None]] = {}  # number → (content, what it was begun from)
        self.known: list[tuple[datetime, float, dict[int, Any]]] = []
        self.gone: set[int] = set()
        self.whole = False  # whether the last step went well to its end

    def teardown(self) -> None:
        try:
            if self.whole:
                self.look_back()
        finally:
            self.session.close()
            self.transaction.rollback()
            self.connection.close()

    @initialize()
    def begin(self) -> None:
        self.layer = layers.create_layer(
            self.session, key="sales", name="Sales", kind="territories", is_primary=True, actor=SYSTEM
        )

        # something to work with from the start: four areas in force, three customers
        number = layers.create_draft(self.session, self.layer.id, actor=SYSTEM).version
        content: dict[int, AreaState] = {}
        for x, y, region in ((0.0, 0.0, None), (1.0, 0.0, "north"), (1.5, 0.5, None), (3.0, 0.0, None)):
            condition = None if region is None else {"field": "region", "op": "=", "value": region}
            geometry = shape(x, y, 1.0, 4.0)
            put = areas.put_area(
                self.session, self.layer.id, number, actor=SYSTEM, name="Area", geometry=geometry, rule=condition
            )
            content[put.area_id] = AreaState(geometry, region)
        territories.publish(
            self.session, self.layer.id, number, actor=SYSTEM, reason="first", effective_from=self.at(-40),
            now=self.at(0),
        )  # fmt: skip
        self.is_published(number, Version(content), None, -40)
        for place, region in (((178.0, 1.0), "south"), ((179.75, 1.0), "west"), ((-180.0, 1.5), "north")):
            self.customer_comes(place, region, None)

    # time

    def at(self, day: float) -> datetime:
        return DAY_ZERO + timedelta(days=day)

    def day(self, moment: datetime | None) -> float:
        return FOREVER if moment is None else (moment - DAY_ZERO).total_seconds() / 86400

    @rule(days=st.sampled_from([0.5, 6.0, 25.0]))
    def time_passes(self, days: float) -> None:
        self.now += days
        self.session.execute(text("SELECT 1"))
        territories.make_due_current(self.session, now=self.at(self.now))

    def tick(self) -> datetime:
        self.whole = False
        self.now += 1 / 1024
        territories.make_due_current(self.session, now=self.at(self.now))
        return self.at(self.now)

    # customers

    def site_fields(self, state: SiteState) -> dict[str, Any]:
        fields: dict[str, Any] = {"region": state.region, "placement": "pending", "location": None}
        if state.place is not None:
            lon, lat = state.place
            fields |= {
                "location": f"SRID=4326;POINT({lon!r} {lat!r})", "placement": "placed", "location_precision": "given",
                "precision_m": 25.0,
            }  # fmt: skip
        return fields

    def customers(self) -> list[int]:
        return sorted({s.customer for s in self.oracle.sites.values()})

    @rule(place=places, region=st.sampled_from(REGIONS), second=st.one_of(st.none(), places))
    def customer_comes(self, place: Any, region: str, second: Any) -> None:
        now = self.tick()
        customer = make_customer(self.session, site=self.site_fields(SiteState(0, place, region)))
        sites = [self.session.query(models.Site).filter_by(customer_id=customer.id).one().id]
        states = [SiteState(customer.id, place, region)]
        if second is not None:
            states.append(SiteState(customer.id, second, region))
            sites.append(make_site(self.session, customer, **self.site_fields(states[1])).id)
        territories.evaluate(self.session, [customer.id], actor=SYSTEM, reason="comes", now=now)
        for site, state in zip(sites, states, strict=True):
            self.oracle.create(site, state)

    @precondition(lambda self: self.oracle.sites)
    @rule(which=st.integers(0, 99), place=places, region=st.sampled_from(REGIONS), keep=st.booleans())
    def site_changes(self, which: int, place: Any, region: str, keep: bool) -> None:
        now = self.tick()
        number = sorted(self.oracle.sites)[which % len(self.oracle.sites)]
        old = self.oracle.sites[number]
        state = SiteState(old.customer, old.place if keep else place, region)
        site = self.session.get(models.Site, (old.customer, number))
        for name, value in self.site_fields(state).items():
            setattr(site, name, value)
        territories.evaluate(self.session, [old.customer], actor=SYSTEM, reason="changes", now=now)
        self.oracle.edit(number, state, self.now)

    @precondition(lambda self: self.oracle.sites)
    @rule(which=st.integers(0, 99), whole=st.booleans())
    def site_goes(self, which: int, whole: bool) -> None:
        now = self.tick()
        number = sorted(self.oracle.sites)[which % len(self.oracle.sites)]
        customer = self.oracle.sites[number].customer
        if whole:
            self.session.execute(text("DELETE FROM customers WHERE id = :id"), {"id": customer})
            for site in [s for s, state in self.oracle.sites.items() if state.customer == customer]:
                self.oracle.remove(site, self.now)
            for site, _ in list(self.oracle.answers.items()):
                if self.customer_of(site) == customer:
                    self.oracle.answers[site] = []
                    self.gone.add(site)
        else:
            self.session.execute(text("DELETE FROM sites WHERE id = :id"), {"id": number})
            self.oracle.remove(number, self.now)
        self.session.expunge_all()
        territories.evaluate(self.session, [customer], actor=SYSTEM, reason="goes", now=now)

    def customer_of(self, site: int) -> int | None:
        return self.session.scalar(
            text("SELECT customer_id FROM assignments WHERE site_id = :site LIMIT 1"), {"site": site}
        )

    # drafts

    @rule(empty=st.booleans())
    @precondition(lambda self: len(self.drafts) < 2)
    def draft(self, empty: bool) -> None:
        self.tick()
        base = self.oracle.in_force(self.now)
        empty = empty and len(self.versions) == 0
        made = layers.create_draft(self.session, self.layer.id, actor=SYSTEM, source="empty" if empty else "published")
        self.drafts[made.version] = (Version() if empty or base is None else base, None if empty else base)

    def some_draft(self, which: int) -> int:
        return sorted(self.drafts)[which % len(self.drafts)]

    @precondition(lambda self: self.drafts)
    @rule(
        which=st.integers(0, 99), area=st.integers(0, 99), geometry=geometries(),
        region=st.one_of(st.none(), st.sampled_from(REGIONS)), priority=st.sampled_from([0, 0, 0, 1]),
        new=st.booleans(),
    )  # fmt: skip
    def area_is_put(self, which: int, area: int, geometry: Any, region: str | None, priority: int, new: bool) -> None:
        number = self.some_draft(which)
        content, base = self.drafts[number]
        if new or not content.areas:
            area_id = None
        else:
            area_id = sorted(content.areas)[area % len(content.areas)]
        condition = None if region is None else {"field": "region", "op": "=", "value": region}
        put = areas.put_area(
            self.session, self.layer.id, number, area_id, actor=SYSTEM, name="Area", geometry=geometry, rule=condition,
            priority=priority,
        )  # fmt: skip
        state = AreaState(geometry, region, priority)
        self.drafts[number] = (Version({**content.areas, put.area_id: state}, content.names), base)

    @rule(
        area=st.integers(0, 99),
        geometry=st.one_of(st.just("same"), geometries()),
        region=st.one_of(st.none(), st.sampled_from(REGIONS)),
        priority=st.sampled_from([0, 1]),
        offset=st.sampled_from([0.0, -4.0, 5.0, 20.0]),
    )
    def area_is_redrawn_at_once(self, area: int, geometry: Any, region: Any, priority: int, offset: float) -> None:
        now = self.tick()
        current = self.oracle.in_force(self.now)
        if current is None or not current.areas:
            return
        area_id = sorted(current.areas)[area % len(current.areas)]
        number = layers.create_draft(self.session, self.layer.id, actor=SYSTEM).version
        old = current.areas[area_id]
        geometry = old.geometry if isinstance(geometry, str) else geometry
        condition = None if region is None else {"field": "region", "op": "=", "value": region}
        areas.put_area(
            self.session, self.layer.id, number, area_id, actor=SYSTEM, geometry=geometry, rule=condition,
            priority=priority,
        )  # fmt: skip
        content = Version({**current.areas, area_id: AreaState(geometry, region, priority)}, current.names)
        begin = self.now + offset
        territories.publish(
            self.session, self.layer.id, number, actor=SYSTEM, reason="redrawn", effective_from=self.at(begin),
            overwrite=True, now=now,
        )  # fmt: skip
        self.is_published(number, content, current, begin)

    @precondition(lambda self: any(content.areas for content, _ in self.drafts.values()))
    @rule(which=st.integers(0, 99), area=st.integers(0, 99))
    def area_is_deleted(self, which: int, area: int) -> None:
        number = self.some_draft(which)
        content, base = self.drafts[number]
        if not content.areas:
            return
        area_id = sorted(content.areas)[area % len(content.areas)]
        areas.delete_area(self.session, self.layer.id, number, area_id, actor=SYSTEM)
        kept = {n: a for n, a in content.areas.items() if n != area_id}
        named = {c: a for c, a in content.names.items() if a != area_id}
        self.drafts[number] = (Version(kept, named), base)

    @precondition(lambda self: self.oracle.sites and any(content.areas for content, _ in self.drafts.values()))
    @rule(which=st.integers(0, 99), area=st.integers(0, 99), customer=st.integers(0, 99), unname=st.booleans())
    def account_is_named(self, which: int, area: int, customer: int, unname: bool) -> None:
        number = self.some_draft(which)
        content, base = self.drafts[number]
        who = self.customers()[customer % len(self.customers())]
        names = dict(content.names)
        if unname:
            layers.unname_accounts(self.session, self.layer.id, number, [who], actor=SYSTEM)
            if names.get(who) in content.areas:
                del names[who]
        elif content.areas:
            area_id = sorted(content.areas)[area % len(content.areas)]
            layers.name_accounts(self.session, self.layer.id, number, [(who, area_id)], actor=SYSTEM)
            names[who] = area_id
        self.drafts[number] = (Version(content.areas, names), base)

    # publishing

    def is_published(self, number: int, content: Version, base: Version | None, begin: float) -> None:
        before = self.oracle.in_force(max(begin, self.now))
        if base is not None and before is not None and base is not before:
            content = carry(content, base, before)
        self.oracle.publish(content, begin, self.now)
        self.remember_versions()

    def remember_versions(self) -> None:
        """What each version that is in force or ahead holds, by the number that the layer gives it."""
        rows = self.session.execute(
            text(
                "SELECT version, valid_from FROM layer_periods WHERE layer_id = :layer AND superseded_at IS NULL "
                "ORDER BY valid_from"
            ),
            {"layer": self.layer.id},
        ).all()
        assert [round(self.day(r.valid_from), 6) for r in rows] == [round(b, 6) for b, _, _ in self.oracle.periods]
        for row, (_, _, version) in zip(rows, self.oracle.periods, strict=True):
            self.versions[row.version] = version

    @precondition(lambda self: self.drafts)
    @rule(which=st.integers(0, 99), offset=st.sampled_from([0.0, 0.0, 0.0, -4.0, -30.0, 5.0, 20.0]))
    def draft_is_published(self, which: int, offset: float) -> None:
        now = self.tick()
        number = self.some_draft(which)
        content, base = self.drafts.pop(number)
        begin = self.now + offset
        territories.publish(
            self.session, self.layer.id, number, actor=SYSTEM, reason="plan", effective_from=self.at(begin),
            overwrite=True, now=now,
        )  # fmt: skip
        self.is_published(number, content, base, begin)

    @precondition(lambda self: self.oracle.in_force(self.now) is not None and self.oracle.sites)
    @rule(customer=st.integers(0, 99), area=st.integers(0, 99))
    def customer_is_moved(self, customer: int, area: int) -> None:
        now = self.tick()
        current = self.oracle.in_force(self.now)
        if current is None or not current.areas:
            return
        who = self.customers()[customer % len(self.customers())]
        area_id = sorted(current.areas)[area % len(current.areas)]
        done = territories.move(self.session, self.layer.id, {who: area_id}, actor=SYSTEM, reason="by hand", now=now)
        self.is_published(done.version, Version(current.areas, {**current.names, who: area_id}), current, self.now)

    @precondition(lambda self: len(self.versions) > 1)
    @rule(which=st.integers(0, 99))
    def former_version_comes_back(self, which: int) -> None:
        now = self.tick()
        current = self.oracle.in_force(self.now)
        if current is None:
            return
        number = sorted(self.versions)[which % len(self.versions)]
        former = self.versions[number]
        done = territories.undo(self.session, self.layer.id, version=number, actor=SYSTEM, reason="back", now=now)
        named = {c: a for c, a in former.names.items() if a in former.areas}
        self.is_published(done.version, Version(former.areas, named), current, self.now)

    # what holds

    @invariant()
    def ledger_is_the_oracles(self) -> None:
        if not hasattr(self, "layer"):
            return
        self.session.flush()
        rows = self.session.execute(
            text(
                "SELECT site_id, valid_from, valid_to, area_id, basis FROM assignments WHERE superseded_at IS NULL "
                "ORDER BY site_id, valid_from"
            )
        ).all()
        found: dict[int, list[Any]] = {}
        for row in rows:
            answers = found.setdefault(row.site_id, [])
            piece = (round(self.day(row.valid_from), 6), round(self.day(row.valid_to), 6), (row.area_id, row.basis))
            if answers and answers[-1][1] == piece[0] and answers[-1][2] == piece[2]:
                answers[-1] = (answers[-1][0], piece[1], piece[2])
            else:
                answers.append(piece)
        wanted = {
            site: [(round(b, 6), round(e, 6), a) for b, e, a in answers]
            for site, answers in self.oracle.answers.items()
            if answers
        }
        if found != wanted:
            note(f"sites: {self.oracle.sites}")
            note(f"periods: {self.oracle.periods}")
        assert found == wanted
        recorded = self.session.scalar(text("SELECT clock_timestamp()"))
        self.whole = True
        self.known.append((recorded, self.now, {s: list(a) for s, a in self.oracle.answers.items()}))

    @invariant()
    def columns_follow(self) -> None:
        if not hasattr(self, "layer"):
            return
        rows = self.session.execute(text("SELECT id, customer_id, territory_id FROM sites")).all()
        by_customer: dict[int, set[int]] = {}
        for row in rows:
            answer = self.oracle.answer(row.id, self.now)
            assert row.territory_id == (answer[0] if answer else None)
            if row.territory_id is not None:
                by_customer.setdefault(row.customer_id, set()).add(row.territory_id)
        stored = self.session.execute(text("SELECT id, territory_ids FROM customers")).all()
        assert {r.id: r.territory_ids for r in stored} == {r.id: sorted(by_customer.get(r.id, ())) for r in stored}
        named = self.session.execute(text("SELECT customer_id, area_id FROM named_accounts")).all()
        version = self.oracle.in_force(self.now) or Version()
        assert dict(map(tuple, named)) == {c: a for c, a in version.names.items() if a in version.areas}

    @invariant()
    def nothing_is_left_to_do(self) -> None:
        """A full recomputation by the ledger's own means finds no difference."""
        if not hasattr(self, "layer") or not self.oracle.periods:
            return
        ledger.begin(self.session)
        in_force = ledger.layers_in_force(self.session, self.layer.id, now=self.at(self.now))[0]
        self.session.execute(
            text(
                "INSERT INTO ledger_sites SELECT customer_id, id, CASE placement WHEN 'placed' THEN location END "
                "FROM sites"
            )
        )
        ledger.expect(self.session, in_force, now=self.at(self.now), bulk=False)
        from geocrm.db.queries import named

        self.session.execute(text(named("territories", "unchanged")), {"layer": self.layer.id})
        assert self.session.scalar(text("SELECT count(*) FROM ledger_new")) == 0

    @rule(
        place=st.tuples(st.sampled_from([lon_of(x) for x in STEPS]), grid),
        offset=st.sampled_from([0.0, -2.0, -20.0, 7.0]),
    )
    def point_is_asked(self, place: tuple[float, float], offset: float) -> None:
        day = self.now + offset
        found = territories.at(self.session, *place, as_of=self.at(day))
        version = self.oracle.in_force(day)
        if version is None:
            assert found == []
            return
        polygons = Version({n: AreaState(a.geometry, None, a.priority) for n, a in version.areas.items()})
        assert (found[0].area_id, found[0].basis) == evaluate(SiteState(0, place, ""), polygons)
        if found[0].area_id is None:  # nowhere is no assignment, and has no time
            assert (found[0].valid_from, found[0].valid_to) == (None, None)
            return
        end = self.day(found[0].valid_to)
        assert self.day(found[0].valid_from) <= day < end
        for other, until, later in self.oracle.periods:  # the period named is the whole time for which it holds
            later_polygons = Version({n: AreaState(a.geometry, None, a.priority) for n, a in later.areas.items()})
            same = evaluate(SiteState(0, place, ""), later_polygons)[0] == found[0].area_id
            if round(self.day(found[0].valid_from), 6) <= round(other, 6) and round(until, 6) <= round(end, 6):
                assert same
            if round(other, 6) == round(end, 6) or round(until, 6) == round(self.day(found[0].valid_from), 6):
                assert not same

    def look_back(self) -> None:
        """What was known at each step, and what held then, is what it was."""
        for recorded, day, answers in self.known[-8:]:
            for site, then in list(answers.items())[:4]:
                customer = self.customer_of(site)
                if customer is None:
                    assert then == []
                    continue
                for asked in (day, day - 10, day + 10):
                    held = territories.of_customer(self.session, customer, as_of=self.at(asked), known_at=recorded)
                    found = [(h.area_id, h.basis) for h in held if h.site_id == site]
                    assert found == [a for b, e, a in then if round(b, 6) <= round(asked, 6) < round(e, 6)]


def _run(database: Database, examples: int, steps: int) -> None:
    made = type("TerritoryMachine", (Machine,), {"database": database})
    run_state_machine_as_test(
        made,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, print_blob=True,
            suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.reuse, Phase.generate),
        ),
    )  # fmt: skip


def test_the_ledger_is_the_oracles_on_random_sequences(database: Database) -> None:
    _run(database, examples=12, steps=18)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_the_ledger_is_the_oracles_on_many_long_sequences(database: Database) -> None:
    _run(database, examples=400, steps=40)
