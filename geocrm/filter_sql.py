"""Filters as SQL: values bound, every one cast to the type of its column."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import TextClause, text

from geocrm.filter_tree import (
    FIELDS,
    NAMED_BY_KEY,
    Consent,
    Entered,
    Group,
    Leaf,
    Near,
    Node,
    Not,
    Within,
    conjuncts,
    holds_when_missing,
    json_kind,
    speaks_of_site,
)

Scope = Literal["customer", "site", "lookup"]
"""What the surrounding query ranges over. ``customer``: rows of customers as ``c``. ``site``: customers ``c`` joined
with sites ``s``. ``lookup``: rows of site_lookup as ``l``."""

Schema = Literal["visible", "public"]
"""Where facts are read: ``visible`` holds the views under row security, ``public`` the tables of the worker."""


@dataclass(frozen=True)
class Compiled:
    """A condition as SQL. ``template`` holds ``{0}``, ``{1}`` … for ``values``, whose types are ``types``."""

    template: str
    values: tuple[Any, ...]
    types: tuple[str, ...]

    def clause(self, prefix: str = "filter") -> TextClause:
        """The condition for SQLAlchemy, values bound as ``:filter_0`` … and cast."""
        casts = [f"CAST(:{prefix}_{i} AS {kind})" for i, kind in enumerate(self.types)]
        bound = text(self.template.format(*casts))
        return bound.bindparams(**{f"{prefix}_{i}": _plain(v) for i, v in enumerate(self.values)})

    def params(self, prefix: str = "filter") -> dict[str, Any]:
        """The values under the names that :meth:`named` uses."""
        return {f"{prefix}_{i}": _plain(v) for i, v in enumerate(self.values)}

    def named(self, prefix: str = "filter") -> str:
        """The condition as text with ``:filter_0`` …, to be put into a larger ``text()`` with :meth:`params`."""
        return self.template.format(*(f"CAST(:{prefix}_{i} AS {kind})" for i, kind in enumerate(self.types)))

    def packed(self, parameter: str) -> tuple[str, list[str]]:
        """The condition over one ``text[]`` parameter, for EXECUTE inside a SQL function: ``(sql, values as text)``."""
        casts = [f"CAST((CAST({parameter} AS text[]))[{i + 1}] AS {kind})" for i, kind in enumerate(self.types)]
        return self.template.format(*casts), [_literal(v) for v in self.values]


@dataclass
class Writer:
    """Writes one condition and collects its values."""

    snapped: bool
    schema: Schema
    values: list[Any] = field(default_factory=list)
    types: list[str] = field(default_factory=list)

    def bind(self, value: Any, sql_type: str) -> str:
        self.values.append(value)
        self.types.append(sql_type)
        return "{" + str(len(self.values) - 1) + "}"

    def condition(self, root: Node, scope: Scope) -> str:
        if scope == "site":
            return self.node(root, {"c": True, "s": True, "l": False})
        if scope == "lookup":
            inner = self.node(root, {"c": True, "s": True, "l": True})
            if not re.search(r"\b[cs]\.", inner):
                return inner
            source = "customers c"
            keys = "c.id = l.customer_id"
            if re.search(r"\bs\.", inner):
                source += f" JOIN {self.schema}.sites s ON s.customer_id = c.id"
                keys += " AND s.customer_id = l.customer_id AND s.id = l.site_id"
            return f"EXISTS (SELECT 1 FROM {source} WHERE {keys} AND {inner})"
        # What speaks of the customer alone stays outside; what speaks of a site must hold at one and the same site.
        own: list[Node] = []
        sited: list[Node] = []
        for part in conjuncts(root):
            (sited if speaks_of_site(part) else own).append(part)
        tables = {"c": True, "s": True, "l": False}
        terms = [self.node(part, tables) for part in own]
        if sited:
            for part in sited if not self.snapped else ():  # the territories of the exact points
                if isinstance(part, Leaf) and part.field == "territory" and part.op in ("=", "in"):
                    values = part.value if part.op == "in" else (part.value,)
                    terms.append(f"c.territory_ids && {self.bind(tuple(values), 'bigint[]')}")
            inner = " AND ".join(self.node(part, tables) for part in sited)
            if any(holds_when_missing(part) for part in sited):
                source = f"(SELECT 1) one LEFT JOIN {self.schema}.sites s ON s.customer_id = c.id"
            else:
                source = f"{self.schema}.sites s"
                inner = f"s.customer_id = c.id AND {inner}"
            terms.append(f"EXISTS (SELECT 1 FROM {source} WHERE {inner})")
        return "(" + " AND ".join(terms or ["true"]) + ")"

    def node(self, node: Node, tables: Mapping[str, bool]) -> str:
        match node:
            case Group(word, parts):
                joint = " AND " if word == "all" else " OR "
                return "(" + joint.join(self.node(p, tables) for p in parts) + ")" if parts else "true"
            case Not(part):
                return f"({self.node(part, tables)}) IS NOT TRUE"
            case Leaf():
                return self.leaf(node, tables)
            case Within(area_id):
                here = self.point(tables)
                return (
                    "EXISTS (SELECT 1 FROM layer_areas la JOIN layers y ON y.id = la.layer_id"
                    " AND y.current_version = la.layer_version"
                    " JOIN area_versions g ON g.area_id = la.area_id AND g.version = la.area_version"
                    f" WHERE la.area_id = {self.bind(area_id, 'bigint')}"
                    f" AND g.geometry && {here} AND ST_Intersects(g.geometry, {here}))"
                )
            case Near():
                return self.near(node, tables)
            case Consent(purpose, channel):
                customer = "l.customer_id" if tables["l"] else "c.id"
                by_channel = f" AND k.channel = {self.bind(channel, 'text')}" if channel is not None else ""
                return (
                    f"EXISTS (SELECT 1 FROM {self.schema}.consents k WHERE k.customer_id = {customer}"
                    f" AND k.purpose = {self.bind(purpose, 'text')}{by_channel} AND k.withdrawn_at IS NULL)"
                )
            case Entered(audience_id):
                customer = "l.customer_id" if tables["l"] else "c.id"
                return (
                    f"EXISTS (SELECT 1 FROM {self.schema}.audience_members m WHERE m.customer_id = {customer}"
                    f" AND m.audience_id = {self.bind(audience_id, 'bigint')} AND m.entered_at IS NOT NULL"
                    " AND (m.expires_at IS NULL OR m.expires_at > now()))"
                )
        raise AssertionError(node)

    def point(self, tables: Mapping[str, bool]) -> str:
        exact = "l.location" if tables["l"] else "(CASE s.placement WHEN 'placed' THEN s.location END)"
        return f"geocrm_snap({exact})" if self.snapped else exact

    def near(self, node: Near, tables: Mapping[str, bool]) -> str:
        here = self.point(tables)
        radius = self.bind(node.radius_m, "double precision")
        if node.point is not None:
            lon, lat = (self.bind(v, "double precision") for v in node.point)
            there = f"geography(ST_SetSRID(ST_MakePoint({lon}, {lat}), 4326))"
            return (
                f"({here} && ANY (geocrm_boxes({lon}, {lat}, {radius}))"
                f" AND ST_Distance(geography({here}), {there}) <= {radius})"
            )
        which = (
            f"p.kind = {self.bind(node.place_kind, 'text')}"
            if node.place_kind is not None
            else f"p.id = {self.bind(node.place_id, 'bigint')}"
        )
        return (
            f"EXISTS (SELECT 1 FROM unnest(geocrm_boxes(ST_X({here}), ST_Y({here}), {radius})) AS b(box)"
            f" JOIN places p ON p.location && b.box WHERE {which}"
            f" AND ST_Distance(geography(p.location), geography({here})) <= {radius})"
        )

    def leaf(self, leaf: Leaf, tables: Mapping[str, bool]) -> str:
        found = FIELDS.get(leaf.field) or NAMED_BY_KEY.get(leaf.field)
        if found is None:
            return self.attribute(leaf)
        customer = "l.customer_id" if tables["l"] else "c.id"
        if found.over:
            which = f" AND {found.only}" if found.only else ""
            if leaf.window_days is not None:
                which += (
                    f" AND f.occurred_at >= now() - make_interval(days => {self.bind(leaf.window_days, 'integer')})"
                )
            rows = f"{self.schema}.{found.over} f WHERE f.customer_id = {customer}{which}"
            column = f"(SELECT {found.columns['customer']} FROM {rows})"
        elif self.snapped and leaf.field == "territory" and (tables["l"] or self.schema == "public"):
            # that of the snapped point, as `visible.sites` has it
            row = "l.customer_id, l.site_id" if tables["l"] else "s.customer_id, s.id"
            exact = "l.location" if tables["l"] else "(CASE s.placement WHEN 'placed' THEN s.location END)"
            column = f"geocrm_snapped_territory({row}, {exact})"
        elif tables["l"] and "lookup" in found.columns and not (self.snapped and leaf.field == "segment"):
            column = found.columns["lookup"]
        else:
            column = found.columns.get("site") or found.columns["customer"]
        if leaf.field in NAMED_BY_KEY:
            key, _, score = str(leaf.key).partition(".")
            column = column.replace("{published}", self.bind(key, "text"))
            if score:
                column = column.replace("{score}", self.bind(score, "text"))
        column = column.replace("{customer_id}", customer).replace("{schema}", self.schema)
        return self.compare(column, leaf.op, leaf.value, found.sql_type)

    def attribute(self, leaf: Leaf) -> str:
        key = self.bind(leaf.key, "text")
        if leaf.op == "exists":
            there = f"coalesce(jsonb_typeof(c.attributes -> {key}), 'null') <> 'null'"
            return there if leaf.value else f"NOT {there}"
        sample = leaf.value[0] if isinstance(leaf.value, tuple) else leaf.value
        kind = json_kind(sample)
        if leaf.op == "contains":
            value = self.bind(leaf.value, "text")
            return (
                f"(CASE jsonb_typeof(c.attributes -> {key})"
                f" WHEN 'string' THEN strpos(lower(c.attributes ->> {key}), lower({value})) > 0"
                f" WHEN 'array' THEN (c.attributes -> {key}) @> to_jsonb({value}) END)"
            )
        if kind == "number":
            number = f"CAST(c.attributes ->> {key} AS numeric)"
            column = f"(CASE jsonb_typeof(c.attributes -> {key}) WHEN 'number' THEN {number} END)"
            return self.compare(column, leaf.op, leaf.value, "numeric")
        word = "string" if kind == "text" else "boolean"
        column = f"(CASE jsonb_typeof(c.attributes -> {key}) WHEN '{word}' THEN c.attributes ->> {key} END)"
        as_text = _as_text(leaf.value)
        return self.compare(column, leaf.op, as_text, "text")

    def compare(self, column: str, op: str, value: Any, sql_type: str) -> str:
        if op == "exists":
            return f"{column} IS NOT NULL" if value else f"{column} IS NULL"
        if op == "=":
            return f"{column} = {self.bind(value, sql_type)}"
        if op == "!=":
            return f"{column} IS DISTINCT FROM {self.bind(value, sql_type)}"
        if op in ("in", "not_in"):
            inside = f"{column} = ANY ({self.bind(tuple(value), sql_type + '[]')})"
            return inside if op == "in" else f"({inside}) IS NOT TRUE"
        if op == "between":
            return f"{column} BETWEEN {self.bind(value[0], sql_type)} AND {self.bind(value[1], sql_type)}"
        if op == "contains":
            pattern = "%" + re.sub(r"([\\%_])", r"\\\1", value) + "%"
            return f"{column} ILIKE {self.bind(pattern, 'text')}"
        return f"{column} {op} {self.bind(value, sql_type)}"


def _as_text(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_as_text(v) for v in value)
    return ("true" if value else "false") if isinstance(value, bool) else value


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _literal(value: Any) -> str:
    """A value as PostgreSQL reads it from text; tuples become array literals."""
    if isinstance(value, tuple):
        return "{" + ",".join('"' + _literal(v).replace("\\", "\\\\").replace('"', '\\"') + '"' for v in value) + "}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return repr(value) if isinstance(value, float) else str(value)
