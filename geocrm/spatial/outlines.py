"""Outlines of areas: read a polygon from GeoJSON or shapely, say what is wrong with it and where, or mend it visibly.

Pure: geometry in, geometry out. What is stored is a valid MULTIPOLYGON in EPSG:4326, lon before lat, within ±180° and
±90°, cut in two where it crosses ±180° (RFC 7946, section 3.1.9).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import numpy as np
import shapely
from shapely import GeometryCollection, LinearRing, MultiPolygon, Polygon, affinity
from shapely.geometry.base import BaseGeometry

from geocrm import errors
from geocrm.spatial import crs as reference

MAX_VERTICES: Final = 1_000_000
SPIKE_SHARE: Final = 1e-9
"""A part narrower than this share of the outline's extent, squared, is no area."""


@dataclass(frozen=True)
class Outline:
    """A valid outline, and what was changed in it to make it so, in words."""

    geometry: MultiPolygon
    notes: tuple[str, ...] = ()


def read_outline(value: Any, *, crs: Any = None, repair: bool = False, pointer: str = "/geometry") -> Outline:
    """The outline in `value`: GeoJSON Polygon or MultiPolygon (a mapping, or a Feature with one) or a shapely geometry.

    `crs` names the reference system of the coordinates where it is not lon, lat in degrees. With `repair` a geometry
    that is not valid is mended (and a note says how); without, `errors.InvalidGeometry` names the fault, its place in
    lon, lat and the JSON pointer of the ring. An outline that crosses ±180° is cut there, always.
    """
    notes: list[str] = []
    if isinstance(value, BaseGeometry):
        polygons = [
            ([np.asarray(r.coords)[:, :2] for r in (p.exterior, *p.interiors)], f"{pointer}/coordinates")
            for p in _polygons(value, pointer)
        ]
        if isinstance(value, MultiPolygon):
            polygons = [(rings, f"{where}/{i}") for i, (rings, where) in enumerate(polygons)]
    else:
        polygons = _from_geojson(value, pointer, repair, notes)
    vertices = sum(len(ring) for rings, _ in polygons for ring in rings)
    if vertices > MAX_VERTICES:
        raise errors.TooLarge(
            f"The outline has {vertices:,} vertices, more than {MAX_VERTICES:,}: simplify it first.",
            errors=[{"pointer": pointer, "detail": f"{vertices:,} vertices"}],
        )
    if crs is not None and not reference.is_lonlat(crs):
        polygons = [([_reproject(ring, crs, where) for ring in rings], where) for rings, where in polygons]
    made: list[Polygon] = []
    for rings, where in polygons:
        made += _polygon(rings, where, repair, notes)
    if not made:
        _refuse(pointer, "the geometry is empty: draw an outline, or leave the geometry out")
    merged = MultiPolygon(made)
    if not merged.is_valid:
        if not repair:
            reason, place = _why(merged)
            _refuse(f"{pointer}/coordinates", f"two parts of the outline overlap ({reason})", place)
        merged = _mend(merged, pointer, notes)
    return Outline(merged, tuple(notes))


def _polygons(value: BaseGeometry, pointer: str) -> Sequence[Polygon]:
    if value.is_empty:
        _refuse(pointer, "the geometry is empty: draw an outline, or leave the geometry out")
    if isinstance(value, Polygon):
        return [value]
    if isinstance(value, MultiPolygon):
        return list(value.geoms)
    return _refuse(f"{pointer}/type", f"an area is a Polygon or a MultiPolygon, not a {value.geom_type}")


def _from_geojson(value: Any, pointer: str, repair: bool, notes: list[str]) -> list[tuple[list[Any], str]]:
    if not isinstance(value, Mapping):
        _refuse(pointer, "expected a GeoJSON geometry with type and coordinates")
    if value.get("type") == "Feature":
        return _from_geojson(value.get("geometry"), f"{pointer}/geometry", repair, notes)
    kind, given = value.get("type"), value.get("coordinates")
    here = f"{pointer}/coordinates"
    if kind not in ("Polygon", "MultiPolygon"):
        _refuse(f"{pointer}/type", f"an area is a Polygon or a MultiPolygon, not {str(kind)[:40]!r}")
    if not _is_list(given):
        _refuse(here, "expected a list of rings")
    if not given:
        _refuse(here, "the geometry is empty: draw an outline, or leave the geometry out")
    parts = [(given, here)] if kind == "Polygon" else [(p, f"{here}/{i}") for i, p in enumerate(given)]
    polygons = []
    for part, where in parts:
        if not _is_list(part) or not part:
            _refuse(where, "expected a list of rings, the outer one first")
        rings = []
        for number, ring in enumerate(part):
            rings.append(_ring(ring, f"{where}/{number}", repair, notes))
        polygons.append((rings, where))
    return polygons


