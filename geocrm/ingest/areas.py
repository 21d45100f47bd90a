"""Areas: rows go into a draft of their layer, which a person then previews and publishes."""

from __future__ import annotations

import contextlib
import json
from typing import Any, Literal

import pyarrow as pa
from sqlalchemy import text

from geocrm import ids
from geocrm.db.models import Layer
from geocrm.errors import Invalid, NotFound
from geocrm.ingest.columns import Prepared
from geocrm.ingest.customers import attributes_json, user_ids
from geocrm.ingest.formats import Source
from geocrm.ingest.staging import Context
from geocrm.spatial import areas, layers

DEFAULT_LAYER = "sales"


class Areas:
    """The loader of areas. All rows are held in memory until the end: areas are few."""

    stage_columns: tuple[tuple[str, str], ...] = (("line_no", "bigint"),)

    def __init__(self, context: Context) -> None:
        self.context = context
        self.rows: list[dict[str, Any]] = []
        self.teams: dict[str, int] = {}

    def stage(self, prepared: Prepared) -> pa.Table:
        """Keep the good rows of a chunk; nothing is staged in the database."""
        values = prepared.values
        said: dict[str, list[Any]] = {
            name: values[name].to_pylist() for name in ("external_id", "name", "priority", "rule") if name in values
        }
        if "owner" in values:
            owners, unknown = user_ids(values["owner"], self.context)
            prepared.reject(unknown, self._label("owner"), "there is no such user", values["owner"])
            said["owner_id"] = owners.to_pylist()
        if "team" in values:
            said["team_id"] = [None if name is None else self._team(name) for name in values["team"].to_pylist()]
        if (attributes := attributes_json(prepared, self.context)) is not None:
            said["attributes"] = [json.loads(value) for value in attributes.to_pylist()]
        for row, line in enumerate(prepared.chunk.lines.tolist()):
            if prepared.bad[row]:
                continue
            entry = {name: column[row] for name, column in said.items()} | {"row": line}
            if prepared.shape is not None:
                entry["geometry"] = prepared.shape[row]
            if entry.get("rule") is not None:
                with contextlib.suppress(ValueError):  # what is no JSON is refused where rules are read
                    entry["rule"] = json.loads(entry["rule"])
            self.rows.append(entry)
        return pa.table({"line_no": pa.array([], pa.int64())})

    def apply(self, source: Source) -> None:
        """Into a draft of the layer; a draft that would change nothing is put away again."""
        context = self.context
        session, actor, recipe = context.session, context.actor, context.recipe
        context.progress("writing areas")
        key = recipe.target_layer or DEFAULT_LAYER
        try:
            layer = layers.get_layer(session, key)
        except NotFound:
            has_primary = session.scalar(text("SELECT EXISTS (SELECT FROM layers WHERE is_primary)"))
            primary = recipe.layer_kind == "territories" and not has_primary
            layer = layers.create_layer(
                session,
                actor=actor,
                key=key,
                name=key.replace("-", " ").capitalize(),
                kind=recipe.layer_kind,
                is_primary=primary,
            )
        known = self._known(layer.id)
        version, before, done = self._into_open_draft(layer)
        if done is None:
            base: Literal["published", "empty"] = "published" if layer.current_version is not None else "empty"
            version = layers.create_draft(session, layer.id, actor=actor, source=base).version
            before = self._held(layer.id, version)
            done = self._import(layer, version)
            if before == self._held(layer.id, version):
                layers.discard_draft(session, layer.id, version, actor=actor)
            else:
                context.counts |= {"draft_version": version, "layer": ids.show("lay", layer.id), "layer_key": layer.key}
        rejected = {
            int(fault["row"]): {self._label(str(fault.get("pointer", "")).split("/")[1:2]): str(fault["detail"])}
            for fault in done.rejected
        }
        context.rejected.add_lines(source, rejected)
        after = self._held(layer.id, version)
        noted = {int(note["row"]) for note in done.notes}
        written = []
        for entry in self.rows:
            line, area_id = entry["row"], done.area_ids.get(str(entry["external_id"]))
            if line in rejected or area_id is None:
                continue
            outcome = (
                "new"
                if str(entry["external_id"]) not in known
                else "unchanged"
                if before.get(area_id) == after.get(area_id)
                else "changed"
            )
            written.append(
                {
                    "batch": context.batch_id,
                    "line": line,
                    "outcome": outcome,
                    "area": area_id,
                    "flags": ["repaired"] if line in noted else None,
                }
            )
        if written:
            session.execute(
                text(
                    "INSERT INTO import_rows (batch_id, line_no, outcome, object_id, flags) VALUES (CAST(:batch "
                    "AS bigint), "
                    "CAST(:line AS bigint), :outcome, CAST(:area AS bigint), CAST(:flags AS text[]))"
                ),
                written,
            )

    def _into_open_draft(self, layer: Layer) -> tuple[int, dict[int, int], areas.AreaImport | None]:
        """Whether a draft that an import of the same source left open says all of this already."""
        opened = self._open_draft(layer.id)
        if opened is None:
            return 0, {}, None
        before = self._held(layer.id, opened)
        trial = self.context.session.begin_nested()
        done = self._import(layer, opened)
        after = self._held(layer.id, opened)
        trial.rollback()
        self.context.session.expire_all()
        return opened, before, done if before == after else None

    def _import(self, layer: Layer, version: int) -> areas.AreaImport:
        context = self.context
        return areas.import_areas(
            context.session,
            layer.id,
            version,
            self.rows,
            actor=context.actor,
            source=context.source,
            repair=context.recipe.repair,
            replace=context.recipe.replace,
            batch_id=context.batch_id,
        )

    def _open_draft(self, layer_id: int) -> int | None:
        """The newest draft of the layer, if it came from an import of the same source and is based on what is in
        force.
        """
        version: int | None = self.context.session.scalar(
            text(
                "SELECT v.version FROM layer_versions v JOIN layers y ON y.id = v.layer_id JOIN import_batches b "
                "ON b.id = v.batch_id "
                "WHERE v.layer_id = CAST(:layer AS bigint) AND v.status = 'draft' AND b.source = :source "
                "AND v.based_on IS NOT DISTINCT FROM y.current_version ORDER BY v.version DESC LIMIT 1"
            ),
            {"layer": layer_id, "source": self.context.source},
        )
        return version

    def _label(self, field: Any) -> str:
        name = field if isinstance(field, str) else (field[0] if field else "")
        return self.context.recipe.columns.get(name, name)

    def _team(self, name: str) -> int:
        if not self.teams:
            self.teams = {
                row.name.lower(): row.id for row in self.context.session.execute(text("SELECT id, name FROM teams"))
            }
        found = self.teams.get(name.lower())
        if found is None:
            raise Invalid(f"There is no team {name!r}; teams are {', '.join(sorted(self.teams)) or 'none'}.")
        return found

    def _known(self, layer_id: int) -> set[str]:
        rows = self.context.session.execute(
            text(
                "SELECT s.external_id FROM area_sources s JOIN areas a ON a.id = s.area_id "
                "WHERE s.source = :source AND a.layer_id = CAST(:layer AS bigint)"
            ),
            {"source": self.context.source, "layer": layer_id},
        )
        return set(rows.scalars())

    def _held(self, layer_id: int, version: int) -> dict[int, int]:
        rows = self.context.session.execute(
            text(
                "SELECT area_id, area_version FROM layer_areas "
                "WHERE layer_id = CAST(:layer AS bigint) AND layer_version = CAST(:version AS integer)"
            ),
            {"layer": layer_id, "version": version},
        )
        return {row.area_id: row.area_version for row in rows}
