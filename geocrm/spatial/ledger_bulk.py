"""Assigning millions of new customers: points out by COPY, matched here with polygons, the result in by COPY.

The way for what an import usually is: customers whom the ledger does not know, on layers that consist of polygons which
hold for all the layer's time. Everything else takes the way of `ledger`, which asks the same questions of the same
geometries with the same exact predicates; a test compares the two.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import psycopg
import pyarrow as pa
import shapely
from numpy.typing import NDArray
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm.access import Actor
from geocrm.db.copying import copy_encoded, driver, encode, read_binary
from geocrm.db.queries import named
from geocrm.spatial.matching import Polygons

CHUNK: Final = 100_000
MAX_VERTICES: Final = 3_000_000
"""More than this many vertices are not held in memory (some 150 MB); they are matched in the database."""

_POINT: Final = np.dtype(
    [("fields", ">i2"), ("l1", ">i4"), ("customer", ">i8"), ("l2", ">i4"), ("site", ">i8"), ("l3", ">i4"), ("x", ">f8"),
     ("l4", ">i4"), ("y", ">f8"), ("l5", ">i4"), ("territory", ">i8")]
)  # fmt: skip


def all_new(session: Session) -> bool:
    """Whether none of `changed_customers` can be known to the ledger: their ids are higher than any in it."""
    return bool(session.scalar(text(named("territories_bulk", "all_new"))))


@dataclass(frozen=True)
class PolygonLayer:
    """A layer that consists of polygons which hold for all its time: what `assign_new` and a first load ask."""

    id: int
    is_primary: bool
    start: datetime
    version: int | None
    polygons: Polygons
    area_ids: NDArray[np.int64]  # by index of the polygon; the last one is 0: no area

    def match(self, lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.int64]:
        """The area of each point, degrees of shape (n,), NaN for a site that is not placed; 0 where there is none."""
        return self.area_ids[self.polygons.first(lon, lat)]


def has_named(session: Session, layer_id: int) -> bool:
    """Whether some of `changed_customers` are named accounts of the layer."""
    return bool(session.scalar(text(named("territories_bulk", "named")), {"layer": layer_id}))


def open_layer(session: Session, layer_id: int, *, is_primary: bool, start: datetime) -> PolygonLayer | None:
    """The layer, known to be flat, with its polygons in memory; None where it has rules or too many vertices."""
    values = {"layer": layer_id}
    if not session.scalar(text(named("territories_bulk", "simple")), values | {"vertices": MAX_VERTICES}):
        return None
    rows = session.execute(text(named("territories_bulk", "polygons")), values).all()
    return PolygonLayer(
        id=layer_id,
        is_primary=is_primary,
        start=start,
        version=session.scalar(text(named("territories_bulk", "version")), values | {"start": start}),
        polygons=Polygons(shapely.from_wkb(np.array([bytes(r.geometry) for r in rows], dtype=object))),
        area_ids=np.array([r.area_id for r in rows] + [0], dtype=np.int64),
    )


def assign_new(
    session: Session, layer: PolygonLayer, *, actor: Actor, reason: str, now: datetime, recorded: datetime
) -> int:
    """Write the ledger of `changed_customers` on a layer; makes the queue and, on the primary layer, the columns of
    sites and customers follow. Returns the number of rows."""
    session.execute(text(named("territories_bulk", "work_tables")))
    session.execute(text("TRUNCATE ledger_matches"))
    connection = driver(session)
    after = 0
    while (chunk := _points(connection, after)) is not None:
        after = int(chunk["customer"].max())
        chunk = chunk[chunk["site"] != 0]
        area = layer.match(chunk["x"].astype(np.float64), chunk["y"].astype(np.float64))
        matches = {
            "customer_id": chunk["customer"].astype(np.int64),
            "site_id": chunk["site"].astype(np.int64),
            "area_id": area,
            "differs": area != chunk["territory"],
        }
        copy_encoded(connection, encode("ledger_matches", pa.table(matches)))
    values = {
        "layer": layer.id, "start": layer.start, "now": now, "recorded": recorded, "actor": actor.user_id,
        "reason": reason,
    }  # fmt: skip
    write = text(named("territories_bulk", "write"))
    written = session.execute(write, values | {"version": layer.version}).rowcount  # type: ignore[attr-defined]
    session.execute(text(named("territories_bulk", "queue")), values)
    if layer.is_primary:
        session.execute(text(named("territories_bulk", "sites_follow")))
        query = named("territories", "customers_follow")
        changed = "SELECT DISTINCT customer_id FROM ledger_matches WHERE differs"
        session.execute(text(query.replace("{customers}", changed)))
    return int(written)


def _points(connection: psycopg.Connection[Any], after: int) -> NDArray[np.void] | None:
    """The sites of the next customers after `after`, or None where there are no more."""
    rows = read_binary(connection, named("territories_bulk", "points"), {"after": after, "count": CHUNK}, _POINT)
    return rows if len(rows) else None
