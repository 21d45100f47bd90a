"""The same lookups on a session, and customers, sales and areas as GeoDataFrames, for notebooks.

A session of `connect` belongs to the login that reads under row security: whatever is asked through it, SQL of one's
own too, sees the rows of its user. Frames are read in chunks; one that would not fit is refused, with what to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, overload

import geopandas as gpd
import pandas as pd
import shapely
from psycopg.errors import UndefinedTable
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from geocrm import access, errors, filters, ids
from geocrm.access import SYSTEM, Actor
from geocrm.crm import customers as crm
from geocrm.db import audit, reach
from geocrm.db.engine import Database, open_database
from geocrm.db.queries import named
from geocrm.settings import Settings, get_settings
from geocrm.spatial import layers, territories
from geocrm.spatial import nearby as near

FilterLike = filters.Filter | Mapping[str, Any] | None

LARGEST = 1_000_000
"""Rows of one frame: some 1 GB. Ask for chunks, or narrow the filter, where there are more."""

_TEXTS = frozenset(
    (
        *("id", "customer_id", "site_id", "owner_id", "territory_id", "place_id", "name", "kind", "stage", "owner"),
        *("industry", "size_class", "preferred_channel", "label", "city", "region", "postal_code", "country"),
        *("placement", "location_precision", "location_source", "territory", "channel", "currency"),
    )
)
_CUSTOMERS_A_PAGE = 5_000
_FIRST = datetime(1, 1, 2, tzinfo=UTC)
_LAST = datetime(9999, 1, 1, tzinfo=UTC)


# --- a session ---


class ReadingSession(Session):
    """A session that sees what one user sees. Close it, or use it in a `with` block."""

    database: Database
    actor: Actor
    own_database: bool = False

    def close(self) -> None:
        """End the session; the database opened for it is let go too."""
        super().close()
        if self.own_database:
            self.database.dispose()


def connect(
    url: str | None = None, *, user: str | int | None = None, database: Database | None = None
) -> ReadingSession:
    """A session that reads as `user`.

    `url`: the administrator's URL of a database of one's own, by default the one of the settings
    (`GEOCRM_DATABASE_URL`, else the private PostgreSQL, started if it does not run). `user`: e-mail address, `usr_7` or
    number; without one it sees everything, as geocrm itself: whoever can reach the database's files could anyway. Every
    transaction of the session enters the row-security context of the user as it was at `connect`.

    Raises `errors.NotFound` for an unknown or inactive user, `errors.SetupError` where the database cannot be opened.
    """
    opened = database
    if opened is None:
        settings = get_settings() if url is None else Settings(database_url=url)
        opened = open_database(settings)
    try:
        actor = actor_of(opened, user)
        opened.reading_engine.connect().close()
    except BaseException as error:
        if database is None:
            opened.dispose()
        lost = isinstance(getattr(error, "orig", None), UndefinedTable)
        if isinstance(error, OperationalError) or (lost and isinstance(error, Exception)):
            url = opened.api_url.render_as_string()
            raise errors.SetupError(reach.explain(error, f"the database ({reach.describe(url)})")) from None
        raise
    session = ReadingSession(opened.reading_engine)
    session.database, session.actor, session.own_database = opened, actor, database is None

    @event.listens_for(session, "after_begin")
    def enter(_session: Session, _transaction: Any, connection: Any) -> None:
        access.enter(connection, actor)

    return session


def actor_of(database: Database, user: str | int | None) -> Actor:
    """The actor for an e-mail address, `usr_7` or number; geocrm itself (`SYSTEM`) for None."""
    if user is None:
        return SYSTEM
    with database.writing() as session:
        if isinstance(user, int):
            user_id: int | None = user
        elif user.startswith("usr_"):
            user_id = ids.read("usr", user)
        else:
            user_id = session.scalar(
                text("SELECT id FROM users WHERE lower(email) = lower(CAST(:email AS text))"), {"email": user.strip()}
            )
        if user_id is None:
            raise errors.NotFound(f"There is no active user {user}.")
        return access.load_actor(session, user_id)


def _actor(session: Session) -> Actor:
    if not isinstance(session, ReadingSession):
        raise errors.Invalid("open the session with geocrm.connect(user=…): it knows whose rows to show")
    return session.actor


def read_filter(given: FilterLike, actor: Actor) -> filters.Filter:
    """A filter of the filter language for this reader; None is everything. Raises `errors.InvalidFilter`."""
    if given is None:
        return filters.Filter()
    if isinstance(given, filters.Filter):
        return given
    reader = filters.Reader(contacts=actor.contacts == "shown", exact=actor.exact)
    return filters.parse(given, reader=reader)


# --- lookups ---


def nearby(
    session: Session,
    lon: float,
    lat: float,
    *,
    radius_m: float | None = None,
    limit: int = near.DEFAULT_LIMIT,
    filter: FilterLike = None,
) -> gpd.GeoDataFrame:
    """The sites nearest to a point, nearest first: columns as the API names them, `geometry` a point in EPSG:4326.

    Degrees and metres; exact geodesic distances on the WGS 84 ellipsoid, at most 1,000 rows.
    """
    actor = _actor(session)
    page = near.find_seen(
        session, lon, lat, radius_m=radius_m, limit=limit, filter=read_filter(filter, actor), exact=actor.exact
    )
    rows = [
        {
            "id": row["id"],
            "site_id": row["site_id"],
            "name": row["name"],
            "distance_m": row["distance_m"],
            "bearing_deg": row["bearing_deg"],
            "precision_m": row.get("precision_m"),
            "territory_id": (row.get("territory") or {}).get("id"),
            "territory": (row.get("territory") or {}).get("name"),
            "lon": row["location"]["lon"],
            "lat": row["location"]["lat"],
        }
        for row in page.data
    ]
    names = [
        *(
            "id",
            "site_id",
            "name",
            "distance_m",
            "bearing_deg",
            "precision_m",
            "territory_id",
            "territory",
            "lon",
            "lat",
        )
    ]
    return _with_points(pd.DataFrame(rows, columns=names))


def territory_at(
    session: Session, lon: float, lat: float, *, as_of: datetime | None = None
) -> list[territories.AtPoint]:
    """Per exclusive layer, the territory at a point at a moment (default now), the primary layer first.

    Ids are bare numbers here, as in the database: `territory_id` 15 is the `ter_15` of frames and of the API."""
    _actor(session)
    return territories.at(session, lon, lat, as_of=as_of)


def territories_of(session: Session, customer: str | int, *, as_of: datetime | None = None) -> list[territories.Held]:
    """Per site and layer, whose territory a customer (`cus_42` or number) is in at a moment, and why. Ids are bare
    numbers here, as in the database.

    Raises `errors.NotFound` for a customer who is not there, or not seen."""
    _actor(session)
    number = customer if isinstance(customer, int) else ids.read("cus", customer)
    try:
        crm.see(session, number)
    except errors.NotFound:
        raise errors.NotFound(f"There is no customer {ids.show('cus', number)} that you see.") from None
    return territories.of_customer(session, number, as_of=as_of)


# --- frames ---


@overload
def customers(
    session: Session, filter: FilterLike = None, *, all_sites: bool = False, chunk: None = None
) -> gpd.GeoDataFrame: ...
@overload
def customers(
    session: Session, filter: FilterLike = None, *, all_sites: bool = False, chunk: int
) -> Iterator[gpd.GeoDataFrame]: ...
def customers(
    session: Session, filter: FilterLike = None, *, all_sites: bool = False, chunk: int | None = None
) -> gpd.GeoDataFrame | Iterator[gpd.GeoDataFrame]:
    """Customers that the user sees and the filter holds for, by id, with their primary site's point in EPSG:4326.

    `all_sites`: one row for each visible site instead. `chunk`: an iterator of frames of about so many customers
    instead of one frame, for memory that does not grow with the number of customers. Pending and flagged sites have no
    geometry. Reading is in the audit log. Raises `errors.TooLarge` for a frame of over `LARGEST` rows,
    `errors.InvalidFilter`.
    """
    actor = _actor(session)
    condition = read_filter(filter, actor).compile("customer", snapped=not actor.exact)
    sql = named("frames", "customers").replace("{condition}", condition.named())
    values = condition.params() | {"all_sites": all_sites}
    shown = {"id": "cus", "site_id": "sit", "owner_id": "usr", "territory_id": "ter"}
    parts = _parts(session, "customers", sql, values, shown, "id", chunk)
    return parts if chunk is not None else _whole(parts)


@overload
def sales(
    session: Session,
    filter: FilterLike = None,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    chunk: None = None,
) -> gpd.GeoDataFrame: ...
@overload
def sales(
    session: Session,
    filter: FilterLike = None,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    chunk: int,
) -> Iterator[gpd.GeoDataFrame]: ...
def sales(
    session: Session,
    filter: FilterLike = None,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    chunk: int | None = None,
) -> gpd.GeoDataFrame | Iterator[gpd.GeoDataFrame]:
    """Sales in [since, until) of the customers that the filter holds for, by customer and time.

    The geometry is the point of the sale's site, else of the customer's primary one. Amounts are Decimal. `chunk`: an
    iterator of frames with the sales of about so many customers each.
    """
    actor = _actor(session)
    condition = read_filter(filter, actor).compile("customer", snapped=not actor.exact)
    sql = named("frames", "sales").replace("{condition}", condition.named())
    values = condition.params() | {"since": since or _FIRST, "until": until or _LAST}
    shown = {"customer_id": "cus", "id": "sal", "site_id": "sit", "place_id": "pla"}
    parts = _parts(session, "sales", sql, values, shown, "customer_id", chunk)
    return parts if chunk is not None else _whole(parts)


def areas(session: Session, layer: str | int, *, as_of: datetime | None = None) -> gpd.GeoDataFrame:
    """The areas of a layer (its key, `lay_sales`, or number) in force at a moment (default now).

    Columns id, name, owner_id, owner, priority, rule, attributes, valid_from, valid_to, geometry (None for an area made
    of rules or names alone). Raises `errors.NotFound` for an unknown layer.
    """
    _actor(session)
    key = layer.removeprefix("lay_") if isinstance(layer, str) else layer
    found = layers.get_layer(session, key)
    prefix = "ter" if found.kind == "territories" else "are"
    rows = areas_in_force(session, found.id, as_of=as_of)
    frame = pd.DataFrame(
        {
            "id": [ids.show(prefix, row.id) for row in rows],
            "name": [row.name for row in rows],
            "owner_id": [None if row.owner_id is None else ids.show("usr", row.owner_id) for row in rows],
            "owner": [row.owner for row in rows],
            "priority": [row.priority for row in rows],
            "rule": [row.rule for row in rows],
            "attributes": [row.attributes for row in rows],
            "valid_from": [row.valid_from for row in rows],
            "valid_to": [row.valid_to for row in rows],
        }
    )
    return gpd.GeoDataFrame(frame, geometry=gpd.GeoSeries([row.shape for row in rows], crs=4326, dtype="geometry"))


@dataclass(frozen=True)
class AreaInForce:
    """An area as a version of its layer in force shows it; `shape` in EPSG:4326, None where it has no polygon."""

    id: int
    name: str
    owner_id: int | None
    owner: str | None
    priority: int
    rule: dict[str, Any] | None
    attributes: dict[str, Any]
    valid_from: datetime
    valid_to: datetime | None
    shape: shapely.Geometry | None


def areas_in_force(session: Session, layer_id: int, *, as_of: datetime | None = None) -> list[AreaInForce]:
    """The areas of a layer in force at a moment (default now), by id."""
    rows = session.execute(text(named("frames", "areas")), {"layer": layer_id, "as_of": as_of}).all()
    return [
        AreaInForce(
            id=row.id,
            name=row.name,
            owner_id=row.owner_id,
            owner=row.owner,
            priority=row.priority,
            rule=row.rule,
            attributes=row.attributes,
            valid_from=row.valid_from,
            valid_to=row.valid_to,
            shape=None if row.geometry is None else shapely.from_wkb(bytes(row.geometry)),
        )
        for row in rows
    ]


def _parts(
    session: Session,
    what: Literal["customers", "sales"],
    sql: str,
    values: dict[str, Any],
    shown: Mapping[str, str],
    key: str,
    chunk: int | None,
) -> Iterator[gpd.GeoDataFrame]:
    """Frames in the order of the customers' ids; the first is yielded even where it is empty, for its columns."""
    if chunk is not None and chunk < 1:
        raise errors.Invalid("chunk: expected a number of customers of at least 1")
    return _read(session, what, sql, values, shown, key, chunk or _CUSTOMERS_A_PAGE)


