"""Geofences: put, get, find, delete; and all of them in memory, for positions and phones.

A fence is what its tag and its external id name: the same call twice is one fence. Every write counts the one row of
`geofence_revision` up and holds it until its transaction ends, so writes come one after the other, and who holds fences
in memory reads only those written since.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import pyproj
import shapely
from shapely import MultiPolygon, Point
from sqlalchemy import Row, select, text
from sqlalchemy.orm import Session

from geocrm import ids
from geocrm.access import Actor
from geocrm.campaigns import hours
from geocrm.campaigns.fence_index import Fence, FenceIndex
from geocrm.db import audit
from geocrm.db.models import Geofence
from geocrm.db.queries import named
from geocrm.errors import Conflict, Invalid, InvalidGeometry, NotFound, TooLarge
from geocrm.spatial.outlines import read_outline

MOST_CORNERS: Final = 2_000
LARGEST_M: Final = 200_000.0
SMALLEST_M: Final = 10.0
LONGEST_DWELL_S: Final = 7 * 86_400.0
MOST_METADATA: Final = 4_000
CORNERS_OF_CIRCLE: Final = 96
MOST_OVERLAPPING: Final = 20
FARTHEST_M: Final = 50_000.0
"""A phone asks again after so many metres even where no fence is near: fences are made anew."""

_GEOD: Final = pyproj.Geod(ellps="WGS84")


@dataclass(frozen=True, slots=True)
class Put:
    """A fence after it was put: whether it is new, and whether anything changed."""

    fence_id: int
    created: bool
    changed: bool


@dataclass(frozen=True, slots=True)
class Called:
    """What a fence is called: ``tag/external_id``, and its name, or its external id where it has none."""

    reference: str
    name: str


# ---------------------------------------------------------------- one fence


def put(
    session: Session,
    actor: Actor,
    tag: str,
    external_id: str,
    values: Mapping[str, Any],
    *,
    check: Callable[[int], None] | None = None,
) -> Put:
    """Make the fence of this tag and external id be so: `geometry` (GeoJSON Polygon or MultiPolygon) or `center`
    (`lon`, `lat`) and `radius_m`; `name`, `dwell_s`, `hours`, `time_zone`, `metadata`.

    `check` is given its version, where there is one (If-Match). Nothing is written where it is so already. Raises
    Invalid, InvalidGeometry, TooLarge."""
    made = _read(values)
    revision = int(session.scalar(text(named("geofences", "lock_revision"))) or 0)
    row = session.execute(
        text(named("geofences", "one_by_name")), {"tag": tag, "external_id": external_id}
    ).one_or_none()
    standing = row is not None and row.deleted_at is None
    if check is not None:
        check(row.version if row is not None and standing else 0)
    if row is not None and standing and row.digest == made["digest"]:
        return Put(row.id, created=False, changed=False)
    written = session.execute(
        text(named("geofences", "put")), made | {"tag": tag, "external_id": external_id, "revision": revision + 1}
    ).one()
    session.execute(text(named("geofences", "count_revision")))
    audit.record(
        session, "geofence.update" if standing else "geofence.create", actor_id=actor.user_id, key_id=actor.key_id,
        object_id=ids.show("fen", written.id),
        after={"tag": tag, "external_id": external_id, "version": written.version, "kind": made["kind"]},
    )  # fmt: skip
    return Put(written.id, created=not standing, changed=True)


def get(session: Session, tag: str, external_id: str) -> dict[str, Any]:
    """One fence; raises NotFound."""
    row = session.execute(
        text(named("geofences", "one_by_name")), {"tag": tag, "external_id": external_id}
    ).one_or_none()
    if row is None or row.deleted_at is not None:
        raise NotFound()
    return shown(row)


def find(
    session: Session,
    *,
    tag: str | None = None,
    box: tuple[float, float, float, float] | None = None,
    after: int = 0,
    limit: int = 50,
) -> list[dict[str, Any]]:
    """Fences by id: of a tag, in a box (west, south, east, north; west > east crosses 180°)."""
    west, south, east, north = box or (None, None, None, None)
    rows = session.execute(
        text(named("geofences", "find")),
        {"tag": tag, "west": west, "south": south, "east": east, "north": north, "after": after, "limit": limit},
    )
    return [shown(row) for row in rows]


def delete(
    session: Session, actor: Actor, tag: str, external_id: str, *, check: Callable[[int], None] | None = None
) -> None:
    """Take a fence away, and with it where customers stand to it; no event is made of that.

    Raises NotFound, Conflict where a live offer names it: the offer would hold nowhere, and nobody would notice. An
    offer at every fence of a tag follows."""
    session.scalar(text(named("geofences", "lock_revision")))
    row = session.execute(
        text(named("geofences", "one_by_name")), {"tag": tag, "external_id": external_id}
    ).one_or_none()
    if row is None or row.deleted_at is not None:
        raise NotFound()
    if check is not None:
        check(row.version)
    session.execute(text(named("geofences", "hold")), {"id": row.id})  # an offer that goes live meanwhile is seen
    offers = session.execute(text(named("offers", "live_at_fence")), {"fence": row.id}).all()
    if offers:
        said = ", ".join(f"{ids.show('off', offer.id)} ({offer.name})" for offer in offers[:5])
        more = f" and {len(offers) - 5} more" if len(offers) > 5 else ""
        raise Conflict(
            f"{tag}/{external_id} is where live offers hold: {said}{more}. End them, or set them live elsewhere first.",
            offers=[ids.show("off", offer.id) for offer in offers],
        )
    session.execute(text(named("geofences", "delete")), {"id": row.id})
    session.execute(text(named("geofences", "delete_states")), {"id": row.id})
    session.execute(text(named("geofences", "count_revision")))
    audit.record(
        session, "geofence.delete", actor_id=actor.user_id, key_id=actor.key_id, object_id=ids.show("fen", row.id),
        before={"tag": tag, "external_id": external_id, "version": row.version},
    )  # fmt: skip


def find_overlapping(session: Session, fence_id: int, *, limit: int = MOST_OVERLAPPING) -> list[str]:
    """``tag/external_id`` of other fences that overlap a fence, its tag first. Who stands where they overlap is
    in both: both make events, and offers of both hold."""
    found = session.scalars(text(named("geofences", "overlapping")), {"id": fence_id, "limit": limit})
    return list(found)


def find_ids(session: Session, names: Sequence[str]) -> dict[str, int]:
    """The ids of fences by ``tag/external_id``, of those that are there."""
    parts = [name.partition("/") for name in sorted(set(names))]
    values = {"tags": [tag for tag, _, _ in parts], "external_ids": [external_id for _, _, external_id in parts]}
    rows = session.execute(text(named("geofences", "named")), values)
    return {f"{row.tag}/{row.external_id}": row.id for row in rows}


def find_names(session: Session, fence_ids: Sequence[int]) -> dict[int, Called]:
    """What fences are called, by id; deleted ones too."""
    query = select(Geofence.id, Geofence.tag, Geofence.external_id, Geofence.name)
    rows = session.execute(query.where(Geofence.id.in_(set(fence_ids))))
    return {row.id: Called(f"{row.tag}/{row.external_id}", row.name or row.external_id) for row in rows}


def shown(row: Row[Any]) -> dict[str, Any]:
    """A fence as people see it."""
    circle = row.kind == "circle"
    return {
        "id": ids.show("fen", row.id),
        "tag": row.tag,
        "external_id": row.external_id,
        "name": row.name,
        "kind": row.kind,
        "geometry": row.geometry,
        "center": {"lon": row.lon, "lat": row.lat} if circle else None,
        "radius_m": row.radius_m,
        "dwell_s": row.dwell_s,
        "hours": row.hours,
        "time_zone": row.time_zone,
        "metadata": row.metadata,
        "version": row.version,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


# ---------------------------------------------------------------- reading what was sent


def _read(values: Mapping[str, Any]) -> dict[str, Any]:
    given = values.get("geometry"), values.get("center")
    if (given[0] is None) == (given[1] is None):
        fault = "a fence is a geometry (a GeoJSON polygon), or a center with a radius_m"
        raise Invalid(fault, errors=[{"pointer": "/geometry", "detail": fault}])
    if values.get("radius_m") is not None and given[1] is None:
        fault = "a radius_m is that of a circle: send a center with it, and no geometry"
        raise Invalid(fault, errors=[{"pointer": "/radius_m", "detail": fault}])
    made = _polygon(given[0]) if given[0] is not None else _circle(values)
    zone, keeps = values.get("time_zone"), values.get("hours")
    if keeps is not None:
        if zone is None:
            fault = "hours are those of a time zone, such as Europe/Zurich"
            raise Invalid(f"time_zone: {fault}", errors=[{"pointer": "/time_zone", "detail": fault}])
        hours.read_hours(keeps)
    if zone is not None:
        hours.read_zone(zone)
    details = json.dumps(values.get("metadata") or {}, sort_keys=True)
    if len(details) > MOST_METADATA:
        fault = f"{len(details):,} characters as JSON, more than {MOST_METADATA:,}"
        raise TooLarge(f"metadata: {fault}", errors=[{"pointer": "/metadata", "detail": fault}])
    made |= {
        "name": values.get("name"),
        "dwell_s": values.get("dwell_s"),
        "hours": None if keeps is None else json.dumps(keeps, sort_keys=True),
        "time_zone": zone,
        "metadata": details,
    }
    made["digest"] = hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()
    return made


def _polygon(value: Any) -> dict[str, Any]:
    outline = read_outline(value)
    if outline.notes:
        fault = "the fence crosses ±180°: make two fences of it, one on each side"
        raise InvalidGeometry(fault, errors=[{"pointer": "/geometry", "detail": fault}])
    corners = int(shapely.get_num_coordinates(outline.geometry))
    if corners > MOST_CORNERS:
        fault = f"{corners:,} corners, more than {MOST_CORNERS:,}: simplify the fence first"
        raise TooLarge(f"geometry: {fault}", errors=[{"pointer": "/geometry", "detail": fault}])
    west, south, east, north = outline.geometry.bounds
    widest = min(abs(south), abs(north)) if south * north > 0 else 0.0
    across = max(
        _GEOD.inv(west, widest, east, widest)[2] if east - west < 180 else np.inf,
        _GEOD.inv(west, south, west, north)[2],
    )
    if across > LARGEST_M:
        fault = (
            f"the fence is more than {LARGEST_M / 1000:.0f} km across: a territory or another area is meant for that"
        )
        raise TooLarge(f"geometry: {fault}", errors=[{"pointer": "/geometry", "detail": fault}])
    return {"kind": "polygon", "outline": shapely.to_wkb(outline.geometry, hex=True), "lon": None, "lat": None,
            "radius_m": None}  # fmt: skip


def _circle(values: Mapping[str, Any]) -> dict[str, Any]:
    lon, lat, radius_m = values["center"]["lon"], values["center"]["lat"], values.get("radius_m")
    if radius_m is None or not SMALLEST_M <= radius_m <= LARGEST_M / 2:
        fault = f"expected {SMALLEST_M:g} to {LARGEST_M / 2:g} m"
        raise Invalid(f"radius_m: {fault}", errors=[{"pointer": "/radius_m", "detail": fault}])
    if abs(lat) + radius_m / 111_000 > 89:
        fault = "the circle reaches a pole; fences end at 89° of latitude"
        raise InvalidGeometry(fault, errors=[{"pointer": "/center/lat", "detail": fault}])
    turn = np.linspace(0, 360, CORNERS_OF_CIRCLE + 1)
    ones = np.ones(len(turn))
    reach = radius_m * 1.001 / np.cos(np.pi / CORNERS_OF_CIRCLE)
    x, y, _ = _GEOD.fwd(lon * ones, lat * ones, -turn, reach * ones)
    x[-1], y[-1] = x[0], y[0]
    outline = read_outline(shapely.Polygon(np.column_stack([x, y])))  # cut at ±180°
    return {"kind": "circle", "outline": shapely.to_wkb(outline.geometry, hex=True), "lon": lon, "lat": lat,
            "radius_m": radius_m}  # fmt: skip


# ---------------------------------------------------------------- all fences in memory


@dataclass(frozen=True, slots=True)
class Held:
    """A fence as it is held in memory: what events and phones are told of it, and its shape."""

    fence_id: int
    tag: str
    external_id: str
    name: str | None
    dwell_s: float | None
    spans: tuple[hours.Span, ...] | None
    zone: ZoneInfo | None
    metadata: Mapping[str, Any]
    shape: Fence

    def is_open(self, at: float) -> bool:
        """Whether it keeps no hours or is within them, at a time in seconds since 1970."""
        if self.spans is None or self.zone is None:
            return True
        local = datetime.fromtimestamp(at, UTC).astimezone(self.zone)
        minute = local.weekday() * 1440 + local.hour * 60 + local.minute
        return any((minute - span.day * 1440 - span.begin) % 10_080 < span.end - span.begin for span in self.spans)

    def reference(self) -> dict[str, Any]:
        """What tells others which fence it is."""
        return {
            "id": ids.show("fen", self.fence_id),
            "tag": self.tag,
            "external_id": self.external_id,
            "name": self.name,
            "metadata": dict(self.metadata),
        }


@dataclass(frozen=True, slots=True)
class Fences:
    """All fences as of a revision: `fence_ids` in the order of the index."""

    revision: int
    index: FenceIndex
    fence_ids: list[int]
    held: dict[int, Held]
    dwell_s: dict[int, float]
    keeping_hours: frozenset[int]


class Holder:
    """Holds the fences of one database for a process, and reads what changed before they are asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fences = Fences(-1, FenceIndex([]), [], {}, {}, frozenset())

    def current(self, session: Session) -> Fences:
        """The fences as the session sees them now."""
        revision = int(session.scalar(text(named("geofences", "revision"))) or 0)
        if self._fences.revision >= revision:
            return self._fences
        with self._lock:
            former = self._fences
            if former.revision >= revision:
                return former
            rows = session.execute(text(named("geofences", "written_since")), {"revision": former.revision}).all()
            held = dict(former.held)
            polygons = shapely.from_wkb(np.array([row.outline for row in rows], dtype=object))
            for row, polygon in zip(rows, polygons, strict=True):
                held.pop(row.id, None)
                if row.deleted_at is None:
                    held[row.id] = _held(row, polygon)
            fence_ids = sorted(held)
            self._fences = Fences(
                revision,
                FenceIndex([held[fence_id].shape for fence_id in fence_ids]),
                fence_ids,
                held,
                {fence_id: one.dwell_s for fence_id, one in held.items() if one.dwell_s is not None},
                frozenset(fence_id for fence_id, one in held.items() if one.spans is not None),
            )
            return self._fences