def _ring(ring: Any, where: str, repair: bool, notes: list[str]) -> Any:
    if not _is_list(ring):
        _refuse(where, "expected a ring: a list of positions")
    positions = []
    for number, position in enumerate(ring):
        at = f"{where}/{number}"
        if not _is_list(position) or len(position) < 2:
            _refuse(at, "expected a position: [lon, lat]")
        pair = position[:2]
        if any(isinstance(v, bool) or not isinstance(v, int | float) for v in pair):
            _refuse(at, "expected two numbers: [lon, lat]")
        if any(abs(v) > 1e300 or not math.isfinite(v) for v in pair):
            _refuse(at, "a coordinate is not a finite number")
        positions.append((float(pair[0]), float(pair[1])))
    if len(positions) >= 3 and positions[0] != positions[-1]:
        if not repair:
            _refuse(where, "the ring is not closed: its last position must repeat the first", positions[-1])
        positions.append(positions[0])
        notes.append(f"closed the ring at {_place(positions[0])}")
    if len(positions) < 4:
        _refuse(where, f"a ring has at least 4 positions, this one has {len(positions)}")
    return np.asarray(positions, dtype=np.float64)


def _reproject(ring: Any, crs: Any, where: str) -> Any:
    moved = reference.to_lonlat(ring[:, 0], ring[:, 1], crs)
    if moved.bad.any():
        at = int(np.flatnonzero(moved.bad)[0])
        _refuse(
            f"{where}/0/{at}",
            f"the position {ring[at, 0]:g}, {ring[at, 1]:g} is not within {reference.describe(crs)}",
        )
    return np.column_stack([moved.lon, moved.lat])


def _polygon(rings: Sequence[Any], where: str, repair: bool, notes: list[str]) -> list[Polygon]:
    unwrapped = []
    for number, ring in enumerate(rings):
        at = f"{where}/{number}"
        wrong = ~np.isfinite(ring).all(axis=1)
        if wrong.any():
            _refuse(f"{at}/{int(np.flatnonzero(wrong)[0])}", "a coordinate is not a finite number")
        beyond = (np.abs(ring[:, 1]) > 90) | (np.abs(ring[:, 0]) > 360)
        if beyond.any():
            place = int(np.flatnonzero(beyond)[0])
            lon, lat = ring[place]
            hint = ""
            if abs(lat) > 90 and abs(lat) <= 180 and abs(lon) <= 90:
                hint = "; lon comes before lat"
            elif abs(lat) > 360:
                hint = "; name the coordinate reference system if these are metres"
            _refuse(f"{at}/{place}", f"{lon:g}, {lat:g} is no lon, lat in degrees{hint}")
        unwrapped.append(_unwrap(ring, at))
    outer = unwrapped[0]
    middle = outer[:, 0].mean()
    aligned = [outer]
    for ring in unwrapped[1:]:
        shift = 360 * round((middle - ring[:, 0].mean()) / 360)
        if shift and not _inside(outer, ring) and _inside(outer, ring + np.array([shift, 0])):
            ring = ring + np.array([shift, 0])
        aligned.append(ring)
    for number, ring in enumerate(aligned):
        _check_ring(ring, f"{where}/{number}", repair)
    made: BaseGeometry = Polygon(aligned[0], aligned[1:])
    if not made.is_valid:
        if not repair:
            _explain(made, aligned, where)
        made = _mend(made, where, notes)
    elif made.area == 0:
        _refuse(where, "the outline has no inside", tuple(outer[0]))
    return _cut(made, notes)


def _unwrap(ring: Any, where: str) -> Any:
    """A ring whose longitudes do not jump at ±180°: an edge of more than half the earth goes the other way round."""
    steps = np.diff(ring[:, 0])
    jumps = (np.abs(steps) > 180) & (np.abs(steps) < 360)
    if not jumps.any():
        return ring
    turns = np.where(jumps, -np.sign(steps), 0.0)
    offsets = np.concatenate([[0.0], np.cumsum(turns)]) * 360
    if offsets[-1] != 0:
        _refuse(where, "the ring goes round a pole: cut it at ±180° and lead it along the pole", tuple(ring[0]))
    return np.column_stack([ring[:, 0] + offsets, ring[:, 1]])


def _inside(outer: Any, ring: Any) -> bool:
    return bool(outer[:, 0].min() <= ring[:, 0].min() and ring[:, 0].max() <= outer[:, 0].max())


