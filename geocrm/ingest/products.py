"""Products: upsert by (source, external id)."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from sqlalchemy import text

from geocrm.ingest.columns import Prepared
from geocrm.ingest.customers import attributes_json, pair_slots
from geocrm.ingest.formats import Source
from geocrm.ingest.staging import Context, flags_text

SQL = "import_others"
_FIELDS = ("sku", "name", "category", "unit_price", "unit_cost", "currency")


class Products:
    """The loader of products."""

    stage_columns: tuple[tuple[str, str], ...] = (
        ("line_no", "bigint"),
        ("external_id", "text"),
        ("sku", "text"),
        ("name", "text"),
        ("category", "text"),
        ("unit_price", "numeric(18,4)"),
        ("unit_cost", "numeric(18,4)"),
        ("currency", "text"),
        ("attributes", "jsonb"),
        ("flags", "text[]"),
    )

    def __init__(self, context: Context) -> None:
        self.context = context

    def stage(self, prepared: Prepared) -> pa.Table:
        """The good rows of a chunk as rows of the staging table."""
        values, count = prepared.values, len(prepared.chunk.table)
        columns: dict[str, Any] = {"line_no": pa.array(prepared.chunk.lines), "external_id": values["external_id"]}
        columns |= {name: values[name] for name in _FIELDS if name in values}
        columns.setdefault("sku", values["external_id"])
        if (attributes := attributes_json(prepared, self.context)) is not None:
            columns["attributes"] = attributes
        columns["flags"] = flags_text(prepared.flags, count)
        return pa.table(columns).filter(pa.array(~prepared.bad))

    def apply(self, source: Source) -> None:
        """From the staging table into products."""
        context = self.context
        names = {"table": "products", "sources": "product_sources", "id": "product_id", "part": "product"}
        apply_simple(context, names, [name for name in _FIELDS if name in context.given], "insert_products", "")


def apply_simple(context: Context, names: dict[str, str], fields: list[str], insert: str, touched: str) -> None:
    """Upsert of a small table: keys, changes of the given fields, new rows, lineage."""
    session = context.session
    session.execute(text("ANALYZE import_stage"))
    context.progress("writing")
    context.run(SQL, "keys", names)
    pairs = [(field, f"w.{field}") for field in fields]
    values: dict[str, Any] = {}
    if attributes := sorted(name[11:] for name in context.given if name.startswith("attributes.")):
        pairs.append(("attributes", "(c.attributes - CAST(:attributes AS text[])) || COALESCE(w.attributes, '{}')"))
        values["attributes"] = attributes
    if pairs:
        slots = (
            names | pair_slots("c", pairs) | {"touched": touched, "computed": "", "join": "", "before": "to_jsonb(c)"}
        )
        context.run(SQL, "change", slots, **values)
    context.run(SQL, insert)
    context.run(SQL, "insert_sources", names)
    context.run(SQL, "rows")
