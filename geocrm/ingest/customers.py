"""Customers with their sites and contacts: chunks → staging table → upsert by (source, external id)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from sqlalchemy import text

from geocrm.ingest import coerce
from geocrm.ingest.coerce import mask_of
from geocrm.ingest.columns import Prepared
from geocrm.ingest.formats import Source
from geocrm.ingest.staging import Context, flags_text
from geocrm.spatial import gazetteers

SQL = "import_customers"
GIVEN_PRECISION_M = 25.0
PLACE_FLAGS = frozenset({"zero", "swapped", "out_of_country"})
_TEMPORARY = {"groups": "import_groups", "existing_sites": "import_existing", "settled_sites": "import_settled"}
ADDRESS = ("line1", "line2", "city", "region", "postal_code", "country")
_CUSTOMER_TEXTS = ("industry", "size_class", "preferred_channel")

STAGE = (
    ("line_no", "bigint"),
    ("external_id", "text"),
    ("name", "text"),
    ("kind", "text"),
    ("stage", "text"),
    ("parent", "text"),
    ("owner_id", "bigint"),
    ("industry", "text"),
    ("size_class", "text"),
    ("preferred_channel", "text"),
    ("attributes", "jsonb"),
    ("site_key", "text"),
    ("label", "text"),
    ("is_primary", "boolean"),
    ("line1", "text"),
    ("line2", "text"),
    ("city", "text"),
    ("region", "text"),
    ("postal_code", "text"),
    ("country", "text"),
    ("lon", "float8"),
    ("lat", "float8"),
    ("location_precision", "text"),
    ("precision_m", "float8"),
    ("location_source", "text"),
    ("placement", "text"),
    ("site_flags", "text[]"),
    ("flags", "text[]"),
    ("territory_id", "bigint"),
    ("contact_name", "text"),
    ("contact_role", "text"),
    ("email", "text"),
    ("phone", "text"),
    ("has_site", "boolean"),
)


_KEYS_MAY_COLLIDE = (
    "SELECT EXISTS (SELECT FROM import_spots) OR EXISTS (SELECT FROM site_sources WHERE source = CAST(:source AS text))"
)


class Customers:
    """The loader of customers."""

    stage_columns: tuple[tuple[str, str], ...] = STAGE

    def __init__(self, context: Context) -> None:
        self.context = context
        self._foresight: Foresight | None = None

    def stage(self, prepared: Prepared) -> pa.Table:
        """The good rows of a chunk as rows of the staging table."""
        if self._foresight is None:
            self._foresight = Foresight(self.context)
        rows = self.rows(prepared)
        return rows.append_column("territory_id", self._foresight.territories(rows))

    def rows(self, prepared: Prepared) -> pa.Table:
        """The good rows of a chunk, without territories."""
        values, count = prepared.values, len(prepared.chunk.table)
        owner = owner_ids(prepared, self.context)
        name, kind, contact_name = _names(values, count)
        address = {part: values[part] for part in ADDRESS if part in values}
        columns: dict[str, Any] = {
            "line_no": pa.array(prepared.chunk.lines),
            "external_id": values["external_id"],
            "name": name,
            "kind": kind,
            "stage": values["stage"] if "stage" in values else pa.repeat("active", count),
        }
        if "parent" in values:
            columns["parent"] = values["parent"]
        if owner is not None:
            columns["owner_id"] = owner
        for part in _CUSTOMER_TEXTS:
            if part in values:
                columns[part] = values[part]
        if (attributes := attributes_json(prepared, self.context)) is not None:
            columns["attributes"] = attributes
        if "site_id" in values:
            columns["site_key"] = values["site_id"]
        for part in ("label", "is_primary", "contact_role", "email", "phone"):
            if part in values:
                columns[part] = values[part]
        columns.update(address)
        if contact_name is not None:
            columns["contact_name"] = contact_name
        columns.update(place_columns(prepared, self.context))
        columns["flags"] = flags_text(prepared.flags, count)
        table = pa.table(columns)
        return table.filter(pa.array(~prepared.bad)) if prepared.bad.any() else table

    def apply(self, source: Source) -> None:
        """From the staging table into customers, sites and contacts, and one row in `import_rows` for each line."""
        context = self.context
        given = context.given
        context.progress("matching")
        context.session.execute(text("ANALYZE import_stage"))
        context.run(SQL, "keys")
        context.session.execute(text("ANALYZE import_keys"))
        self._turn_away(source)
        has_parents = "parent" in given
        slots = {"parent": "NULL::bigint", "parent_join": ""}
        if has_parents:
            context.run(
                SQL,
                "parents",
                sees_all=context.actor.sees_all,
                owners=list(context.actor.owners),
                territories=list(context.actor.territories),
            )
            self._bad_parents()
            slots = {
                "parent": "up.parent_id",
                "parent_join": "LEFT JOIN import_parents up ON up.customer_id = k.customer_id",
            }
        context.progress("writing customers")
        known = bool(context.session.scalar(text("SELECT EXISTS (SELECT FROM import_keys WHERE NOT is_new)")))
        if known:
            self._change_customers(slots)
        context.run(SQL, "insert_customers", slots)
        context.run(SQL, "insert_customer_sources")
        context.progress("writing sites")
        context.run(SQL, "site_groups")
        context.session.execute(text("ANALYZE import_spots"))
        for step in ("groups", "existing_sites", "settled_sites", "sites"):
            context.run(SQL, step)
            if step != "sites":
                context.session.execute(text(f"ANALYZE {_TEMPORARY[step]}"))
        context.session.execute(text("ANALYZE import_sites, import_spots"))
        context.run(SQL, "choose_primary")
        if "site_id" in given or context.session.scalar(text(_KEYS_MAY_COLLIDE), {"source": context.source}):
            self._taken_sites(source)
        context.run(SQL, "insert_sites")
        context.run(SQL, "insert_site_sources")
        if known:
            context.run(SQL, "keep_new_sites")
            self._change_sites()
        if given & {"email", "phone", "contact_name", "first_name", "last_name"}:
            context.progress("writing contacts")
            context.run(SQL, "insert_contacts")
            context.run(SQL, "contacts")
            if known:
                context.run(SQL, "match_contacts")
                self._change_contacts()
            context.run(SQL, "insert_more_contacts")
        if known:
            context.run(SQL, "touch_customers")
        several = context.session.scalar(text("SELECT EXISTS (SELECT FROM import_keys WHERE lines > 1)"))
        context.run(SQL, "rows" if known or several else "rows_of_new")
        context.run(SQL, "changed")
        context.session.execute(text("ALTER TABLE changed_customers ADD PRIMARY KEY (customer_id)"))

    # -- rows that only the database can judge --------------------------------------------------------------------

    def _turn_away(self, source: Source) -> None:
        context = self.context
        label = context.recipe.columns.get("external_id", "external_id")
        reasons = {
            line: {label: "this customer was erased and is not brought back"}
            for line in context.run(SQL, "drop_erased").scalars()
        }
        if not context.actor.sees_all:
            foreign = context.run(
                SQL, "drop_foreign", owners=list(context.actor.owners), territories=list(context.actor.territories)
            ).scalars()
            reasons |= {line: {label: "you cannot import a customer of this id"} for line in foreign}
        self._reject(source, reasons)

    def _taken_sites(self, source: Source) -> None:
        context = self.context
        label = context.recipe.columns.get("site_id", "site_id")
        lines = list(context.run(SQL, "taken_sites").scalars())
        if not lines:
            return
        flags = text(
            "UPDATE import_stage SET flags = COALESCE(flags, '{}') || CAST('{site_id_taken}' AS text[]) "
            "WHERE line_no = ANY (CAST(:lines AS bigint[]))"
        )
        context.session.execute(flags, {"lines": lines})
        # the site keeps its place but gets a key of its own, so that the other customer's stays his
        context.session.execute(
            text(
                "UPDATE import_sites SET key = key || '@' || customer_id WHERE site_line = ANY (CAST(:lines AS "
                "bigint[]))"
            ),
            {"lines": lines},
        )
        context.counts.setdefault(f"{label} taken", len(lines))

    def _reject(self, source: Source, reasons: dict[int, dict[str, str]]) -> None:
        if not reasons:
            return
        self.context.turn_away(source, reasons)
        self.context.session.execute(text("DROP TABLE import_keys"))
        self.context.run(SQL, "keys")

    def _bad_parents(self) -> None:
        session = self.context.session
        for line, customer_id, flag in self.context.run(SQL, "bad_parents").all():
            session.execute(
                text(
                    "UPDATE import_stage SET flags = COALESCE(flags, '{}') || ARRAY[CAST(:flag AS text)] "
                    "WHERE line_no = CAST(:line AS bigint)"
                ),
                {"flag": flag, "line": line},
            )
            session.execute(
                text("UPDATE import_parents SET parent_id = NULL WHERE customer_id = CAST(:id AS bigint)"),
                {"id": customer_id},
            )

    # -- changes of what is known -----------------------------------------------------------------------------------

    def _change_customers(self, slots: dict[str, str]) -> None:
        given = self.context.given
        pairs: list[tuple[str, str]] = []
        if given & {"name", "first_name", "last_name"}:
            pairs.append(("name", "w.name"))
        if "kind" in given:
            pairs.append(("kind", "w.kind"))
        if "stage" in given:
            pairs.append(("stage", "COALESCE(w.stage, c.stage)"))
        # who or what is unknown does not push out what is known
        if "owner" in given:
            pairs.append(("owner_id", _unless(("owner_unknown",), "w.owner_id", "c.owner_id")))
        if "parent" in given:
            pairs.append(("parent_id", _unless(("parent_unknown", "parent_circular"), "w.parent_id", "c.parent_id")))
        pairs += [(part, f"w.{part}") for part in _CUSTOMER_TEXTS if part in given]
        values: dict[str, Any] = {}
        if names := [name[11:] for name in given if name.startswith("attributes.")]:
            pairs.append(("attributes", "(c.attributes - CAST(:attributes AS text[])) || COALESCE(w.attributes, '{}')"))
            values["attributes"] = sorted(names)
        if pairs:
            self.context.run(SQL, "change_customers", slots | pair_slots("c", pairs), **values)

    def _change_sites(self) -> None:
        given = self.context.given
        address = [part for part in ADDRESS if part in given]
        labels = [part for part in ("label",) if part in given]
        place = bool(given & {"lon", "lat", "geometry"}) or bool(address)
        if not (address or labels or place):
            return
        self.context.run(
            SQL,
            "change_sites",
            {
                "address_current": ", ".join(f"t.{part}" for part in address) or "1",
                "address_wanted": ", ".join(f"w.{part}" for part in address) or "1",
                "touches_place": "true" if place else "false",
                "label_differs": "OR t.label IS DISTINCT FROM w.label" if labels else "",
                "assignments": "".join(f"{part} = w.{part}, " for part in (*labels, *address)),
            },
        )

    def _change_contacts(self) -> None:
        given = self.context.given
        pairs: list[tuple[str, str]] = [
            (part, f"COALESCE(w.{part}, c.{part})") for part in ("email", "phone") if part in given
        ]
        if given & {"contact_name", "first_name", "last_name", "name"}:
            pairs.append(("name", "COALESCE(w.name, c.name)"))
        if "contact_role" in given:
            pairs.append(("role", "COALESCE(w.role, c.role)"))
        if pairs:
            slots = pair_slots("c", pairs)
            current = {
                key: value.replace("COALESCE(w.", "COALESCE(i.") for key, value in slots.items() if key == "wanted"
            }
            self.context.run(SQL, "change_contacts", slots | current)


def _unless(flags: tuple[str, ...], new: str, old: str) -> str:
    """SQL for a new value, or the old one where the row has one of the flags."""
    return f"CASE WHEN w.flags && CAST('{{{','.join(flags)}}}' AS text[]) THEN {old} ELSE {new} END"


def pair_slots(alias: str, pairs: list[tuple[str, str]]) -> dict[str, str]:
    """Slots of an UPDATE that writes where something differs, from pairs (column, expression)."""
    return {
        "current": ", ".join(f"{alias}.{column}" for column, _ in pairs),
        "wanted": ", ".join(expression for _, expression in pairs),
        "assignments": ", ".join(f"{column} = {expression}" for column, expression in pairs),
    }


def _names(values: dict[str, Any], count: int) -> tuple[Any, Any, Any]:
    """Name, kind and contact name of each row. Who has a company's name and a person's own is an organisation with a
    contact.
    """
    nothing = pa.nulls(count, pa.string())
    first, last = values.get("first_name", nothing), values.get("last_name", nothing)
    person = coerce.join([first, last], " ")
    person = pc.if_else(pc.equal(person, ""), pa.scalar(None, pa.string()), person)
    own = values.get("name", nothing)
    contact = values.get("contact_name", nothing)
    name = pc.coalesce(own, person, contact, values.get("email", nothing))
    kind = values.get("kind", nothing)
    if "first_name" in values or "last_name" in values:
        guessed = pc.if_else(
            pc.and_(pc.is_null(own), pc.is_valid(person)), pa.scalar("person"), pa.scalar("organisation")
        )
    else:
        guessed = pa.repeat("organisation", count)
    kind = pc.coalesce(kind, guessed)
    if not {"contact_name", "first_name", "last_name", "email", "phone"} & values.keys():
        return name, kind, None
    reachable = (
        nothing
        if not {"email", "phone"} & values.keys()
        else pc.coalesce(values.get("email", nothing), values.get("phone", nothing))
    )
    of_person = pc.if_else(
        pc.and_(pc.equal(kind, "person"), pc.is_valid(reachable)), name, pa.scalar(None, pa.string())
    )
    of_company = pc.if_else(pc.equal(kind, "organisation"), person, pa.scalar(None, pa.string()))
    return name, kind, pc.coalesce(contact, of_company, of_person)


def attributes_json(prepared: Prepared, context: Context) -> Any:
    """The attributes of each row as JSON text; None where the recipe has none."""
    names = [name for name in prepared.values if name.startswith("attributes.")]
    if not names:
        return None
    types = [context.recipe.types.get(name, "text") for name in names]
    shapes = ["text" if kind in ("text", "date") else kind for kind in types]
    return coerce.json_object([name[11:] for name in names], [prepared.values[name] for name in names], shapes)


def owner_ids(prepared: Prepared, context: Context) -> Any:
    """Owners by e-mail, name or usr_ id → user ids; unknown ones are flagged, and for a manager those of other
    teams. A manager's own customers where none is said or known.
    """
    values, count = prepared.values, len(prepared.chunk.table)
    result: Any = None
    if "owner" in values:
        result, unknown = user_ids(values["owner"], context)
        if not context.actor.sees_all:  # people of other teams read as people whom nobody knows
            ours = pc.is_in(result, pa.array(context.actor.owners, pa.int64()))
            unknown = unknown | mask_of(pc.and_(pc.is_valid(result), pc.invert(ours)))
            result = pc.if_else(ours, result, pa.scalar(None, pa.int64()))
        prepared.flag(unknown, "owner_unknown")
    if not context.actor.sees_all and context.actor.user_id is not None:
        own = pa.scalar(context.actor.user_id, pa.int64())
        result = pc.fill_null(result, own) if result is not None else pa.repeat(own, count)
    return result


def user_ids(said: Any, context: Context) -> tuple[Any, Any]:
    """E-mails, names or usr_ ids (n,) → user ids, and which are unknown."""
    found, unknown = coerce.uniques(said, lambda value: _user(context, value))
    return pc.cast(found, pa.int64()), unknown


def load_users(context: Context) -> None:
    """What people may be called, once."""
    if context.users is not None:
        return
    context.users = {}
    for row in context.session.execute(text("SELECT id, email, name FROM users")).all():
        context.users[row.email.lower()] = row.id
        context.users[f"usr_{row.id}"] = row.id
        # a name that two people have says nothing
        context.users[f"name:{row.name.lower()}"] = 0 if f"name:{row.name.lower()}" in context.users else row.id


def _user(context: Context, value: str) -> str | None:
    load_users(context)
    known = context.users or {}
    found = known.get(value.lower()) or known.get(f"name:{value.lower()}")
    return str(found) if found else None


def place_columns(prepared: Prepared, context: Context) -> dict[str, Any]:
    """Where each row is: given coordinates, else the gazetteers' point for its address, else pending."""
    values, count = prepared.values, len(prepared.chunk.table)
    lon, lat = np.array(prepared.lon, float), np.array(prepared.lat, float)
    doubtful = np.zeros(count, bool)
    for name in PLACE_FLAGS & prepared.flags.keys():
        doubtful |= prepared.flags[name]
    there = ~np.isnan(lon)
    has_address = np.zeros(count, bool)
    for part in ADDRESS:
        if part in values and part != "country":
            has_address |= mask_of(pc.is_valid(values[part]))
    placement = np.full(count, "pending", object)
    placement[there], placement[doubtful] = "placed", "flagged"
    precision = np.full(count, None, object)
    precision[there] = "given"
    metres = np.where(there, GIVEN_PRECISION_M, np.nan)
    if "precision_m" in values:
        stated = values["precision_m"].to_numpy(zero_copy_only=False).astype(float)
        metres = np.where(there & ~np.isnan(stated), stated, metres)
    origin = np.full(count, None, object)
    origin[there] = "file"
    wanting = np.flatnonzero(~there & ~doubtful & has_address & ~prepared.bad)
    if len(wanting) and context.recipe.place_addresses:
        frame = pd.DataFrame(
            {
                part: pc.take(values[part], pa.array(wanting)).to_numpy(zero_copy_only=False)
                for part in ("country", "postal_code", "city", "region")
                if part in values
            },
            index=range(len(wanting)),
        )
        found = gazetteers.locate(frame)
        hit = found["lon"].notna().to_numpy()
        rows = wanting[hit]
        lon[rows], lat[rows] = found["lon"].to_numpy(float)[hit], found["lat"].to_numpy(float)[hit]
        precision[rows] = found["location_precision"].to_numpy(object)[hit]
        metres[rows] = found["precision_m"].to_numpy(float)[hit]
        origin[rows] = found["location_source"].to_numpy(object)[hit]
        placement[rows] = "placed"
    return {
        "lon": pa.array(lon, from_pandas=True),
        "lat": pa.array(lat, from_pandas=True),
        "location_precision": pa.array(precision, pa.string()),
        "precision_m": pa.array(metres, from_pandas=True),
        "location_source": pa.array(origin, pa.string()),
        "placement": pa.array(placement, pa.string()),
        "site_flags": flags_text(prepared.flags, count, only=PLACE_FLAGS),
        "has_site": pa.array(has_address | there | doubtful),
    }


