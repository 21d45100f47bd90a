"""Interactions: upsert by (source, external id); one that changes its customer is written anew under its own id."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from sqlalchemy import text

from geocrm.ingest.columns import Prepared
from geocrm.ingest.customers import PLACE_FLAGS, user_ids
from geocrm.ingest.formats import Source
from geocrm.ingest.staging import Context, flags_text

SQL = "import_others"
_FIELDS = ("channel", "direction", "department", "subject", "body", "outcome", "score", "follow_up_at")


class Interactions:
    """The loader of interactions."""

    stage_columns: tuple[tuple[str, str], ...] = (
        ("line_no", "bigint"),
        ("external_id", "text"),
        ("customer", "text"),
        ("kind", "text"),
        ("channel", "text"),
        ("direction", "text"),
        ("department", "text"),
        ("user_id", "bigint"),
        ("occurred_at", "timestamptz"),
        ("subject", "text"),
        ("body", "text"),
        ("outcome", "text"),
        ("score", "float8"),
        ("follow_up_at", "timestamptz"),
        ("lon", "float8"),
        ("lat", "float8"),
        ("flags", "text[]"),
    )

    def __init__(self, context: Context) -> None:
        self.context = context

    def stage(self, prepared: Prepared) -> pa.Table:
        """The good rows of a chunk as rows of the staging table."""
        values, count = prepared.values, len(prepared.chunk.table)
        columns: dict[str, Any] = {"line_no": pa.array(prepared.chunk.lines)}
        columns |= {
            name: values[name]
            for name in ("external_id", "customer", "kind", "occurred_at", *_FIELDS)
            if name in values
        }
        if "user" in values:
            columns["user_id"], unknown = user_ids(values["user"], self.context)
            prepared.flag(unknown, "user_unknown")
        # a doubtful point of a visit is left out: nobody would mend it
        doubtful = np.isnan(prepared.lon) | prepared.bad
        for name in PLACE_FLAGS & prepared.flags.keys():
            doubtful = doubtful | prepared.flags[name]
        columns["lon"] = pa.array(prepared.lon, mask=doubtful)
        columns["lat"] = pa.array(prepared.lat, mask=doubtful)
        columns["flags"] = flags_text(prepared.flags, count)
        return pa.table(columns).filter(pa.array(~prepared.bad))

    def apply(self, source: Source) -> None:
        """From the staging table into interactions."""
        context, given = self.context, self.context.given
        context.session.execute(text("ANALYZE import_stage"))
        context.progress("matching")
        context.run(SQL, "interaction_keys")
        self._turn_away(source)
        context.progress("writing interactions")
        expressions = {name: f"s.{name}" for name in (*_FIELDS, "kind", "occurred_at") if name in given}
        if "user" in given:
            expressions["user_id"] = "s.user_id"
        if given & {"lon", "lat", "geometry"}:
            expressions["location"] = "ST_SetSRID(ST_MakePoint(s.lon, s.lat), 4326)"
        context.run(
            SQL,
            "interaction_changed",
            {
                "current": ", ".join(f"c.{name}" for name in expressions),
                "wanted": ", ".join(expressions.values()),
            },
        )
        context.run(SQL, "interaction_keep")
        context.run(SQL, "interaction_delete")
        every = (*_FIELDS, "user_id", "location")
        context.run(SQL, "interaction_move", {name: expressions.get(name, f"old.{name}") for name in every})
        context.run(SQL, "interaction_sources")
        context.run(SQL, "interaction_move_sources")
        context.run(SQL, "interaction_rows")

    def _turn_away(self, source: Source) -> None:
        context = self.context
        label = context.recipe.columns.get("customer", "customer")
        reasons = {
            line: {label: context.not_known(said)} for line, said in context.run(SQL, "interaction_unknown").all()
        }
        if not context.actor.sees_all:
            sight: dict[str, Any] = {
                "owners": list(context.actor.owners),
                "territories": list(context.actor.territories),
            }
            own_label = context.recipe.columns.get("external_id", "external_id")
            for line, said, theirs in context.run(SQL, "interaction_foreign", **sight).all():
                if theirs:
                    reasons[line] = {label: context.not_known(said)}
                else:
                    reasons.setdefault(line, {own_label: "you cannot import an interaction of this id"})
        if reasons:
            context.turn_away(source, reasons)
            context.session.execute(
                text(
                    "DELETE FROM import_keys k WHERE NOT EXISTS (SELECT FROM import_stage s WHERE s.external_id "
                    "= k.external_id)"
                )
            )