def _read(
    session: Session,
    what: str,
    sql: str,
    values: dict[str, Any],
    shown: Mapping[str, str],
    key: str,
    size: int,
) -> Iterator[gpd.GeoDataFrame]:
    after, count, first = 0, 0, True
    try:
        while True:
            result = session.execute(text(sql), values | {"after": after, "limit": size})
            frame = pd.DataFrame(result.all(), columns=list(result.keys()))
            if frame.empty and not first:
                return
            last = None if frame.empty else int(frame[key].iloc[-1])
            if what == "sales":
                frame = frame[frame["id"].notna()].reset_index(drop=True)
            count += len(frame)
            if len(frame) or first:
                for column, prefix in shown.items():
                    numbers = [None if pd.isna(number) else int(number) for number in frame[column]]
                    frame[column] = [ids.show(prefix, number) for number in numbers]
                for column in _TEXTS.intersection(frame.columns):  # the same type in every chunk
                    frame[column] = pd.Series(frame[column].tolist(), dtype="str", index=frame.index)
                if "precision_m" in frame:
                    frame["precision_m"] = pd.to_numeric(frame["precision_m"]).astype("float64")
                yield _with_points(frame)
                first = False
            if last is None:
                return
            after = last
    finally:
        _note(session, what, count)


def _with_points(frame: pd.DataFrame) -> gpd.GeoDataFrame:
    lon, lat = (pd.to_numeric(frame.pop(name)).to_numpy(dtype=float) for name in ("lon", "lat"))
    points = shapely.points(lon, lat)
    points[pd.isna(lon) | pd.isna(lat)] = None
    return gpd.GeoDataFrame(frame, geometry=gpd.GeoSeries(points, crs=4326, index=frame.index))


def _whole(parts: Iterator[gpd.GeoDataFrame]) -> gpd.GeoDataFrame:
    kept: list[gpd.GeoDataFrame] = []
    rows = 0
    for part in parts:
        rows += len(part)
        if rows > LARGEST:
            raise errors.TooLarge(f"more than {LARGEST:,} rows: narrow the filter, or read them with chunk=50_000")
        kept.append(part)
    filled = [part for part in kept if len(part)] or kept[:1]
    return gpd.GeoDataFrame(pd.concat(filled, ignore_index=True), geometry="geometry", crs=4326)


def _note(session: Session, what: str, rows: int) -> None:
    """Reading in bulk stands in the audit log."""
    if isinstance(session, ReadingSession) and rows:
        actor = session.actor
        with session.database.writing() as writing:
            audit.record(
                writing,
                f"{what}.read",
                actor_id=actor.user_id,
                key_id=actor.key_id,
                after={"rows": rows, "by": "frame"},
            )
