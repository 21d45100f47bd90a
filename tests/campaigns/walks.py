"""Jittered walks around fences, and a slow oracle of what happened on them. Imports nothing of geocrm.

The oracle looks at the whole history anew for every fix, measures in a plane of its own around each fix, and integrates
the normal around it over the fence numerically (Green's theorem: minus the integral of φ(x) Φ(y) dx along the border).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyproj
import shapely
from scipy.special import ndtr, ndtri

GEOD = pyproj.Geod(ellps="WGS84")
FEW, MANY = np.polynomial.legendre.leggauss(10), np.polynomial.legendre.leggauss(60)
SIGMAS = 1.5095921854516636  # of a circle that holds 68 % of a normal point


@dataclass
class Drawn:
    """A fence by its corners (rings of lon, lat; the first is the shell), or a circle."""

    rings: list[np.ndarray]
    lon: float
    lat: float
    radius_m: float = 0.0
    dwell_s: float | None = None
    round: list[np.ndarray] | None = None

    def border(self) -> list[np.ndarray]:
        """Rings; a circle as a polygon of 720 corners."""
        if self.rings:
            return self.rings
        if self.round is not None:
            return self.round
        turn = np.linspace(0, 360, 721)
        ones = np.ones(721)
        lon, lat, _ = GEOD.fwd(self.lon * ones, self.lat * ones, turn, self.radius_m * ones)
        self.round = [np.column_stack([lon, lat])]
        return self.round


@dataclass
class Fix:
    at: float
    lon: float
    lat: float
    accuracy_m: float


def flat(lon: float, lat: float, points: np.ndarray) -> np.ndarray:
    """Points as metres east and north of (lon, lat), by geodesics."""
    ones = np.ones(len(points))
    azimuth, _, away = GEOD.inv(lon * ones, lat * ones, points[:, 0], points[:, 1])
    return np.column_stack([away * np.sin(np.radians(azimuth)), away * np.cos(np.radians(azimuth))])


def probability(fence: Drawn, fix: Fix) -> float:
    """That the true point is inside."""
    sigma = max(fix.accuracy_m, 5.0) / SIGMAS
    total = 0.0
    for number, ring in enumerate(fence.border()):
        xy = flat(fix.lon, fix.lat, ring) / sigma
        a, b = xy[:-1], xy[1:]
        area = float((a[:, 0] * b[:, 1] - b[:, 0] * a[:, 1]).sum())
        low, high = np.clip(a[:, 0], -9, 9), np.clip(b[:, 0], -9, 9)
        kept = low != high
        a, b, low, high = a[kept], b[kept], low[kept], high[kept]
        nodes, weights = FEW if len(ring) > 500 else MANY
        x = (low + high)[:, None] / 2 + (high - low)[:, None] / 2 * nodes
        slope = ((b[:, 1] - a[:, 1]) / (b[:, 0] - a[:, 0]))[:, None]
        y = a[:, 1][:, None] + slope * (x - a[:, 0][:, None])
        whole = -float(
            (np.exp(-x * x / 2) / math.sqrt(2 * math.pi) * ndtr(y) * weights).sum(axis=1) @ ((high - low) / 2)
        )
        total += math.copysign(1, area) * whole * (1 if number == 0 else -1)
    return min(1.0, max(0.0, total))


THRESHOLDS = (0.95, 0.9999, 1e-4, 1e-9, 0.5)


class TooClose(Exception):
    """A probability lies so near to a threshold that rounding decides: draw another walk."""


def _checked(p: float) -> float:
    for threshold in THRESHOLDS:
        if 0 < p < 1 and abs(ndtri(p) - ndtri(threshold)) < 0.01:
            raise TooClose
    return p


def accepted(batches: Sequence[Sequence[Fix]]) -> list[Fix]:
    """The fixes that count: in each batch by time, each newer than all before."""
    kept: list[Fix] = []
    for batch in batches:
        for fix in sorted(batch, key=lambda f: f.at):
            if not kept or fix.at > kept[-1].at:
                kept.append(fix)
    return kept


def what_happened(fence: Drawn, fixes: list[Fix]) -> list[tuple[str, float, float]]:
    """Kind, time it began, time of the fix that decided, of every event of one subject at one fence."""
    p = [_checked(probability(fence, fix)) for fix in fixes]
    t = [fix.at for fix in fixes]
    events: list[tuple[str, float, float]] = []
    inside_since: int | None = None  # the fix that decided
    changed = -1  # the fix of the last change of state
    for k in range(len(fixes)):
        if inside_since is None:
            first = k
            while first - 1 > changed and p[first - 1] >= 0.95 and t[first] - t[first - 1] <= 900:
                first -= 1
            if p[k] >= 0.95 and (p[k] >= 0.9999 or t[k] - t[first] >= 5):
                events.append(("entered", t[first], t[k]))
                inside_since, changed, entered = k, k, t[first]
        else:
            first = k
            while first - 1 > changed and p[first - 1] <= 1e-4:
                first -= 1
            if p[k] <= 1e-4 and (p[k] <= 1e-9 or t[k] - t[first] >= 5):
                events.append(("exited", t[first], t[k]))
                inside_since, changed = None, k
                continue
            if fence.dwell_s is not None and not any(e[0] == "dwelled" and e[2] > t[inside_since] for e in events):
                seen = t[inside_since] - entered
                for j in range(inside_since + 1, k + 1):
                    if t[j] - t[j - 1] <= 900 and p[j] >= 0.5:
                        seen += t[j] - t[j - 1]
                if seen >= fence.dwell_s and p[k] > 1e-4:
                    events.append(("dwelled", t[k], t[k]))
    return events


def draw_fence(random: np.random.Generator) -> Drawn:
    """A circle, a ragged polygon or one with a hole, of 30 to 600 m, anywhere."""
    lon, lat = float(random.uniform(-179.9, 179.9)), float(random.uniform(-75, 75))
    size = float(np.exp(random.uniform(np.log(30), np.log(600))))
    dwell = float(random.choice([0, 60, 300])) or None
    kind = random.integers(3)
    if kind == 0:
        return Drawn([], lon, lat, size, dwell)
    rings = []
    for number in range(kind):
        n = int(random.integers(6, 30))
        turn = np.sort(random.uniform(0, 360, n)) if kind == 1 else (np.arange(n) + random.uniform(0, 0.6, n)) * 360 / n
        reach = size * random.uniform(0.5, 1.5, n) if number == 0 else np.full(n, 0.2 * size)
        ones = np.ones(n)
        x, y, _ = GEOD.fwd(lon * ones, lat * ones, turn, reach)
        corners = np.column_stack([x, y])[:: 1 if random.random() < 0.5 else -1]
        rings.append(np.vstack([corners, corners[:1]]))
    if not shapely.Polygon(rings[0], rings[1:]).is_valid:
        return draw_fence(random)
    return Drawn(rings, lon, lat, 0.0, dwell)


def draw_walk(random: np.random.Generator, fence: Drawn, fixes: int) -> list[list[Fix]]:
    """Batches of fixes of somebody who walks, rides or stands about the fence's border: gaps, late and double fixes."""
    ring = fence.border()[0]
    at, made = 1_700_000_000.0, []
    speed = float(random.choice([0.0, 0.4, 1.4, 8.0, 25.0]))
    lon, lat = ring[random.integers(len(ring))]
    goal = ring[random.integers(len(ring))]
    for _ in range(fixes):
        wait = float(random.choice([1, 3, 10, 60, 300], p=[0.3, 0.2, 0.3, 0.15, 0.05]))
        if random.random() < 0.03:
            wait = float(random.uniform(600, 7200))
        at = round(at + wait, 6)
        azimuth, _, away = GEOD.inv(lon, lat, goal[0], goal[1])
        lon, lat, _ = GEOD.fwd(lon, lat, azimuth, min(away, speed * wait))
        if away <= speed * wait:
            beyond = float(random.uniform(0, 3 * max(fence.radius_m, 200)))
            goal = GEOD.fwd(fence.lon, fence.lat, float(random.uniform(0, 360)), beyond)[:2]
        accuracy = float(np.exp(random.normal(np.log(18), 0.8)))
        error = random.normal(0, max(accuracy, 5.0) / SIGMAS, 2)
        x, y, _ = GEOD.fwd(lon, lat, math.degrees(math.atan2(error[0], error[1])), float(np.hypot(*error)))
        made.append(Fix(at, x, y, accuracy))
    batches: list[list[Fix]] = []
    begin = 0
    while begin < len(made):
        end = begin + int(random.integers(1, 12))
        batch = made[begin:end]
        if begin and random.random() < 0.3:
            batch = [*batch, *[made[i] for i in random.integers(0, begin, 3)]]  # late, or known
        if random.random() < 0.3:
            batch = [*batch, batch[0]]
        batches.append([batch[i] for i in random.permutation(len(batch))])
        begin = end
    return batches
