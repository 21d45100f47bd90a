"""An oracle for the ledger, in pure Python and shapely: it imports nothing from geocrm.

It keeps what a company knows, applies each event by the book, and answers for any site and day which area it belonged
to and why. The ledger under test works on differences; the oracle always looks at everything.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from shapely.geometry import Point
from shapely.geometry.base import BaseGeometry

FOREVER = float("inf")
Answer = tuple[int | None, str]


@dataclass(frozen=True)
class AreaState:
    """An area as a version holds it; `rule` is the region that its rule names."""

    geometry: BaseGeometry | None
    rule: str | None = None
    priority: int = 0


@dataclass(frozen=True)
class Version:
    """What a layer version holds: areas by id, names by customer."""

    areas: dict[int, AreaState] = field(default_factory=dict)
    names: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SiteState:
    """A site as it is known now; `place` is None where it is not placed."""

    customer: int
    place: tuple[float, float] | None
    region: str


def evaluate(site: SiteState, version: Version) -> Answer:
    """First match wins: named, rule, polygon; higher priority, lowest area id."""
    named = version.names.get(site.customer)
    if named is not None and named in version.areas:
        return named, "named"
    by_rule = [(-a.priority, n) for n, a in version.areas.items() if a.rule is not None and a.rule == site.region]
    if by_rule:
        return min(by_rule)[1], "rule"
    if site.place is not None:
        here = Point(site.place)
        by_polygon = [
            (-a.priority, n) for n, a in version.areas.items() if a.geometry is not None and a.geometry.covers(here)
        ]
        if by_polygon:
            return min(by_polygon)[1], "polygon"
    return None, "none"


@dataclass
class Oracle:
    """A layer's periods and the answers per site, over all time."""

    periods: list[tuple[float, float, Version]] = field(default_factory=list)
    sites: dict[int, SiteState] = field(default_factory=dict)
    since: dict[int, float] = field(default_factory=dict)
    answers: dict[int, list[tuple[float, float, Answer]]] = field(default_factory=dict)

    def in_force(self, moment: float) -> Version | None:
        return next((v for begin, end, v in self.periods if begin <= moment < end), None)

    def expected(self, site: int) -> list[tuple[float, float, Answer]]:
        """What follows from the present state of a site and the present periods."""
        return _merged([(begin, end, evaluate(self.sites[site], v)) for begin, end, v in self.periods])

    def answer(self, site: int, moment: float) -> Answer | None:
        return next((a for begin, end, a in self.answers.get(site, []) if begin <= moment < end), None)

    def create(self, site: int, state: SiteState) -> None:
        self.sites[site] = state
        self.since[site] = -FOREVER
        self.answers[site] = self.expected(site)

    def edit(self, site: int, state: SiteState, now: float) -> None:
        """A change counts from now on; where it changes no answer since the last change, nothing is known to differ."""
        self.sites[site] = state
        wanted = self.expected(site)
        if _from(wanted, self.since[site]) == _from(self.answers[site], self.since[site]):
            return
        past = _until(self.answers[site], now)
        if past:
            self.since[site] = now
            self.answers[site] = _merged([*past, *_from(wanted, now)])
        else:
            self.answers[site] = wanted

    def remove(self, site: int, now: float) -> None:
        """A site that is gone belongs to nobody from now on."""
        del self.sites[site], self.since[site]
        self.answers[site] = _until(self.answers[site], now)

    def publish(self, version: Version, begin: float, now: float) -> None:
        """In force from `begin` to the next version scheduled; the change is carried into those that wait."""
        before = self.in_force(max(begin, now))
        later = [p for p in self.periods if p[0] > max(begin, now)]
        kept = [(b, min(e, begin), v) for b, e, v in self.periods if b < begin]
        end = later[0][0] if later else FOREVER
        self.periods = [*kept, (begin, end, version)]
        old, new = before, version
        for b, e, waiting in later:
            carried = carry(waiting, old or Version(), new) if old is not None else waiting
            self.periods.append((b, e, carried))
            old, new = waiting, carried
        for site in self.sites:
            frm = max(begin, self.since[site])
            self.answers[site] = _merged([*_until(self.answers[site], frm), *_from(self.expected(site), frm)])


def carry(ours: Version, base: Version, theirs: Version) -> Version:
    """`ours` with what `theirs` changed since `base`, where `ours` did not change it itself."""
    areas = dict(ours.areas)
    for area in set(base.areas) | set(theirs.areas):
        if ours.areas.get(area) is base.areas.get(area) and theirs.areas.get(area) is not base.areas.get(area):
            if area in theirs.areas:
                areas[area] = theirs.areas[area]
            else:
                areas.pop(area, None)
    names = dict(ours.names)
    for customer in set(base.names) | set(theirs.names):
        if ours.names.get(customer) == base.names.get(customer):
            if customer in theirs.names:
                names[customer] = theirs.names[customer]
            else:
                names.pop(customer, None)
    return replace(ours, areas=areas, names=names)


def _until(answers: list[tuple[float, float, Answer]], moment: float) -> list[tuple[float, float, Answer]]:
    return [(b, min(e, moment), a) for b, e, a in answers if b < moment]


def _from(answers: list[tuple[float, float, Answer]], moment: float) -> list[tuple[float, float, Answer]]:
    return [(max(b, moment), e, a) for b, e, a in answers if e > moment]


def _merged(answers: list[tuple[float, float, Answer]]) -> list[tuple[float, float, Answer]]:
    merged: list[tuple[float, float, Answer]] = []
    for begin, end, answer in answers:
        if end <= begin:
            continue
        if merged and merged[-1][1] == begin and merged[-1][2] == answer:
            merged[-1] = (merged[-1][0], end, answer)
        else:
            merged.append((begin, end, answer))
    return merged
