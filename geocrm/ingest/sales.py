"""Sales with their lines: rows of one external id are one sale, whole or not at all."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import text

from geocrm.db.copying import copy_table, driver
from geocrm.ingest.columns import Prepared
from geocrm.ingest.formats import Source
from geocrm.ingest.staging import Context, flags_text
from geocrm.segmentation import statistics

SQL = "import_sales"

_TEXTS = ("external_id", "customer", "product", "product_name", "category", "channel", "place", "currency")
_AMOUNTS = ("quantity", "unit_price", "amount", "unit_cost", "cost", "discount")


class Sales:
    """The loader of sales."""

    stage_columns: tuple[tuple[str, str], ...] = (
        ("line_no", "bigint"),
        ("external_id", "text"),
        ("customer", "text"),
        ("occurred_at", "timestamptz"),
        ("sale_line", "bigint"),
        ("product", "text"),
        ("product_name", "text"),
        ("category", "text"),
        ("quantity", "numeric(14,4)"),
        ("unit_price", "numeric(18,4)"),
        ("amount", "numeric(18,4)"),
        ("unit_cost", "numeric(18,4)"),
        ("cost", "numeric(18,4)"),
        ("discount", "numeric(18,4)"),
        ("currency", "text"),
        ("channel", "text"),
        ("place", "text"),
        ("site", "text"),
        ("returned", "boolean"),
        ("flags", "text[]"),
    )

    def __init__(self, context: Context) -> None:
        self.context = context
        context.session.execute(text("CREATE TEMP TABLE import_spoiled (external_id text) ON COMMIT DROP"))

    def stage(self, prepared: Prepared) -> pa.Table:
        """The good rows of a chunk as rows of the staging table."""
        values, count = prepared.values, len(prepared.chunk.table)
        columns: dict[str, Any] = {"line_no": pa.array(prepared.chunk.lines)}
        columns |= {name: values[name] for name in (*_TEXTS, *_AMOUNTS, "occurred_at", "returned") if name in values}
        if "line_no" in values:
            columns["sale_line"] = values["line_no"]
        if "site_id" in values:
            columns["site"] = values["site_id"]
        if "amount" not in values or "unit_price" in values:
            nothing = pa.nulls(count, pa.string())
            amounts = pc.coalesce(values.get("amount", nothing), values.get("unit_price", nothing))
            missing = pc.is_null(amounts).to_numpy(zero_copy_only=False) & ~prepared.bad
            prepared.reject(
                missing, self.context.recipe.columns.get("amount", "amount"), "amount or unit_price is missing"
            )
        columns["flags"] = flags_text(prepared.flags, count)
        table = pa.table(columns)
        if not prepared.bad.any():
            return table
        bad = pa.array(prepared.bad)
        spoiled = pc.drop_null(values["external_id"].filter(bad))
        copy_table(driver(self.context.session), "import_spoiled", pa.table({"external_id": spoiled}))
        return table.filter(pc.invert(bad))

    def apply(self, source: Source) -> None:
        """From the staging table into sales and their lines, and one row in `import_rows` for each line."""
        context, given = self.context, self.context.given
        session = context.session
        context.progress("matching")
        session.execute(text("ANALYZE import_stage"))
        context.run(SQL, "orders")
        self._turn_away(source)
        with_lines = bool(given & {"product", "product_name", "line_no", "quantity", "unit_price"})
        if not with_lines:
            self._without_lines(source)
        self._create()
        context.progress("writing sales")
        if "place" in given:
            context.run(SQL, "unknown_places")
        context.run(SQL, "lines")
        session.execute(text("ANALYZE import_lines, import_orders"))
        context.run(
            SQL,
            "heads",
            {
                "site": "ss.site_id" if "site_id" in given else "old.site_id",
                "place": "ps.place_id" if "place" in given else "old.place_id",
                "channel": "s.channel" if "channel" in given else "old.channel",
                "returned": "COALESCE(s.returned, false)"
                if "returned" in given
                else "COALESCE(old.returned, t.amount < 0)",
            },
        )
        session.execute(text("ANALYZE import_heads"))
        context.run(SQL, "changed_sales", {"with_lines": "true" if with_lines else "false"})
        context.run(SQL, "keep_changed")
        context.run(SQL, "delete_changed")
        context.run(SQL, "insert_sales")
        context.progress("writing lines")
        context.run(SQL, "insert_lines" if with_lines else "keep_lines")
        context.run(SQL, "insert_sources")
        context.run(SQL, "move_sources")
        statistics.tell_import(session, context.batch_id)
        context.run(SQL, "tell_changed")
        context.run(SQL, "rows")

    def _without_lines(self, source: Source) -> None:
        context = self.context
        label = context.recipe.columns.get("amount", "amount")
        reasons = {
            line: {
                label: f"this sale has lines that sum to {amount.normalize():f}; import its lines to change the amount"
            }
            for line, amount in context.run(SQL, "without_lines").all()
        }
        if not reasons:
            return
        self._reject(source, reasons)

    def _create(self) -> None:
        """What the remaining lines name and nobody knows, where that is asked for: undo finds it with these lines."""
        context = self.context
        if context.recipe.create_customers:
            owner = None if context.actor.sees_all else context.actor.user_id
            context.run(SQL, "create_customers", owner_id=owner)
        if context.recipe.create_products:
            context.run(SQL, "create_products")

    def _reject(self, source: Source, reasons: dict[int, dict[str, str]]) -> None:
        context = self.context
        context.turn_away(source, reasons)
        context.session.execute(
            text(
                "DELETE FROM import_orders o WHERE NOT EXISTS (SELECT FROM import_stage s WHERE s.external_id = "
                "o.external_id)"
            )
        )

    def _turn_away(self, source: Source) -> None:
        context = self.context
        session, columns = context.session, context.recipe.columns
        customer, product = columns.get("customer", "customer"), columns.get("product", "product")
        reasons: dict[int, dict[str, str]] = {}
        for line, said in context.run(SQL, "unknown_customers", creating=context.recipe.create_customers).all():
            reasons[line] = {customer: context.not_known(said)}
        if not context.actor.sees_all:
            sight: dict[str, Any] = {
                "owners": list(context.actor.owners),
                "territories": list(context.actor.territories),
            }
            for line, said, theirs in context.run(SQL, "foreign_customers", **sight).all():
                if theirs:
                    reasons[line] = {customer: context.not_known(said)}
                else:
                    reasons.setdefault(
                        line, {columns.get("external_id", "external_id"): "you cannot import a sale of this id"}
                    )
        for line in context.run(SQL, "two_customers").scalars():
            reasons.setdefault(line, {}).update({customer: "the lines of this sale name different customers"})
        for line in context.run(SQL, "two_headers").scalars():
            reasons.setdefault(line, {}).update(
                {columns.get("currency", "currency"): "the lines of this sale state different currencies"}
            )
        context.run(SQL, "products")
        spoiled: set[str] = set()
        without = [] if context.recipe.create_products else context.run(SQL, "unknown_products").all()
        for line, said, external_id in without:
            reasons.setdefault(line, {}).update(
                {product: f"product {said!r} is not known; import it first, or create it with create_products"}
            )
            spoiled.add(external_id)
        if spoiled:
            session.execute(
                text("INSERT INTO import_spoiled SELECT unnest(CAST(:ids AS text[]))"), {"ids": sorted(spoiled)}
            )
        for line, external_id in context.run(SQL, "spoiled").all():
            reasons.setdefault(
                line, {columns.get("external_id", "external_id"): f"another line of sale {external_id!r} was rejected"}
            )
        if reasons:
            self._reject(source, reasons)
