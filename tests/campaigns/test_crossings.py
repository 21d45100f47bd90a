"""Events of walks against a slow oracle; jitter, gaps and disorder make none."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import shapely

from geocrm.campaigns import crossings
from geocrm.campaigns.crossings import Presence, step
from geocrm.campaigns.fence_index import Fence, FenceIndex, Standings
from tests.campaigns import walks
from tests.campaigns.walks import Drawn, Fix

SEED = int(os.environ.get("GEOCRM_TEST_SEED", "20261122"))
Event = tuple[str, float, float]


def fence_of(drawn: Drawn) -> Fence:
    if not drawn.rings:
        return Fence(None, drawn.lon, drawn.lat, drawn.radius_m)
    polygon = shapely.Polygon(drawn.rings[0], drawn.rings[1:])
    return Fence(shapely.MultiPolygon([polygon]) if len(drawn.rings[0]) % 2 else polygon)


class Followed:
    """Batches of several subjects followed as the positions route does it, presences kept between them."""

    def __init__(self, drawn: Sequence[Drawn]) -> None:
        self.index = FenceIndex([fence_of(one) for one in drawn])
        self.ids = [100 + number for number in range(len(drawn))]
        self.dwell = {i: one.dwell_s for i, one in zip(self.ids, drawn, strict=True) if one.dwell_s is not None}
        self.presences: dict[tuple[int, int], Presence] = {}
        self.last_at: dict[int, float] = {}
        self.events: dict[tuple[int, int], list[Event]] = {}

    def send(self, fixes: Sequence[tuple[int, Fix]], *, every: bool = False) -> crossings.Outcome:
        """Follow these; with `every`, by how they stand to every fence, not only to those that matter."""
        subjects = np.array([subject for subject, _ in fixes], dtype=np.int64)
        where = np.array([(fix.lon, fix.lat, fix.accuracy_m) for _, fix in fixes]).T
        of = crossings.followed(subjects, self.presences, self.ids)
        outcome = crossings.follow(
            subjects,
            np.array([fix.at for _, fix in fixes]),
            self.index.standings(*where, of=None if every else of),
            self.ids,
            presences=self.presences,
            last_at=self.last_at,
            dwell_s=self.dwell,
        )
        self.last_at |= outcome.last_at
        for key, presence in outcome.changed.items():
            self.presences.pop(key, None)
            if presence is not None:
                self.presences[key] = presence
        for each in outcome.crossings:
            event = (each.kind, each.occurred_at, each.detected_at)
            self.events.setdefault((each.subject, each.fence), []).append(event)
        return outcome


def _walks(count: int, fixes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    done = again = 0
    kinds: dict[str, int] = {}
    while done < count:
        drawn = [walks.draw_fence(random)]
        drawn.append(Drawn([], drawn[0].lon, drawn[0].lat, 1.2 * (drawn[0].radius_m or 300.0), 120.0))  # around it
        batches = {subject: walks.draw_walk(random, drawn[0], fixes) for subject in (1, 2)}
        try:
            expected = {
                (subject, 100 + number): walks.what_happened(one, walks.accepted(batches[subject]))
                for number, one in enumerate(drawn)
                for subject in batches
            }
        except walks.TooClose:
            again += 1
            assert again < 20 * count, "nearly every walk is undecidable"
            continue
        followed = Followed(drawn)
        for turn in range(max(map(len, batches.values()))):
            both = [(s, fix) for s, lot in batches.items() if turn < len(lot) for fix in lot[turn]]
            followed.send([both[i] for i in random.permutation(len(both))])
        for key, events in expected.items():
            assert followed.events.get(key, []) == events, (seed, done, key)
            for kind, _, _ in events:
                kinds[kind] = kinds.get(kind, 0) + 1
        done += 2
    print(f"seed {seed}: {done} walks, {kinds}, {again} drawn again")
    assert min(kinds.get(kind, 0) for kind in ("entered", "exited", "dwelled")) >= count / 10


def test_events_are_those_of_the_oracle() -> None:
    _walks(60, 60, SEED)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(4))
def test_events_are_those_of_the_oracle_on_a_thousand_walks(part: int) -> None:
    _walks(250, 100, SEED + 1 + part)


def test_only_fences_that_matter_are_asked_and_events_are_the_same() -> None:
    random = np.random.default_rng(SEED)
    drawn = []
    for _ in range(150):  # a town of 3 km, most of its fences smaller than what is known of where a phone is
        size = float(np.exp(random.uniform(np.log(30), np.log(2_000))))
        lon, lat = float(8 + random.uniform(-0.02, 0.02)), float(47 + random.uniform(-0.013, 0.013))
        radii = size * random.uniform(0.6, 1.4, 12)
        x, y, _ = walks.GEOD.fwd(np.full(12, lon), np.full(12, lat), np.arange(12) * 30.0, radii)
        ring = np.column_stack([x, y])[[*range(12), 0]]
        drawn.append(Drawn([ring] if random.random() < 0.6 else [], lon, lat, size, 60.0))
    some, every = Followed(drawn), Followed(drawn)
    asked: list[int] = []
    told = 0
    real = some.index.standings

    def counted(*args: Any, **more: Any) -> Standings:
        found = real(*args, **more)
        asked.append(len(found.fence))
        return found

    some.index.standings = counted  # type: ignore[method-assign]
    x, y = 8 + random.uniform(-0.02, 0.02, 20), 47 + random.uniform(-0.013, 0.013, 20)
    total = 0
    for turn in range(25):
        x, y = x + random.normal(0, 0.002, 20), y + random.normal(0, 0.0015, 20)
        accuracy = np.exp(random.uniform(np.log(5), np.log(900), 20))
        fixes = [(subject, Fix(1e9 + turn * 20.0, x[subject], y[subject], accuracy[subject])) for subject in range(20)]
        total += len(every.index.standings(x, y, accuracy).fence)
        one, other = some.send(fixes), every.send(fixes, every=True)
        assert (one.crossings, one.changed, one.last_at) == (other.crossings, other.changed, other.last_at)
        told += len(one.crossings)
    assert told > 60
    assert sum(asked) < total / 2


def test_who_stands_at_the_border_enters_at_most_once() -> None:
    random = np.random.default_rng(SEED)
    square = Drawn([np.array([[8.0, 47.0], [8.01, 47.0], [8.01, 47.01], [8.0, 47.01], [8.0, 47.0]])], 8.005, 47.005)
    circle = Drawn([], 8.1, 47.0, 80.0)
    followed = Followed([square, circle])
    entered = 0
    for subject in range(150):
        lon, lat = (8.005, 47.0) if subject % 2 else walks.GEOD.fwd(8.1, 47.0, subject * 2.0, 80.0)[:2]
        at = 1e9 + np.cumsum(random.choice([1.0, 10.0, 60.0], 300))
        accuracy = np.exp(random.normal(np.log(20), 0.7, 300))
        turn, away = random.uniform(0, 360, 300), np.maximum(accuracy, 5) / walks.SIGMAS * random.rayleigh(size=300)
        x, y, _ = walks.GEOD.fwd(np.full(300, lon), np.full(300, lat), turn, away)
        followed.send([(subject, Fix(*row)) for row in zip(at, x, y, accuracy, strict=True)])
        told = [kind for fence in (100, 101) for kind, _, _ in followed.events.get((subject, fence), [])]
        assert told in ([], ["entered"]), (SEED, subject, told)
        entered += len(told)
    assert entered > 20, "nobody ever entered: the test tests nothing"


def test_any_order_any_split_and_any_repetition_make_the_same_events() -> None:
    random = np.random.default_rng(SEED)
    drawn = [Drawn([], 8.0, 47.0, 150.0, 60.0)]
    fixes = [fix for batch in walks.draw_walk(random, drawn[0], 200) for fix in batch]
    kept = walks.accepted([fixes])
    once = Followed(drawn)
    outcome = once.send([(1, fix) for fix in random.permutation(np.array(fixes, dtype=object))])
    assert outcome.fresh.sum() == len(kept) < len(fixes)
    assert once.events, "nothing happened"
    one_by_one, twice = Followed(drawn), Followed(drawn)
    for fix in kept:
        one_by_one.send([(1, fix)])
        twice.send([(1, fix), (1, fix)])
        assert not twice.send([(1, kept[0]), (1, fix)]).changed
    assert one_by_one.events == once.events == twice.events
    assert one_by_one.presences == once.presences == twice.presences


def test_a_fence_that_keeps_hours_speaks_within_them() -> None:
    presence, told = step(None, 100.0, 1.0, float("inf"), dwell_s=30, is_open=False)
    assert presence is not None
    assert (presence.inside, told) == (True, [])
    still, told = step(presence, 110.0, 1.0, 10.0, dwell_s=30, is_open=False)
    assert (still, told) == (presence, [])
    presence, told = step(presence, 120.0, 1.0, 10.0, dwell_s=30)
    assert told == [("entered", 120.0, 100.0)]
    presence, told = step(presence, 150.0, 1.0, 30.0, dwell_s=30)
    assert told == [("dwelled", 150.0, 100.0)]
    presence, told = step(presence, 160.0, 0.0, 10.0, dwell_s=30, is_open=False)
    assert (presence, told) == (None, [("exited", 160.0, 100.0)])
    inside, _ = step(None, 0.0, 1.0, 1.0, is_open=False)
    assert step(inside, 10.0, 0.0, 10.0) == (None, []), "who was never told to be inside is not told to leave"


def test_time_in_which_nobody_was_seen_is_no_dwelling() -> None:
    presence, _ = step(None, 0.0, 1.0, float("inf"), dwell_s=60)
    presence, told = step(presence, 36_000.0, 1.0, 36_000.0, dwell_s=60)
    assert not told
    presence, told = step(presence, 36_061.0, 1.0, 61.0, dwell_s=60)
    assert [kind for kind, _, _ in told] == ["dwelled"]
    _, told = step(presence, 36_200.0, 1.0, 139.0, dwell_s=60)
    assert not told, "once a visit"


def test_evidence_is_two_fixes_apart_or_one_beyond_doubt() -> None:
    assert step(None, 0.0, 0.9999, 1.0)[1]
    assert not step(None, 0.0, 0.999, 1.0)[1]
    doubt, _ = step(None, 0.0, 0.96, 1.0)
    assert not step(doubt, 3.0, 0.96, 3.0)[1]
    assert step(doubt, 5.0, 0.96, 5.0)[1]
    assert step(doubt, 3.0, 0.94, 3.0) == (None, []), "what is less sure begins anew"
    assert not step(doubt, 901.0, 0.96, 901.0)[1], "what is too long ago does too"
    inside, _ = step(None, 0.0, 1.0, 1.0)
    leaving, told = step(inside, 10.0, 1e-5, 10.0)
    assert not told
    assert step(leaving, 20.0, 0.4, 10.0) == (inside, [])
    assert step(leaving, 5000.0, 1e-5, 4990.0)[1] == [("exited", 10.0, 0.0)]
    assert step(inside, 10.0, 1e-10, 10.0)[1] == [("exited", 10.0, 0.0)]