def _held(row: Row[Any], polygon: MultiPolygon | None) -> Held:
    circle = row.kind == "circle"
    return Held(
        row.id, row.tag, row.external_id, row.name, row.dwell_s,
        None if row.hours is None else hours.read_hours(row.hours),
        None if row.time_zone is None else hours.read_zone(row.time_zone),
        row.metadata,
        Fence(None, row.lon, row.lat, row.radius_m) if circle else Fence(polygon),
    )  # fmt: skip


def nearest(fences: Fences, lon: float, lat: float, limit: int) -> dict[str, Any]:
    """The fences whose borders are nearest to a point, for a phone that watches at most `limit` circles, and the
    metres that it may move before it asks again: until then it crosses no border unseen.

    A fence is watched as the circle `watch` that holds it. Within the circle of a polygon the phone would not see
    itself cross the polygon, so the way to that border counts too."""
    found = fences.index.nearest(lon, lat, limit)
    again_m = found.next_m
    made = []
    for place, border_m in zip(found.fence.tolist(), found.border_m.tolist(), strict=True):
        one = fences.held[fences.fence_ids[place]]
        if one.shape.polygon is None:
            watch = {"lon": one.shape.lon, "lat": one.shape.lat, "radius_m": one.shape.radius_m}
        else:
            watch = enclosing_circle(one.shape.polygon)
            if _GEOD.inv(watch["lon"], watch["lat"], lon, lat)[2] <= watch["radius_m"] * 1.001:
                again_m = min(again_m, abs(border_m))
        made.append(
            one.reference()
            | {
                "distance_m": round(max(0.0, border_m), 1),
                "border_m": round(abs(border_m), 1),
                "inside": border_m <= 0,
                "dwell_s": one.dwell_s,
                "watch": {name: round(value, 7) for name, value in watch.items()},
            }
        )
    return {"data": made, "ask_again_m": round(min(again_m * 0.999, FARTHEST_M), 1)}


def enclosing_circle(polygon: Any) -> dict[str, float]:
    """A circle that holds a polygon: about the middle of its box, as wide as its farthest corner."""
    west, south, east, north = polygon.bounds
    middle = Point((west + east) / 2, (south + north) / 2)
    corners = shapely.get_coordinates(shapely.segmentize(polygon, 0.02))
    ones = np.ones(len(corners))
    away = np.asarray(_GEOD.inv(middle.x * ones, middle.y * ones, corners[:, 0], corners[:, 1])[2])
    return {"lon": middle.x, "lat": middle.y, "radius_m": float(np.ceil(away.max() * 1.001 + 1))}