class Foresight:
    """Which territory a new site will most likely be in, so that its row need not be written twice.

    Only a guess by polygon: the ledger decides afterwards, and moves what the guess got wrong.
    """

    def __init__(self, context: Context) -> None:
        rows = context.session.execute(
            text(
                "SELECT v.area_id, v.priority, ST_AsBinary(v.geometry) AS outline FROM layers y "
                "JOIN layer_areas la ON la.layer_id = y.id AND la.layer_version = y.current_version "
                "JOIN area_versions v ON v.area_id = la.area_id AND v.version = la.area_version "
                "WHERE y.is_primary AND v.geometry IS NOT NULL ORDER BY v.priority, v.area_id DESC"
            )
        ).all()
        self._areas = np.array([row.area_id for row in rows], np.int64)
        self._outlines = shapely.from_wkb([bytes(row.outline) for row in rows])

    def territories(self, rows: pa.Table) -> Any:
        """The likely territory of each staged row, int64 (n,) or null: higher priority first, then the lowest id."""
        count = len(rows)
        if not len(self._areas):
            return pa.nulls(count, pa.int64())
        lon, lat = rows["lon"].to_numpy(), rows["lat"].to_numpy()
        placed = np.flatnonzero(mask_of(pc.equal(rows["placement"], "placed")))
        tree = shapely.STRtree(shapely.points(lon[placed], lat[placed]))
        # outlines come worst first, so that the last one written to a row is the best
        outline, point = tree.query(self._outlines, predicate="intersects")
        order = np.argsort(outline, kind="stable")
        likely = np.full(count, -1, np.int64)
        likely[placed[point[order]]] = self._areas[outline[order]]
        return pa.array(likely, mask=likely < 0)
