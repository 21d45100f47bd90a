"""Charts as markup: bars and intervals as HTML that follows the page's width, curves and maps as SVG. Pure.

Colours are the page's (`var(--…)`), so that they follow light and dark. Whatever comes from data is escaped.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray

WIDTH: Final = 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 26, 16, 28
_SMALLEST_CELL: Final = 3.0
_FLATTEST, _TALLEST = 0.3, 1.2
"""How high a map may be, of its width."""


@dataclass(frozen=True)
class Bar:
    """A row of a bar chart; `low` and `high` draw an interval, `text` stands behind."""

    name: str
    value: float
    text: str
    low: float | None = None
    high: float | None = None
    about: str = ""


def bars(rows: Sequence[Bar], *, heads: tuple[str, str], mark: float | None = None) -> str:
    """A table of bars from 0 (intervals: a line with a point), `mark` a line across all of them. No bar is below 0."""
    most = max([row.high if row.high is not None else row.value for row in rows] + [mark or 0.0, 1e-12])

    def place(value: float) -> str:
        return f"{100 * min(max(value / most, 0.0), 1.0):.2f}%"

    across = "" if mark is None else f'<u style="left:{place(mark)}"></u>'
    made = []
    for row in rows:
        if row.low is None or row.high is None:
            drawn = f'<i style="width:{place(row.value)}"></i>'
        else:
            drawn = (
                f'<s style="left:{place(row.low)};right:calc(100% - {place(row.high)})"></s>'
                f'<b style="left:{place(row.value)}"></b>'
            )
        about = f"<small>{html.escape(row.about)}</small>" if row.about else ""
        made.append(
            f'<tr><th scope="row">{html.escape(row.name)}{about}</th>'
            f'<td class="bar"><span>{across}{drawn}</span></td><td class="number">{html.escape(row.text)}</td></tr>'
        )
    first, last = (html.escape(head) for head in heads)
    return (
        f'<table class="bars"><thead><tr><th scope="col">{first}</th><td></td>'
        f'<th scope="col" class="number">{last}</th></tr></thead><tbody>{"".join(made)}</tbody></table>'
    )


@dataclass(frozen=True)
class Curve:
    """A curve over positions 0, 1, 2 …: values (n,), NaN where there are none; `low` and `high` make a band."""

    name: str
    values: NDArray[np.float64]
    style: str
    low: NDArray[np.float64] | None = None
    high: NDArray[np.float64] | None = None


def curves(
    drawn: Sequence[Curve],
    labels: Sequence[str],
    *,
    about: str,
    height: int = 240,
    width: int = WIDTH,
    divide: int | None = None,
    across: str = "",
    percent: bool = False,
    ticks: int = 5,
    every: int | None = None,
) -> str:
    """A chart of curves over the positions of `labels`, of which about `ticks` are written,
    or one in `every`; a dashed line at position
    `divide`. `about` is what somebody is told who cannot see it."""
    held = [part for curve in drawn for part in (curve.values, curve.low, curve.high) if part is not None]
    known = np.concatenate([np.asarray(part)[np.isfinite(part)] for part in held])
    low, high = min(0.0, float(known.min())), float(known.max()) or 1.0
    steps = _steps(low, high)
    low, high = min(low, steps[0]), max(high, steps[-1])
    n = len(labels)

    def x(position: float) -> float:
        return _LEFT + (width - _LEFT - _RIGHT) * (position / max(n - 1, 1))

    def y(value: float) -> float:
        return height - _BOTTOM - (height - _TOP - _BOTTOM) * (value - low) / (high - low)

    parts = [f'<path class="grid" d="M{_LEFT} {y(step):.1f}H{width - _RIGHT}"/>' for step in steps]
    parts += [
        f'<text x="{_LEFT - 6}" y="{y(step) + 4:.1f}" class="end">{f"{step:.0%}" if percent else short(step)}</text>'
        for step in steps
    ]
    step_of_labels = every or max(1, math.ceil(n / ticks))
    parts += [
        f'<text x="{x(at):.1f}" y="{height - 8}" class="middle">{html.escape(labels[at])}</text>'
        for at in range(0, n, step_of_labels)
        if x(at) <= width - 24
    ]
    if divide is not None:
        parts.append(f'<path class="divide" d="M{x(divide):.1f} {y(low):.1f}V{_TOP}"/>')
    for curve in drawn:
        if curve.low is not None and curve.high is not None:
            there = np.flatnonzero(np.isfinite(curve.low) & np.isfinite(curve.high)).tolist()
            up = [f"{x(at):.1f},{y(curve.high[at]):.1f}" for at in there]
            down = [f"{x(at):.1f},{y(curve.low[at]):.1f}" for at in there[::-1]]
            parts.append(f'<polygon class="band {curve.style}" points="{" ".join(up + down)}"/>')
    for curve in drawn:
        there = np.flatnonzero(np.isfinite(curve.values)).tolist()
        points = " ".join(f"{x(at):.1f},{y(curve.values[at]):.1f}" for at in there)
        parts.append(f'<polyline class="curve {curve.style}" points="{points}"/>')
    if across:
        parts.append(f'<text x="{width - _RIGHT}" y="{_TOP - 2}" class="end">{html.escape(across)}</text>')
    key = "".join(f'<li class="{curve.style}">{html.escape(curve.name)}</li>' for curve in drawn if curve.name)
    return _figure(width, height, "".join(parts), about) + (f'<ul class="key">{key}</ul>' if key else "")


def calibration(points: Sequence[tuple[float, float, float, float]], *, about: str) -> str:
    """What was said (0 to 1) against what came, with an interval: (said, came, low, high)."""
    most = min(1.0, max(max(said, high) for said, _, _, high in points) * 1.05)
    size, left = 320, 52

    def at(value: float) -> float:
        return (size - left - 40) * min(value, most) / most

    floor = size - 34
    top = floor - at(most)
    parts = [f'<path class="grid" d="M{left} {floor}L{left + at(most):.1f} {top:.1f}"/>']
    for share in (0.0, 0.5, 1.0):
        parts.append(
            f'<text x="{left + at(most * share):.1f}" y="{floor + 16}" class="middle">{most * share:.0%}</text>'
        )
        parts.append(
            f'<text x="{left - 6}" y="{floor - at(most * share) + 4:.1f}" class="end">{most * share:.0%}</text>'
        )
    for said, came, low, high in points:
        x = left + at(said)
        parts.append(f'<path class="curve one" d="M{x:.1f} {floor - at(low):.1f}V{floor - at(high):.1f}"/>')
        parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{floor - at(came):.1f}" r="3.5"/>')
    return _figure(size, size, "".join(parts), about, style="chart square")


# ---------------------------------------------------------------- maps


@dataclass(frozen=True)
class View:
    """What a map shows: west, south, east, north in degrees, on a picture so wide; the projection is Mercator's.
    `framed` finds bounds that make a picture neither too tall nor too flat."""

    bounds: tuple[float, float, float, float]
    width: float = WIDTH

    @property
    def height(self) -> float:
        """Of the picture."""
        return float(self.y(self.bounds[1]))

    @property
    def scale(self) -> float:
        """Units of the picture for a degree of longitude."""
        return self.width / (self.bounds[2] - self.bounds[0])

    def x(self, lon: ArrayLike) -> Any:
        """Across."""
        return (np.asarray(lon) - self.bounds[0]) * self.scale

    def y(self, lat: ArrayLike) -> Any:
        """Down."""

        return (_mercator(self.bounds[3]) - _mercator(lat)) * self.scale


def framed(bounds: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """Bounds in degrees around these whose picture is at most 1.2 times as high as wide, and 0.3 times at least: what
    is missing is added on both sides, so that nothing is cut off."""
    west, south, east, north = bounds
    bottom, top = float(_mercator(south)), float(_mercator(north))
    wider = max((top - bottom) / _TALLEST - (east - west), 0.0)
    west, east = max(west - wider / 2, -180.0), min(east + wider / 2, 180.0)
    higher = max((east - west) * _FLATTEST - (top - bottom), 0.0)
    south, north = (
        float(np.degrees(np.arctan(np.sinh(np.radians(at))))) for at in (bottom - higher / 2, top + higher / 2)
    )
    return west, south, east, north


def _mercator(degrees: ArrayLike) -> Any:
    return np.degrees(np.arcsinh(np.tan(np.radians(np.clip(degrees, -84, 84)))))


def land(view: View, features: Sequence[dict[str, Any]], identity: str) -> str:
    """Land and borders once, to be used by many maps of the same view (`cell_map`): GeoJSON features with `line`."""
    parts = []
    for feature in features:
        shape = shapely.simplify(shapely.geometry.shape(feature["geometry"]), 0.7 / view.scale)
        style = "land" if feature["properties"]["line"] == 0 else "border"
        for part in shapely.get_parts(shape):
            if part.geom_type == "Polygon" and not part.is_empty:
                corners = shapely.get_coordinates(part.exterior)
                points = [f"{a:.1f},{b:.1f}" for a, b in zip(view.x(corners[:, 0]), view.y(corners[:, 1]), strict=True)]
                parts.append(f'<polygon class="{style}" points="{" ".join(points)}"/>')
    return f'<svg class="store" aria-hidden="true"><defs><g id="{identity}">{"".join(parts)}</g></defs></svg>'


def cell_map(view: View, cells: Sequence[tuple[Sequence[float], str]], identity: str, *, about: str) -> str:
    """Cells (bounds in degrees, style) on land that was drawn before; small ones are drawn large enough to be seen."""
    by_style: dict[str, list[str]] = {}
    for (west, south, east, north), style in cells:
        left, right = float(view.x(west)), float(view.x(east))
        top, bottom = float(view.y(north)), float(view.y(south))
        wide, high = max(right - left, _SMALLEST_CELL), max(bottom - top, _SMALLEST_CELL)
        x, y = (left + right - wide) / 2, (top + bottom - high) / 2
        by_style.setdefault(style, []).append(f"M{x:.1f} {y:.1f}h{wide:.1f}v{high:.1f}h{-wide:.1f}z")
    drawn = "".join(f'<path class="cell {style}" d="{"".join(paths)}"/>' for style, paths in by_style.items())
    return _figure(view.width, view.height, f'<use href="#{identity}"/>{drawn}', about, style="map")


def _figure(width: float, height: float, inner: str, about: str, *, style: str = "chart") -> str:
    said = html.escape(about, quote=True)
    return f'<svg class="{style}" viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{said}">{inner}</svg>'


def _steps(low: float, high: float) -> list[float]:
    """Round numbers from at most `low` to at least `high`, three to seven of them."""
    span = high - low
    size = 10 ** math.floor(math.log10(span / 3)) if span > 0 else 1.0
    size *= next(times for times in (1, 2, 5, 10) if span / (size * times) <= 5)
    first, last = math.floor(low / size + 1e-9), math.ceil(high / size - 1e-9)
    return [size * at for at in range(first, last + 1)]


def short(value: float) -> str:
    """A number in few characters: 1,250, 18k, 2.5M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):.3g}{letter}"
    return f"{value:,.0f}" if abs(value) >= 10 or value == int(value) else f"{value:.2g}"
