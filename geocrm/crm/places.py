"""Our shops, depots and branches, competitors', and the products that we sell."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, func, text
from sqlalchemy.orm import Session

from geocrm import ids
from geocrm.access import Actor
from geocrm.crm import points
from geocrm.db import audit
from geocrm.db.models import Place
from geocrm.errors import Conflict, Invalid, NotFound

GIVEN_M = 25.0
_PLACES = """
SELECT p.id, p.kind, p.name, p.brand, p.line1, p.city, p.region, p.postal_code, p.country, ST_X(p.location) AS lon,
       ST_Y(p.location) AS lat, p.location_precision, p.precision_m, p.placement, p.flags, p.floor_area_m2,
       p.attributes, p.version, p.created_at, p.updated_at
FROM places p WHERE """


def find(
    session: Session,
    *,
    kind: str | None = None,
    q: str | None = None,
    box: tuple[float, float, float, float] | None = None,
    after: int = 0,
    limit: int = 50,
) -> list[dict[str, Any]]:
    """Places by id: of a kind, with `q` in the name, in a box (west, south, east, north; west > east crosses 180°)."""
    conditions = ["p.id > CAST(:after AS bigint)"]
    values: dict[str, Any] = {"after": after, "limit": limit}
    if kind is not None:
        conditions.append("p.kind = CAST(:kind AS text)")
        values["kind"] = kind
    if q is not None:
        conditions.append("p.name ILIKE CAST(:pattern AS text)")
        escaped = q.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        values["pattern"] = f"%{escaped}%"
    if box is not None:
        west, south, east, north = box
        envelope = (
            "ST_MakeEnvelope(CAST(:{0} AS float8), CAST(:south AS float8), CAST(:{1} AS float8),"
            " CAST(:north AS float8), 4326)"
        )
        values |= {"west": west, "south": south, "east": east, "north": north}
        if west <= east:
            conditions.append("p.location && " + envelope.format("west", "east"))
        else:
            values |= {"line": 180.0, "other": -180.0}
            conditions.append(
                f"(p.location && {envelope.format('west', 'line')} OR p.location && {envelope.format('other', 'east')})"
            )
    sql = _PLACES + " AND ".join(conditions) + " ORDER BY p.id LIMIT CAST(:limit AS bigint)"
    return [_place(row) for row in session.execute(text(sql), values)]


def get(session: Session, place_id: int) -> dict[str, Any]:
    """One place; raises NotFound."""
    row = session.execute(text(_PLACES + "p.id = CAST(:id AS bigint)"), {"id": place_id}).one_or_none()
    if row is None:
        raise NotFound()
    return _place(row)


def create(session: Session, actor: Actor, values: Mapping[str, Any]) -> int:
    """A new place, at given coordinates; its id."""
    given = dict(values)
    place = Place(flags=[], placement="pending")
    _fill(place, given)
    session.add(place)
    session.flush()
    audit.record(
        session, "place.create", actor_id=actor.user_id, key_id=actor.key_id, object_id=ids.show("pla", place.id),
        after=dict(values),
    )  # fmt: skip
    return place.id


def open_for_edit(session: Session, place_id: int) -> Place:
    """The place, locked; raises NotFound."""
    place = session.get(Place, place_id, with_for_update=True, populate_existing=True)
    if place is None:
        raise NotFound()
    return place


def edit(session: Session, actor: Actor, place: Place, changed: Mapping[str, Any]) -> None:
    """Change a place."""
    before = {name: getattr(place, name) for name in changed if name != "location"}
    _fill(place, dict(changed))
    place.version += 1
    place.updated_at = func.now()
    session.flush()
    audit.record(
        session, "place.update", actor_id=actor.user_id, key_id=actor.key_id, object_id=ids.show("pla", place.id),
        before=before, after=dict(changed),
    )  # fmt: skip


def delete(session: Session, actor: Actor, place: Place) -> None:
    """Take a place away; raises Conflict where sales were made at it, and where an offer names it: what the offer says,
    or said, would change, and one that held there alone would hold nowhere."""
    used = session.scalar(text("SELECT true FROM sales WHERE place_id = CAST(:id AS bigint) LIMIT 1"), {"id": place.id})
    if used:
        raise Conflict("Sales were made at this place, so it stays; change its name or kind instead.")
    offer = session.execute(
        text(
            "SELECT o.id, o.name FROM offer_areas a JOIN offers o ON o.id = a.offer_id"
            " WHERE a.place_id = CAST(:id AS bigint) ORDER BY o.id LIMIT 1"
        ),
        {"id": place.id},
    ).one_or_none()
    if offer is not None:
        raise Conflict(f"The offer {ids.show('off', offer.id)} ({offer.name}) names this place, so it stays.")
    session.execute(text("DELETE FROM place_sources WHERE place_id = CAST(:id AS bigint)"), {"id": place.id})
    before = {"name": place.name, "kind": place.kind}
    session.delete(place)
    session.flush()
    audit.record(
        session, "place.delete", actor_id=actor.user_id, key_id=actor.key_id, object_id=ids.show("pla", place.id),
        before=before,
    )  # fmt: skip


def _fill(place: Place, given: dict[str, Any]) -> None:
    moved = "location" in given
    location = given.pop("location", None)
    precision_m = given.pop("precision_m", None)
    for name, value in given.items():
        setattr(place, name, value)
    if moved and location is None:
        raise Invalid("A place needs a location.", errors=[{"pointer": "/location", "detail": "is needed"}])
    if location is not None:
        lon, lat = float(location["lon"]), float(location["lat"])
        flag = points.flag_of(lon, lat, place.country)
        place.location = points.make(lon, lat)
        place.location_precision, place.location_source = "given", "api"
        place.precision_m = precision_m or GIVEN_M
        place.placement = "flagged" if flag else "placed"
        place.flags = [flag] if flag else []
    elif precision_m is not None:
        place.precision_m = precision_m


def _place(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": ids.show("pla", row.id),
        "kind": row.kind,
        "name": row.name,
        "brand": row.brand,
        "line1": row.line1,
        "city": row.city,
        "region": row.region,
        "postal_code": row.postal_code,
        "country": row.country,
        "location": None if row.lon is None else {"lon": row.lon, "lat": row.lat},
        "location_precision": row.location_precision,
        "precision_m": row.precision_m,
        "placement": row.placement,
        "flags": row.flags,
        "floor_area_m2": row.floor_area_m2,
        "attributes": row.attributes,
        "version": row.version,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


def find_products(
    session: Session, *, category: str | None = None, q: str | None = None, after: int = 0, limit: int = 50
) -> list[dict[str, Any]]:
    """Products by id: of a category, with `q` in name or stock number."""
    escaped = (q or "").replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    rows = session.execute(
        text(
            "SELECT id, sku, name, category, unit_price, unit_cost, currency FROM products"
            " WHERE id > CAST(:after AS bigint)"
            " AND (CAST(:category AS text) IS NULL OR category = CAST(:category AS text))"
            " AND (CAST(:q AS text) IS NULL OR name ILIKE CAST(:pattern AS text) OR sku ILIKE CAST(:pattern AS text))"
            " ORDER BY id LIMIT CAST(:limit AS bigint)"
        ),
        {"after": after, "category": category, "q": q, "pattern": f"%{escaped}%", "limit": limit},
    )
    return [dict(row._mapping) | {"id": ids.show("prd", row.id)} for row in rows]
