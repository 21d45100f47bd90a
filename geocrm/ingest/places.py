"""Places, ours and competitors': upsert by (source, external id)."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import text

from geocrm.ingest.columns import Prepared
from geocrm.ingest.customers import attributes_json, pair_slots, place_columns
from geocrm.ingest.formats import Source
from geocrm.ingest.staging import Context, flags_text

SQL = "import_others"
_TEXTS = ("name", "brand", "line1", "city", "region", "postal_code", "country")
_POINT = ("lon", "lat", "location_precision", "precision_m", "location_source", "placement", "site_flags")


class Places:
    """The loader of places."""

    stage_columns: tuple[tuple[str, str], ...] = (
        ("line_no", "bigint"),
        ("external_id", "text"),
        ("kind", "text"),
        ("name", "text"),
        ("brand", "text"),
        ("line1", "text"),
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
        ("floor_area_m2", "float8"),
        ("attributes", "jsonb"),
        ("flags", "text[]"),
    )

    def __init__(self, context: Context) -> None:
        self.context = context

    def stage(self, prepared: Prepared) -> pa.Table:
        """The good rows of a chunk as rows of the staging table."""
        values, count = prepared.values, len(prepared.chunk.table)
        columns: dict[str, Any] = {"line_no": pa.array(prepared.chunk.lines), "external_id": values["external_id"]}
        columns["kind"] = pc.fill_null(values["kind"], "own") if "kind" in values else pa.repeat("own", count)
        columns |= {name: values[name] for name in (*_TEXTS, "floor_area_m2") if name in values}
        columns |= {name: column for name, column in place_columns(prepared, self.context).items() if name in _POINT}
        if (attributes := attributes_json(prepared, self.context)) is not None:
            columns["attributes"] = attributes
        columns["flags"] = flags_text(prepared.flags, count)
        return pa.table(columns).filter(pa.array(~prepared.bad))

    def apply(self, source: Source) -> None:
        """From the staging table into places."""
        context, given = self.context, self.context.given
        context.session.execute(text("ANALYZE import_stage"))
        context.progress("writing places")
        names = {"table": "places", "sources": "place_sources", "id": "place_id", "part": "place"}
        context.run(SQL, "keys", names)
        pairs = [(name, f"w.{name}") for name in (*_TEXTS, "kind", "floor_area_m2") if name in given]
        if given & {"lon", "lat", "geometry", "city", "postal_code", "region", "country"}:
            pairs.append(("location", "ST_SetSRID(ST_MakePoint(w.lon, w.lat), 4326)"))
            pairs += [
                (name, f"w.{name}") for name in ("location_precision", "precision_m", "location_source", "placement")
            ]
            pairs.append(("flags", "COALESCE(w.site_flags, '{}')"))
        values: dict[str, Any] = {}
        if attributes := sorted(name[11:] for name in given if name.startswith("attributes.")):
            pairs.append(("attributes", "(c.attributes - CAST(:attributes AS text[])) || COALESCE(w.attributes, '{}')"))
            values["attributes"] = attributes
        before = "to_jsonb(c) || jsonb_build_object('location', CAST(c.location AS text))"
        touched = ", version = c.version + 1, updated_at = now()"
        slots = names | pair_slots("c", pairs) | {"touched": touched, "computed": "", "join": "", "before": before}
        context.run(SQL, "change", slots, **values)
        context.run(SQL, "insert_places")
        context.run(SQL, "insert_sources", names)
        context.run(SQL, "rows")
