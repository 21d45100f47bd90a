"""The first load: a file of customers into a database that has none, written straight into its tables.

Nothing has to be looked up or compared, so rows need no staging: ids are drawn as they come, territories are matched
here, and each chunk goes by COPY into customers, sites, their ids, contacts, the ledger and the lineage, whose indexes
and foreign keys are made afterwards (`sql/functions/50_first_load.sql`). A second connection builds the lookup rows and
the cell pyramid meanwhile, and the transaction flips to them at its end. What is written equals what the general way
writes; a test compares the two.

The general way takes over where a customer comes in several rows, or where parents, sites of their own ids or rules of
territories need all rows to be known first.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sqlalchemy import text

from geocrm.db.copying import Encoded, copy_encoded, draw_ids, driver, encode, ewkb_points
from geocrm.db.engine import Database
from geocrm.ingest.coerce import mask_of
from geocrm.ingest.columns import Prepared
from geocrm.ingest.customers import ADDRESS, Customers, load_users
from geocrm.ingest.staging import Context
from geocrm.spatial import ledger, lookup
from geocrm.spatial.ledger_bulk import PolygonLayer

_NEEDS_ALL_ROWS = frozenset({"parent", "site_id"})
_CUSTOMER = ("kind", "name", "stage", "owner_id", "industry", "size_class", "preferred_channel", "attributes")
_SITE = ("label", *ADDRESS, "location_precision", "precision_m", "location_source", "placement")
_CONTACT = {"contact_name": "name", "contact_role": "role", "email": "email", "phone": "phone"}


class Repeated(Exception):
    """A customer comes in several rows."""


def is_empty(context: Context) -> bool:
    """Whether there are no customers yet."""
    return bool(context.session.scalar(text("SELECT NOT EXISTS (SELECT FROM customers)")))


def set_indexes_aside(context: Context) -> bool:
    """Lock the empty tables of customers and set their indexes aside; False where somebody is at work on them."""
    return bool(context.session.scalar(text("SELECT geocrm_first_load_begin()")))


def make_indexes(context: Context) -> None:
    """Make the indexes and foreign keys again; raises what the rows violate."""
    context.session.execute(text("SELECT geocrm_first_load_end()"))


class FirstLoad:
    """One first load: `shape` each chunk in one thread, `write` it in another, then `finish`; `close` in any case. The
    caller goes back to a savepoint where `shape` raises `Repeated`."""

    def __init__(self, context: Context, database: Database, layers: list[PolygonLayer]) -> None:
        self._context = context
        self._customers = Customers(context)
        self._layers = layers
        self._moment, self._recorded = ledger.clock(context.session, None)
        self._seen = Seen()
        load_users(context)  # the last time that shaping would need the session
        lookup.lock_generations(context.session)
        self._generation = lookup.Generation(database)

    @classmethod
    def open(cls, context: Context, database: Database) -> FirstLoad | None:
        """A first load of this import; None where it needs the general way."""
        if context.given & _NEEDS_ALL_ROWS:
            return None
        layers = ledger.polygon_layers(context.session)
        return None if layers is None else cls(context, database, layers)

    def shape(self, prepared: Prepared) -> Shaped:
        """The good rows of a chunk, ready for the tables of customers; those of the lookups are written, the bad ones
        put by. Touches the second connection alone."""
        rows = self._customers.rows(prepared)
        self._context.rejected.add_chunk(prepared)
        count = len(rows)
        shaped = Shaped([], len(prepared.chunk.lines) + len(prepared.chunk.unreadable), prepared.chunk.read)
        if not count:
            return shaped
        self._seen.add(rows["external_id"].to_numpy())
        customer = draw_ids(self._generation.connection, "customers", count)
        with_site = np.flatnonzero(mask_of(rows["has_site"]))
        site = np.zeros(count, np.int64)
        site[with_site] = draw_ids(self._generation.connection, "sites", len(with_site))
        placed = mask_of(pc.equal(rows["placement"], "placed"))
        lon = np.where(placed, rows["lon"].to_numpy(), np.nan)
        lat = np.where(placed, rows["lat"].to_numpy(), np.nan)
        areas = [(layer, layer.match(lon, lat)) for layer in self._layers]
        territory = next((area for layer, area in areas if layer.is_primary), np.zeros(count, np.int64))
        self._add_lookup(rows, np.flatnonzero(placed), customer, site, territory)
        shaped.tables.extend(
            [
                *self._of_customers(rows, customer, territory),
                *self._of_sites(
                    rows.take(pa.array(with_site)), customer[with_site], site[with_site], territory[with_site]
                ),
                *self._of_contacts(rows, customer),
                _encoded(
                    "import_rows",
                    {
                        "batch_id": pa.repeat(self._context.batch_id, count),
                        "line_no": rows["line_no"],
                        "outcome": pa.repeat("new", count),
                        "customer_id": customer,
                        "object_id": _or_null(site),
                        "flags": _words(rows["flags"]),
                    },
                ),
            ]
        )
        for layer, area in areas:
            shaped.tables.extend(self._of_ledger(layer, customer[with_site], site[with_site], area[with_site]))
        return shaped

    def write(self, shaped: Shaped) -> None:
        """A chunk into the tables of customers."""
        for rows in shaped.tables:
            copy_encoded(driver(self._context.session), rows)

    def finish(self) -> None:
        """Make the indexes, the lookups at the same time, and flip."""
        self._context.progress("indexes and lookups")
        with ThreadPoolExecutor(1, "geocrm-lookups") as beside:
            building = beside.submit(self._generation.build)
            make_indexes(self._context)
            self._generation.help_build(self._context.session, building)
        lookup.flip(self._context.session)

    def close(self) -> None:
        """Close the second connection."""
        self._generation.close()

    def _of_customers(
        self, rows: pa.Table, customer: NDArray[np.int64], territory: NDArray[np.int64]
    ) -> Iterator[Encoded]:
        columns: dict[str, Any] = {"id": customer} | {
            name: rows[name] for name in _CUSTOMER if name in rows.column_names
        }
        if "attributes" in columns:
            columns["attributes"] = pc.fill_null(columns["attributes"], "{}")
        found = territory != 0
        ends = np.concatenate([[0], np.cumsum(found)]).astype(np.int32)
        columns["territory_ids"] = pa.ListArray.from_arrays(pa.array(ends), pa.array(territory[found]))
        columns["batch_id"] = pa.repeat(self._context.batch_id, len(rows))
        columns["stage"] = pc.fill_null(columns["stage"], "active")
        yield _encoded("customers", columns)
        source = pa.repeat(self._context.source, len(rows))
        yield _encoded(
            "customer_sources", {"source": source, "external_id": rows["external_id"], "customer_id": customer}
        )

    def _of_sites(
        self,
        rows: pa.Table,
        customer: NDArray[np.int64],
        site: NDArray[np.int64],
        territory: NDArray[np.int64],
    ) -> Iterator[Encoded]:
        count = len(rows)
        yield _encoded(
            "sites",
            {"customer_id": customer, "id": site}
            | {name: rows[name] for name in _SITE if name in rows.column_names}
            | {
                "location": ewkb_points(rows["lon"].to_numpy(), rows["lat"].to_numpy()),
                "flags": _words(pc.fill_null(rows["site_flags"], "{}")),
                "is_primary": pa.repeat(True, count),
                "territory_id": _or_null(territory),
            },
        )
        yield _encoded(
            "site_sources",
            {
                "source": pa.repeat(self._context.source, count),
                "external_id": rows["external_id"],
                "customer_id": customer,
                "site_id": site,
            },
        )

    def _of_contacts(self, rows: pa.Table, customer: NDArray[np.int64]) -> Iterator[Encoded]:
        said = [name for name in _CONTACT if name in rows.column_names]
        telling = [name for name in said if name != "contact_role"]
        if not telling:
            return
        reachable = np.flatnonzero(mask_of(pc.is_valid(pc.coalesce(*(rows[name] for name in telling)))))
        chosen = rows.take(pa.array(reachable))
        yield _encoded(
            "contacts",
            {"customer_id": customer[reachable]}
            | {_CONTACT[name]: chosen[name] for name in said}
            | {
                "is_primary": pa.repeat(True, len(chosen)),
                "batch_id": pa.repeat(self._context.batch_id, len(chosen)),
            },
        )

    def _of_ledger(
        self, layer: PolygonLayer, customer: NDArray[np.int64], site: NDArray[np.int64], area: NDArray[np.int64]
    ) -> Iterator[Encoded]:
        context, count = self._context, len(site)
        yield _encoded(
            "assignments",
            {
                "customer_id": customer,
                "site_id": site,
                "layer_id": pa.repeat(layer.id, count),
                "valid_from": _moments(layer.start, count),
                "recorded_at": _moments(self._recorded, count),
                "area_id": _or_null(area),
                "basis": pc.if_else(pa.array(area != 0), "polygon", "none"),
                "layer_version": pa.repeat(pa.scalar(layer.version, pa.int32()), count),
                "actor_id": pa.repeat(pa.scalar(context.actor.user_id, pa.int64()), count),
                "reason": pa.repeat(context.reason, count),
                "ahead": pa.repeat(layer.start > self._moment, count),
            },
        )
        if layer.start > self._moment:
            return
        nowhere = np.flatnonzero(area == 0)
        yield _encoded(
            "contradictions",
            {
                "customer_id": customer[nowhere],
                "site_id": site[nowhere],
                "layer_id": pa.repeat(layer.id, len(nowhere)),
                "kind": pa.repeat("nothing", len(nowhere)),
                "since": _moments(self._moment, len(nowhere)),
            },
        )

    def _add_lookup(
        self,
        rows: pa.Table,
        placed: NDArray[np.int64],
        customer: NDArray[np.int64],
        site: NDArray[np.int64],
        territory: NDArray[np.int64],
    ) -> None:
        chosen = rows.take(pa.array(placed))
        owner = chosen["owner_id"] if "owner_id" in rows.column_names else pa.nulls(len(chosen), pa.int64())
        self._generation.add(
            pa.table(
                {
                    "customer_id": customer[placed],
                    "site_id": site[placed],
                    "location": ewkb_points(chosen["lon"].to_numpy(), chosen["lat"].to_numpy()),
                    "stage": pc.fill_null(chosen["stage"], "active"),
                    "kind": chosen["kind"],
                    "owner_id": owner,
                    "territory_id": _or_null(territory[placed]),
                    "is_primary": pa.repeat(True, len(chosen)),
                    "location_precision": chosen["location_precision"],
                    "precision_m": chosen["precision_m"],
                }
            ),
        )


class Shaped(NamedTuple):
    """A chunk as rows of tables."""

    tables: list[Encoded]
    lines: int  # of the file, good and bad
    read: float  # share of the file that is read by now


class Seen:
    """Which external ids have come: their hashes, 8 bytes each, in sorted runs of doubling length. Two ids of one hash
    (one pair in 2^64) are taken for one, which costs time and nothing else."""

    def __init__(self) -> None:
        self._runs: list[NDArray[np.uint64]] = []

    def add(self, names: NDArray[np.object_]) -> None:
        """Note these; raises Repeated where one has come before."""
        run = np.sort(pd.util.hash_array(names, categorize=False))
        if (run[1:] == run[:-1]).any():
            raise Repeated
        for former in self._runs:
            at = np.minimum(np.searchsorted(former, run), len(former) - 1)
            if (former[at] == run).any():
                raise Repeated
        while self._runs and len(self._runs[-1]) <= len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        self._runs.append(run)


def _encoded(table: str, columns: dict[str, Any]) -> Encoded:
    return encode(table, pa.table(columns), jsonb={"attributes"} & columns.keys())


def _moments(moment: datetime, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(moment, pa.timestamp("us", tz="UTC")), count)


def _words(literals: pa.ChunkedArray) -> pa.ChunkedArray:
    """Array literals of plain words, `{zero,swapped}`, as lists; null stays null."""
    inner = pc.utf8_slice_codeunits(literals, 1, -1)
    none = pa.scalar([], pa.list_(pa.string()))
    return pc.if_else(pc.equal(inner, ""), none, pc.split_pattern(inner, ","))


def _or_null(ids: NDArray[np.int64]) -> pa.Array:
    """Ids as an Arrow array, null where there is none (0)."""
    return pa.array(ids, mask=ids == 0)