def _check_ring(ring: Any, where: str, repair: bool) -> None:
    if len({tuple(p) for p in ring}) < 3:
        _refuse(where, "the ring has fewer than three different positions", tuple(ring[0]))
    if repair:
        return
    spike = _spike(ring)
    if spike is not None:
        _refuse(f"{where}/{spike}", "the ring has a spike: it runs back over itself", tuple(ring[spike]))
    line = LinearRing(ring)
    if not line.is_simple:
        reason, place = _why(Polygon(ring))
        _refuse(where, f"the outline crosses itself ({reason.lower()})", place, title="Polygon crosses itself")


def _spike(ring: Any) -> int | None:
    """The position at which a ring turns back over the edge that it came by, or None."""
    points = ring[:-1]
    keep = np.any(points != np.roll(points, 1, axis=0), axis=1)
    index = np.flatnonzero(keep)
    points = points[keep]
    if len(points) < 3:
        return None
    back, ahead = np.roll(points, 1, axis=0) - points, np.roll(points, -1, axis=0) - points
    cross = back[:, 0] * ahead[:, 1] - back[:, 1] * ahead[:, 0]
    dot = (back * ahead).sum(axis=1)
    found = np.flatnonzero((dot > 0) & (np.abs(cross) <= SPIKE_SHARE * dot))
    return int(index[found[0]]) if len(found) else None


def _explain(made: BaseGeometry, rings: Sequence[Any], where: str) -> NoReturn:
    """Raise for an invalid polygon whose rings are each valid: it is about how they lie to each other."""
    shell = Polygon(rings[0])
    for number, ring in enumerate(rings[1:], start=1):
        hole = Polygon(ring)
        if not shell.covers(hole):
            reached = hole.difference(shell).representative_point()
            _refuse(f"{where}/{number}", "the hole reaches outside the outline", (reached.x, reached.y))
    reason, place = _why(made)
    if "olding" in reason or "ested" in reason:
        _refuse(where, "a hole lies inside another hole", place)
    _refuse(where, f"the rings of the outline cross or divide it ({reason.lower()})", place)


def _mend(made: BaseGeometry, where: str, notes: list[str]) -> Any:
    reason, place = _why(made)
    mended = shapely.make_valid(made, method="structure", keep_collapsed=False)
    parts = [p for p in _parts(mended) if p.area > 0]
    if not parts:
        _refuse(where, f"nothing is left of the outline when mended ({reason.lower()})", place)
    notes.append(f"mended: {reason.lower()}" + (f" at {_place(place)}" if place else ""))
    return MultiPolygon(parts)


def _cut(made: BaseGeometry, notes: list[str]) -> list[Polygon]:
    west, _, east, _ = made.bounds
    if west >= -180 and east <= 180:
        return _parts(made)
    pieces: list[Polygon] = []
    for turn in range(-2, 3):
        window = shapely.box(-180 + 360 * turn, -90, 180 + 360 * turn, 90)
        if not window.intersects(made):
            continue
        part = shapely.intersection(made, window)
        if turn:
            part = affinity.translate(part, xoff=-360 * turn)
        pieces += [p for p in _parts(part) if p.area > 0]
    merged = shapely.union_all(pieces)
    clipped = shapely.transform(merged, lambda xy: np.clip(xy, [-180, -90], [180, 90]))
    notes.append("cut at ±180°" if len(pieces) > 1 else "moved to within ±180°")
    return [p for p in _parts(clipped) if p.area > 0]


def _parts(geometry: BaseGeometry) -> list[Polygon]:
    if isinstance(geometry, Polygon):
        return [] if geometry.is_empty else [geometry]
    if isinstance(geometry, MultiPolygon | GeometryCollection):
        return [p for g in geometry.geoms for p in _parts(g)]
    return []


_WHY: Final = re.compile(r"^(?P<reason>[^\[]+)(\[(?P<x>\S+) (?P<y>\S+)\])?$")


def _why(geometry: BaseGeometry) -> tuple[str, tuple[float, float] | None]:
    match = _WHY.match(shapely.is_valid_reason(geometry))
    if match is None:
        return "not valid", None
    if match["x"] is None:
        return match["reason"], None
    lon = (float(match["x"]) + 180) % 360 - 180
    return match["reason"], (lon, float(match["y"]))


def _place(place: tuple[float, ...]) -> str:
    return f"{place[0]:.6g}, {place[1]:.6g}"


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _refuse(pointer: str, detail: str, place: tuple[float, ...] | None = None, title: str | None = None) -> NoReturn:
    said = f"{detail}, at {_place(place)}" if place is not None else detail
    extra = {"place": {"lon": float(place[0]), "lat": float(place[1])}} if place is not None else {}
    error = errors.InvalidGeometry(said[0].upper() + said[1:], errors=[{"pointer": pointer, "detail": said}], **extra)
    if title:
        error.title = title
    raise error
