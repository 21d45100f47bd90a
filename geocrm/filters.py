"""The one filter language: JSON to SQL with bound, cast parameters, and JSON to a plain sentence.

The same filter serves lists, lookups, tiles, territory rules, segments, audiences and exports. A filter is a statement about
a customer *at one of its sites*: a lookup or a tile asks it of every site, a list shows a customer when it holds for at least
one of its sites (a customer without any site is asked with all site fields missing).

Logic is two-valued. A comparison with a missing value is false; ``!=``, ``not_in`` and ``not`` are the exact complement of
``=``, ``in`` and the condition inside, so they hold where the value is missing.

Nothing a user wrote ever becomes SQL text. Values are bound and every one is cast to the type of its column, because a
parameter of another integer type silently turns an index condition into a filter.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final, Literal

from sqlalchemy import TextClause, text

from geocrm import errors, ids

MAX_DEPTH: Final = 8
MAX_LEAVES: Final = 200
MAX_VALUES: Final = 1000
MAX_TEXT: Final = 1000
MAX_RADIUS_M: Final = 500_000
MAX_WINDOW_DAYS: Final = 36_525

Scope = Literal["customer", "site", "lookup"]
"""What the surrounding query ranges over. ``customer``: rows of customers as ``c``. ``site``: customers ``c`` joined with
sites ``s``. ``lookup``: rows of site_lookup as ``l``."""

Use = Literal["rows", "rule"]
"""``rows``: every field. ``rule``: a territory rule, the fields of the customer and its address that a rule may name."""

Names = Callable[[str], str]
"""Gives the words for a prefixed id, as in ``{"ter_12": "Northwest"}.get``."""

OPS: Final = ("=", "!=", "in", "not_in", "<", "<=", ">", ">=", "between", "contains", "exists")
_ORDER_OPS: Final = ("<", "<=", ">", ">=", "between")
_EQUAL_OPS: Final = ("=", "!=", "in", "not_in", "exists")
_OPS_OF: Final[dict[str, tuple[str, ...]]] = {
    "choice": _EQUAL_OPS,
    "id": _EQUAL_OPS,
    "boolean": ("=", "!=", "exists"),
    "text": (*_EQUAL_OPS, "contains"),
    "number": (*_EQUAL_OPS, *_ORDER_OPS),
    "time": ("=", "!=", *_ORDER_OPS, "exists"),
    "json": OPS,
}


@dataclass(frozen=True)
class Field:
    """One name that filters may use.

    ``type`` is choice, id, boolean, text, number, time or json (the type of the value decides). ``columns`` maps scopes to
    SQL expressions; a scope that is missing borrows from the joined tables. ``sql_type`` is what values are cast to.
    ``words`` is the noun used in sentences, None where the value speaks for itself. ``needs`` names what the reader must be
    entitled to: "contacts" (unmasked contact details) or "exact" (exact places, so the address below the town)."""

    name: str
    type: str
    sql_type: str
    columns: Mapping[str, str]
    words: str | None
    help: str
    level: Literal["customer", "site"] = "customer"
    choices: tuple[str, ...] = ()
    prefix: tuple[str, ...] = ()
    indexed: bool = False
    rule: bool = False
    needs: Literal["", "contacts", "exact"] = ""
    aggregate: bool = False


def _customer(name: str, column: str, kind: str, sql_type: str, words: str | None, help: str, **more: Any) -> Field:
    return Field(name, kind, sql_type, {"customer": f"c.{column}"}, words, help, **more)


def _site(name: str, column: str, kind: str, sql_type: str, words: str | None, help: str, **more: Any) -> Field:
    return Field(name, kind, sql_type, {"site": f"s.{column}"}, words, help, level="site", **more)


STAGES: Final = ("prospect", "lead", "active", "lapsed")
KINDS: Final = ("person", "organisation")
PRECISIONS: Final = ("given", "rooftop", "street", "postcode", "locality", "region")
PLACEMENTS: Final = ("placed", "pending", "flagged", "failed")

_EVERY_CONTACT: Final = (
    "(SELECT string_agg(k.{column}, ' ') FROM contacts k WHERE k.customer_id = {{customer_id}} AND k.{column} IS NOT NULL)"
)

FIELDS: Final[dict[str, Field]] = {
    f.name: f
    for f in (
        Field("stage", "choice", "text", {"customer": "c.stage", "lookup": "l.stage"}, None,
              "prospect, lead, active or lapsed", choices=STAGES, indexed=True),
        Field("kind", "choice", "text", {"customer": "c.kind", "lookup": "l.kind"}, None,
              "person or organisation", choices=KINDS, indexed=True, rule=True),
        Field("owner", "id", "bigint", {"customer": "c.owner_id", "lookup": "l.owner_id"}, "owned by",
              "the rep responsible, usr_…", prefix=("usr",), indexed=True),
        Field("territory", "id", "bigint", {"site": "s.territory_id", "lookup": "l.territory_id"}, "in territory",
              "the territory of the site in the primary sales layer, ter_…", level="site", prefix=("ter", "are"),
              indexed=True),
        Field("segment", "id", "bigint",
              {"customer": "(SELECT max(m.segment_id) FROM site_lookup m WHERE m.customer_id = c.id)",
               "lookup": "l.segment_id"}, "in segment",
              "the group in the active segmentation, seg_…", prefix=("seg",), indexed=True),
        Field("is_primary", "boolean", "boolean", {"site": "s.is_primary", "lookup": "l.is_primary"},
              "the customer's primary site", "whether the site is the customer's primary one", level="site"),
        _customer("name", "name", "text", "text", "name", "the customer's name", rule=True),
        _customer("industry", "industry", "text", "text", "industry", "the customer's industry", rule=True),
        _customer("size_class", "size_class", "text", "text", "size", "the customer's size class", rule=True),
        _customer("preferred_channel", "preferred_channel", "text", "text", "preferred channel",
                  "how the customer likes to be reached"),
        _customer("created_at", "created_at", "time", "timestamptz", "known since", "when the customer was first stored"),
        _site("country", "country", "text", "text", "country", "ISO 3166 code of the site's country", rule=True),
        _site("region", "region", "text", "text", "region", "state, province or canton of the site", rule=True),
        _site("locality", "locality", "text", "text", "town", "town of the site", rule=True),
        _site("postal_code", "postal_code", "text", "text", "postal code", "postal code of the site",
              rule=True, needs="exact"),
        _site("location_precision", "location_precision", "choice", "text", "precision",
              "how the site's point was found", choices=PRECISIONS),
        _site("precision_m", "precision_m", "number", "double precision", "precision in metres",
              "radius that holds the true point in 95 % of cases"),
        _site("placement", "placement", "choice", "text", "placement",
              "placed, pending, flagged or failed", choices=PLACEMENTS),
        Field("contact.email", "text", "text", {"customer": _EVERY_CONTACT.format(column="email")}, "e-mail",
              "e-mail addresses of the customer's contacts", needs="contacts"),
        Field("contact.phone", "text", "text", {"customer": _EVERY_CONTACT.format(column="phone")}, "phone",
              "phone numbers of the customer's contacts", needs="contacts"),
        Field("sales.amount", "number", "numeric", {"customer": "coalesce(sum({sales}.amount), 0)"}, "sales",
              "sum of sales, in the currency they are stored in", aggregate=True),
        Field("sales.count", "number", "bigint", {"customer": "count(*)"}, "number of sales", "how many sales",
              aggregate=True),
        Field("sales.average", "number", "numeric", {"customer": "avg({sales}.amount)"}, "average sale",
              "mean amount of a sale; missing without sales", aggregate=True),
        Field("sales.last_at", "time", "timestamptz", {"customer": "max({sales}.occurred_at)"}, "last sale",
              "time of the last sale; missing without sales", aggregate=True),
        Field("sales.first_at", "time", "timestamptz", {"customer": "min({sales}.occurred_at)"}, "first sale",
              "time of the first sale; missing without sales", aggregate=True),
    )
}  # fmt: skip

SHORT_FORMS: Final = (
    "stage", "kind", "owner", "territory", "segment", "country", "region", "locality", "postal_code", "industry",
    "size_class", "location_precision",
)  # fmt: skip
"""Fields that may be written as a query parameter: ``stage=active&owner=usr_7``; several values with commas or repeated."""

_ATTRIBUTE: Final = re.compile(r"^attributes\.(.{1,100})$", re.DOTALL)


@dataclass(frozen=True)
class Reader:
    """What the reader may filter by: ``contacts``, unmasked contact details; ``exact``, exact places."""

    contacts: bool = False
    exact: bool = True


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


@dataclass(frozen=True)
class Indexed:
    """Conditions on the dimensions that indexes and the tile pyramid carry; None where unrestricted."""

    stages: tuple[str, ...] | None = None
    kinds: tuple[str, ...] | None = None
    owners: tuple[int, ...] | None = None
    territories: tuple[int, ...] | None = None
    segments: tuple[int, ...] | None = None


# The tree. Nodes are plain data, so that a filter can be compared, stored and hashed.


@dataclass(frozen=True)
class Group:
    """``all`` or ``any`` of the parts."""

    word: Literal["all", "any"]
    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Not:
    """The complement of ``part``."""

    part: Node


@dataclass(frozen=True)
class Leaf:
    """A field compared with a value; ``key`` is the attribute's name for ``attributes.*``."""

    field: str
    op: str
    value: Any
    window_days: int | None = None
    key: str | None = None


@dataclass(frozen=True)
class Within:
    """Inside an area, by its geometry now in force."""

    area_id: int
    shown: str


@dataclass(frozen=True)
class Near:
    """Within ``radius_m`` metres of a place of a kind, of one place, or of a point."""

    radius_m: float
    place_kind: str | None = None
    place_id: int | None = None
    point: tuple[float, float] | None = None


@dataclass(frozen=True)
class Consent:
    """Consent in force for a purpose, and a channel where one is named."""

    purpose: str
    channel: str | None


Node = Group | Not | Leaf | Within | Near | Consent
EVERYTHING: Final = Group("all", ())


def invalid(pointer: str, detail: str) -> errors.InvalidFilter:
    """The error for one place in a filter."""
    return errors.InvalidFilter(f"Filter: {detail}", errors=[{"pointer": pointer, "detail": detail}])


@dataclass
class _Parser:
    use: Use
    reader: Reader
    leaves: int = 0

    def node(self, value: Any, pointer: str, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise invalid(pointer, f"nested deeper than {MAX_DEPTH} levels; write it flatter")
        if not isinstance(value, Mapping):
            raise invalid(pointer, 'expected an object such as {"field": "stage", "op": "=", "value": "active"}')
        words = [w for w in ("all", "any", "not", "within", "near", "consent", "field") if w in value]
        if len(words) != 1:
            raise invalid(pointer, "expected exactly one of all, any, not, within, near, consent, field")
        word = words[0]
        allowed = {"field", "op", "value", "window_days"} if word == "field" else {word}
        for key in value:
            if key not in allowed:
                raise invalid(_at(pointer, str(key)), f"unknown key; {word} takes {', '.join(sorted(allowed))}")
        here = _at(pointer, word)
        if word in ("all", "any"):
            parts = value[word]
            if not _is_list(parts):
                raise invalid(here, "expected a list of conditions")
            if word == "any" and not parts:
                raise invalid(here, "any needs at least one condition")
            if len(parts) > MAX_LEAVES:
                raise invalid(here, f"more than {MAX_LEAVES} conditions")
            return Group(word, tuple(self.node(p, _at(here, i), depth + 1) for i, p in enumerate(parts)))  # type: ignore[arg-type]
        if word == "not":
            return Not(self.node(value[word], here, depth + 1))
        self.leaves += 1
        if self.leaves > MAX_LEAVES:
            raise invalid(pointer, f"more than {MAX_LEAVES} conditions")
        if word == "field":
            return self.leaf(value, pointer)
        if self.use == "rule":
            raise invalid(here, f"a territory rule cannot use {word}; it names attributes of the customer and its address")
        if not isinstance(value[word], Mapping):
            raise invalid(here, "expected an object")
        made: Node = {"within": self.within, "near": self.near, "consent": self.consent}[word](value[word], here)
        return made

    def leaf(self, value: Mapping[str, Any], pointer: str) -> Leaf:
        name, here = value["field"], _at(pointer, "field")
        if not isinstance(name, str):
            raise invalid(here, "expected the name of a field")
        found, key = find_field(name)
        if found is None:
            raise invalid(here, f"unknown field {_short(name)}; known are {', '.join(FIELDS)} and attributes.*")
        if key is not None and "\x00" in key:
            raise invalid(here, "the name of an attribute cannot hold a NUL character")
        if self.use == "rule" and not found.rule:
            rules = ", ".join(f.name for f in FIELDS.values() if f.rule)
            raise invalid(here, f"a territory rule cannot use {name}; it may use {rules} and attributes.*")
        if found.needs == "contacts" and not self.reader.contacts:
            raise invalid(here, f"{name} is hidden from you and cannot be filtered by")
        if found.needs == "exact" and not self.reader.exact:
            raise invalid(here, f"{name} needs access to exact places")
        op = value.get("op", "=")
        here = _at(pointer, "op")
        if not isinstance(op, str) or op not in OPS:
            raise invalid(here, f"unknown op {_short(op)}; known are {' '.join(OPS)}")
        if op not in _OPS_OF[found.type]:
            raise invalid(here, f"{name} does not take {op}; it takes {' '.join(_OPS_OF[found.type])}")
        window = value.get("window_days")
        if window is not None:
            here = _at(pointer, "window_days")
            if not found.aggregate:
                raise invalid(here, f"{name} has no window; window_days goes with sales.*")
            if isinstance(window, bool) or not isinstance(window, int) or not 1 <= window <= MAX_WINDOW_DAYS:
                raise invalid(here, f"expected a whole number of days from 1 to {MAX_WINDOW_DAYS}")
        if "value" not in value:
            raise invalid(pointer, "value is missing")
        return Leaf(found.name, op, self.value(found, op, value["value"], _at(pointer, "value")), window, key)

    def value(self, found: Field, op: str, value: Any, pointer: str) -> Any:
        if op == "exists":
            if not isinstance(value, bool):
                raise invalid(pointer, "exists takes true or false")
            return value
        if op in ("in", "not_in"):
            if not _is_list(value) or not value:
                raise invalid(pointer, f"{op} takes a list with at least one value")
            if len(value) > MAX_VALUES:
                raise invalid(pointer, f"more than {MAX_VALUES} values")
            made = tuple(self.one(found, v, _at(pointer, i)) for i, v in enumerate(value))
            if found.type == "json" and len({_json_kind(v) for v in made}) > 1:
                raise invalid(pointer, "the values are of different types")
            return made
        if op == "between":
            if not _is_list(value) or len(value) != 2:
                raise invalid(pointer, "between takes a list of two values, both included")
            low, high = (self.one(found, v, _at(pointer, i)) for i, v in enumerate(value))
            if found.type == "json" and not (_json_kind(low) == _json_kind(high) == "number"):
                raise invalid(pointer, "between takes two numbers")
            if low > high:
                raise invalid(pointer, "the first value is greater than the second")
            return low, high
        made_one = self.one(found, value, pointer)
        if found.type == "json" and op in _ORDER_OPS and _json_kind(made_one) != "number":
            raise invalid(pointer, f"{op} takes a number")
        if op == "contains" and (not isinstance(made_one, str) or not made_one):
            raise invalid(pointer, "contains takes a text of at least one character")
        return made_one

    def one(self, found: Field, value: Any, pointer: str) -> Any:
        kind = found.type
        if kind == "json":
            if isinstance(value, str):
                kind = "text"
            elif isinstance(value, bool):
                return value
            elif isinstance(value, (int, float, Decimal)):
                kind = "number"
            else:
                raise invalid(pointer, "expected a text, a number, true or false")
        if kind == "boolean":
            if not isinstance(value, bool):
                raise invalid(pointer, "expected true or false")
            return value
        if kind == "number":
            return _number(value, pointer)
        if not isinstance(value, str):
            raise invalid(pointer, "expected a text")
        if "\x00" in value:
            raise invalid(pointer, "a text cannot hold a NUL character")
        if len(value) > MAX_TEXT:
            raise invalid(pointer, f"longer than {MAX_TEXT} characters")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise invalid(pointer, "not valid Unicode") from None
        if kind == "choice" and value not in found.choices:
            raise invalid(pointer, f"expected one of {', '.join(found.choices)}")
        if kind == "id":
            return _id(found.prefix, value, pointer)
        if kind == "time":
            return _time(value, pointer)
        return value

    def within(self, value: Mapping[str, Any], pointer: str) -> Within:
        _only(value, {"area"}, pointer)
        shown = value.get("area")
        if not isinstance(shown, str):
            raise invalid(_at(pointer, "area"), "expected the id of an area, ter_… or are_…")
        return Within(_id(("ter", "are"), shown, _at(pointer, "area")), shown)

    def near(self, value: Mapping[str, Any], pointer: str) -> Near:
        _only(value, {"place_kind", "place", "lon", "lat", "radius_m"}, pointer)
        if "radius_m" not in value:
            raise invalid(pointer, "radius_m is missing")
        radius = float(_number(value["radius_m"], _at(pointer, "radius_m")))
        if not 0 < radius <= MAX_RADIUS_M:
            raise invalid(_at(pointer, "radius_m"), f"expected more than 0 and at most {MAX_RADIUS_M} metres")
        given = [k for k in ("place_kind", "place", "lon") if k in value]
        if len(given) != 1 or ("lat" in value) != ("lon" in value):
            raise invalid(pointer, "expected one of place_kind, place, or lon with lat")
        if "place_kind" in value:
            kind = value["place_kind"]
            if kind not in ("own", "competitor"):
                raise invalid(_at(pointer, "place_kind"), "expected own or competitor")
            return Near(radius, place_kind=kind)
        if "place" in value:
            shown = value["place"]
            if not isinstance(shown, str):
                raise invalid(_at(pointer, "place"), "expected the id of a place, pla_…")
            return Near(radius, place_id=_id(("pla",), shown, _at(pointer, "place")))
        lon, lat = (float(_number(value[k], _at(pointer, k))) for k in ("lon", "lat"))
        if not -180 <= lon <= 180:
            raise invalid(_at(pointer, "lon"), "expected degrees from -180 to 180")
        if not -90 <= lat <= 90:
            raise invalid(_at(pointer, "lat"), "expected degrees from -90 to 90")
        return Near(radius, point=(lon, lat))

    def consent(self, value: Mapping[str, Any], pointer: str) -> Consent:
        _only(value, {"purpose", "channel"}, pointer)
        for key in ("purpose", "channel"):
            if key in value and (not isinstance(value[key], str) or not 0 < len(value[key]) <= 60 or "\x00" in value[key]):
                raise invalid(_at(pointer, key), "expected a text of 1 to 60 characters")
        if "purpose" not in value:
            raise invalid(pointer, "purpose is missing")
        return Consent(value["purpose"], value.get("channel"))


def find_field(name: str) -> tuple[Field | None, str | None]:
    """The field of that name and, for ``attributes.plan``, the attribute's name."""
    if name in FIELDS:
        return FIELDS[name], None
    if match := _ATTRIBUTE.match(name):
        return Field("attributes.*", "json", "jsonb", {"customer": "c.attributes"}, None, "an own attribute", rule=True), match[1]
    return None, None


@dataclass(frozen=True)
class Filter:
    """A parsed, valid filter. Make one with :func:`parse` or :func:`from_query`."""

    root: Node = field(default=EVERYTHING)

    def __bool__(self) -> bool:
        return self.root != EVERYTHING

    def __and__(self, other: Filter) -> Filter:
        return Filter(Group("all", (*_conjuncts(self.root), *_conjuncts(other.root))))

    def compile(self, scope: Scope, *, snapped: bool = False) -> Compiled:
        """SQL that is true where the filter holds.

        ``scope`` says which tables the surrounding query has, see :data:`Scope`. With ``snapped`` every spatial condition
        sees the point snapped to the 500 m grid, for readers without exact places."""
        writer = _Writer(snapped)
        return Compiled(writer.condition(self.root, scope), tuple(writer.values), tuple(writer.types))

    def split(self) -> tuple[Indexed, Filter]:
        """What indexes can serve, and the rest as an ad-hoc filter; together they are the filter."""
        dims: dict[str, tuple[Any, ...]] = {}
        rest: list[Node] = []
        for part in _conjuncts(self.root):
            if isinstance(part, Leaf) and part.op in ("=", "in") and part.field in _DIMENSIONS:
                values = part.value if part.op == "in" else (part.value,)
                name = _DIMENSIONS[part.field]
                dims[name] = tuple(v for v in dict.fromkeys(values) if name not in dims or v in dims[name])
            else:
                rest.append(part)
        return Indexed(**dims), Filter(Group("all", tuple(rest)))

    def fields(self) -> set[str]:
        """Names of all fields used, with within, near and consent under those words."""
        return set(_fields(self.root))

    def sentence(self, names: Names | None = None) -> str:
        """The filter in plain words; ``names`` gives names for ids such as ter_12."""
        return _sentence(self.root, names or (lambda shown: shown)) or "everything"

    def to_json(self) -> dict[str, Any]:
        """The filter as it was written, in its canonical form: parse(to_json()) is the same filter."""
        return _to_json(self.root)


def parse(value: Any, *, use: Use = "rows", reader: Reader | None = None, pointer: str = "/filter") -> Filter:
    """Reads a filter from JSON values (or from a JSON text); None is the filter that everything passes.

    Raises errors.Invalid with a pointer to the place of the fault."""
    if value is None:
        return Filter()
    if isinstance(value, str):
        try:
            value = json.loads(value, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as fault:
            raise invalid(pointer, f"not valid JSON: {fault}") from None
    root = _Parser(use, reader or Reader()).node(value, pointer, 1)
    return Filter(root if isinstance(root, Group) and root.word == "all" else Group("all", (root,)))


def from_query(items: Iterable[tuple[str, str]], *, reader: Reader | None = None) -> Filter:
    """Reads the short forms (``stage=active,lapsed&owner=usr_7``) and a JSON ``filter`` from query parameters.

    Other parameters are left to the caller. Raises errors.Invalid with the parameter's name as pointer."""
    found: dict[str, list[str]] = {}
    made = Filter()
    for name, value in items:
        if name == "filter":
            made = made & parse(value, reader=reader)
        elif name in SHORT_FORMS:
            found.setdefault(name, []).extend(part.strip() for part in value.split(","))
    parser = _Parser("rows", reader or Reader())
    for name, values in found.items():
        leaf = {"field": name, "op": "in", "value": values} if len(values) > 1 else {"field": name, "op": "=", "value": values[0]}
        try:
            made = made & Filter(parser.leaf(leaf, ""))
        except errors.Invalid as fault:
            detail = fault.errors[0]["detail"] if fault.errors else str(fault)
            raise invalid(f"/{name}", detail) from None
    return made


_DIMENSIONS: Final = {"stage": "stages", "kind": "kinds", "owner": "owners", "territory": "territories", "segment": "segments"}


# SQL


@dataclass
class _Writer:
    snapped: bool
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
            return (
                "EXISTS (SELECT 1 FROM customers c JOIN sites s ON s.customer_id = c.id"
                f" WHERE c.id = l.customer_id AND s.customer_id = l.customer_id AND s.id = l.site_id AND {inner})"
            )
        # Customers: what speaks of the customer alone stays outside, what speaks of a site must hold at one and the same site.
        own, sited = [], []
        for part in _conjuncts(root):
            (sited if _speaks_of_site(part) else own).append(part)
        tables = {"c": True, "s": True, "l": False}
        terms = [self.node(part, tables) for part in own]
        if sited:
            for part in sited:
                if isinstance(part, Leaf) and part.field == "territory" and part.op in ("=", "in"):
                    values = part.value if part.op == "in" else (part.value,)
                    terms.append(f"c.territory_ids && {self.bind(tuple(values), 'bigint[]')}")
            inner = " AND ".join(self.node(part, tables) for part in sited)
            if any(_holds_when_missing(part) for part in sited):
                source = "(SELECT 1) one LEFT JOIN sites s ON s.customer_id = c.id"
            else:
                source = "sites s"
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
                    "EXISTS (SELECT 1 FROM area_shapes g WHERE g.area_id = "
                    f"{self.bind(area_id, 'bigint')} AND g.geometry && {here} AND ST_Intersects(g.geometry, {here}))"
                )
            case Near():
                return self.near(node, tables)
            case Consent(purpose, channel):
                customer = "l.customer_id" if tables["l"] else "c.id"
                by_channel = f" AND k.channel = {self.bind(channel, 'text')}" if channel is not None else ""
                return (
                    f"EXISTS (SELECT 1 FROM consents k WHERE k.customer_id = {customer}"
                    f" AND k.purpose = {self.bind(purpose, 'text')}{by_channel} AND k.withdrawn_at IS NULL)"
                )
        raise AssertionError(node)

    def point(self, tables: Mapping[str, bool]) -> str:
        exact = "l.location" if tables["l"] else "s.location"
        return f"geocrm_snap({exact})" if self.snapped else exact

    def near(self, node: Near, tables: Mapping[str, bool]) -> str:
        here = self.point(tables)
        radius = self.bind(node.radius_m, "double precision")
        if node.point is not None:
            lon, lat = (self.bind(v, "double precision") for v in node.point)
            return (
                f"({here} && ANY (geocrm_boxes({lon}, {lat}, {radius}))"
                f" AND ST_Distance(geography({here}), geography(ST_SetSRID(ST_MakePoint({lon}, {lat}), 4326))) <= {radius})"
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
        found = FIELDS.get(leaf.field)
        if found is None:
            return self.attribute(leaf)
        customer = "l.customer_id" if tables["l"] else "c.id"
        if found.aggregate:
            window = ""
            if leaf.window_days is not None:
                window = f" AND f.occurred_at >= now() - make_interval(days => {self.bind(leaf.window_days, 'integer')})"
            inner = found.columns["customer"].replace("{sales}", "f")
            column = f"(SELECT {inner} FROM visible_sales f WHERE f.customer_id = {customer}{window})"
        elif tables["l"] and "lookup" in found.columns:
            column = found.columns["lookup"]
        else:
            column = found.columns.get("site") or found.columns["customer"]
        column = column.replace("{customer_id}", customer)
        return self.compare(column, leaf.op, leaf.value, found.sql_type)

    def attribute(self, leaf: Leaf) -> str:
        key = self.bind(leaf.key, "text")
        if leaf.op == "exists":
            there = f"coalesce(jsonb_typeof(c.attributes -> {key}), 'null') <> 'null'"
            return there if leaf.value else f"NOT {there}"
        sample = leaf.value[0] if isinstance(leaf.value, tuple) else leaf.value
        kind = _json_kind(sample)
        if leaf.op == "contains":
            value = self.bind(leaf.value, "text")
            return (
                f"(CASE jsonb_typeof(c.attributes -> {key})"
                f" WHEN 'string' THEN strpos(lower(c.attributes ->> {key}), lower({value})) > 0"
                f" WHEN 'array' THEN (c.attributes -> {key}) @> to_jsonb({value}) END)"
            )
        if kind == "number":
            column = f"(CASE jsonb_typeof(c.attributes -> {key}) WHEN 'number' THEN CAST(c.attributes ->> {key} AS numeric) END)"
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


def _conjuncts(node: Node) -> tuple[Node, ...]:
    if isinstance(node, Group) and node.word == "all":
        return tuple(inner for part in node.parts for inner in _conjuncts(part))
    return (node,)


def _leaves(node: Node) -> Iterable[Node]:
    if isinstance(node, Group):
        for part in node.parts:
            yield from _leaves(part)
    elif isinstance(node, Not):
        yield from _leaves(node.part)
    else:
        yield node


def _fields(node: Node) -> Iterable[str]:
    for leaf in _leaves(node):
        if isinstance(leaf, Leaf):
            yield leaf.field if leaf.key is None else f"attributes.{leaf.key}"
        else:
            yield type(leaf).__name__.lower()


def _speaks_of_site(node: Node) -> bool:
    return any(
        isinstance(leaf, Within | Near) or (isinstance(leaf, Leaf) and leaf.key is None and FIELDS[leaf.field].level == "site")
        for leaf in _leaves(node)
    )


def _holds_when_missing(node: Node) -> bool:
    """Whether the condition can hold where every site field is missing; errs on the side of yes."""
    if isinstance(node, Leaf):
        if node.key is not None or FIELDS[node.field].level != "site":
            return True
        return node.op in ("!=", "not_in") or (node.op == "exists" and not node.value)
    if isinstance(node, Within | Near):
        return False
    if isinstance(node, Group):
        return (all if node.word == "all" else any)(_holds_when_missing(p) for p in node.parts)
    return True


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


# Words

_OP_WORDS: Final = {"<": "below", "<=": "at most", ">": "above", ">=": "at least"}
_WINDOWS: Final = {1: "in the last day", 7: "in the last week", 30: "in the last 30 days", 365: "in the last year"}


def _sentence(node: Node, names: Names, inside: str = "") -> str:
    match node:
        case Group(word, parts):
            joint = ", " if word == "all" else " or "
            said = joint.join(_sentence(p, names, word) for p in parts)
            nested = any(isinstance(p, Group) and len(p.parts) > 1 for p in parts)
            return f"({said})" if len(parts) > 1 and (inside == "any" and word == "all" or inside == "not" and nested) else said
        case Not(Consent(purpose, channel)):
            return "without consent to " + purpose + (f" by {_channel(channel)}" if channel else "")
        case Not(Within(_, shown)):
            return f"outside {names(shown)}"
        case Not(part):
            said = _sentence(part, names, "not")
            return f"not ({said})" if isinstance(part, Group) and len(part.parts) > 1 else f"not {said}"
        case Within(_, shown):
            return f"inside {names(shown)}"
        case Consent(purpose, channel):
            return "with consent to " + purpose + (f" by {_channel(channel)}" if channel else "")
        case Near(radius_m, place_kind, place_id, point):
            what = (
                {"own": "an own shop", "competitor": "a competitor"}[place_kind]
                if place_kind
                else names(ids.show("pla", place_id)) if place_id is not None
                else f"{point[1]:g}, {point[0]:g}" if point else ""
            )  # fmt: skip
            return f"within {_metres(radius_m)} of {what}"
        case Leaf():
            return _leaf_sentence(node, names)
    raise AssertionError(node)


def _leaf_sentence(leaf: Leaf, names: Names) -> str:
    found = FIELDS.get(leaf.field)

    def say(value: Any) -> str:
        if found is not None and found.type == "id":
            return names(ids.show(found.prefix[0], value))
        if isinstance(value, dt.datetime):
            return f"{value:%Y-%m-%d}" if value.time() == dt.time() else f"{value:%Y-%m-%d %H:%M %Z}"
        if isinstance(value, bool):
            return "yes" if value else "no"
        return f"{value:,}" if isinstance(value, int) else str(value)

    values = " or ".join(say(v) for v in leaf.value) if leaf.op in ("in", "not_in") else ""
    one = say(leaf.value) if leaf.op not in ("in", "not_in", "between") else ""
    if found is not None and found.name == "is_primary":
        return f"{'' if leaf.value == (leaf.op != '!=') else 'not '}{found.words}"
    if found is not None and found.words is None:
        if leaf.op == "exists":
            return f"with a {found.name}" if leaf.value else f"without a {found.name}"
        return ("not " if leaf.op in ("!=", "not_in") else "") + (values or one)
    if found is not None and found.type == "id":
        if leaf.op == "exists":
            noun = {"owner": "an owner", "territory": "a territory", "segment": "a segment"}[found.name]
            return f"with {noun}" if leaf.value else f"without {noun}"
        return ("not " if leaf.op in ("!=", "not_in") else "") + f"{found.words} {values or one}"
    noun = (found.words if found is not None else None) or str(leaf.key)
    window = ""
    if leaf.window_days is not None:
        window = " " + _WINDOWS.get(leaf.window_days, f"in the last {leaf.window_days:,} days")
    if found is not None and found.aggregate:
        noun = f"with {noun}"
    match leaf.op:
        case "exists":
            return f"with {noun.removeprefix('with ')}{window}" if leaf.value else f"without {noun.removeprefix('with ')}{window}"
        case "=":
            return (f"on {noun} {one}" if found is None else f"{noun} of {one}" if found.aggregate else f"{noun} {one}") + window
        case "in":
            return (f"on {noun} {values}" if found is None else f"{noun} {values}") + window
        case "!=" | "not_in":
            return f"{noun} not {values or one}{window}"
        case "between":
            return f"{noun} between {say(leaf.value[0])} and {say(leaf.value[1])}{window}"
        case "contains":
            return f"{noun} containing “{one}”"
    if found is not None and found.type == "time":
        return f"{noun} {'before' if leaf.op[0] == '<' else 'after' if leaf.op == '>' else 'since'} {one}{window}"
    return f"{noun}{' of' if found is not None and found.aggregate else ''} {_OP_WORDS[leaf.op]} {one}{window}"


def _channel(channel: str) -> str:
    return "e-mail" if channel == "email" else channel


def _metres(radius_m: float) -> str:
    return f"{radius_m / 1000:g} km" if radius_m >= 1000 else f"{radius_m:g} m"


def _to_json(node: Node) -> dict[str, Any]:
    match node:
        case Group(word, parts):
            return {word: [_to_json(p) for p in parts]}
        case Not(part):
            return {"not": _to_json(part)}
        case Within(_, shown):
            return {"within": {"area": shown}}
        case Near(radius_m, place_kind, place_id, point):
            if place_kind is not None:
                return {"near": {"place_kind": place_kind, "radius_m": radius_m}}
            if place_id is not None:
                return {"near": {"place": ids.show("pla", place_id), "radius_m": radius_m}}
            assert point is not None
            return {"near": {"lon": point[0], "lat": point[1], "radius_m": radius_m}}
        case Consent(purpose, channel):
            return {"consent": {"purpose": purpose} | ({"channel": channel} if channel is not None else {})}
        case Leaf(name, op, value, window_days, key):
            found = FIELDS.get(name)

            def plain(v: Any) -> Any:
                if isinstance(v, tuple):
                    return [plain(inner) for inner in v]
                if isinstance(v, dt.datetime):
                    return v.isoformat()
                if isinstance(v, Decimal):
                    return int(v) if v == v.to_integral_value() else float(v)
                return ids.show(found.prefix[0], v) if found is not None and found.type == "id" and op != "exists" else v

            made = {"field": name if key is None else f"attributes.{key}", "op": op, "value": plain(value)}
            return made | ({"window_days": window_days} if window_days is not None else {})
    raise AssertionError(node)


# Values


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is not a number")


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _json_kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "text" if isinstance(value, str) else "number"


def _number(value: Any, pointer: str) -> int | Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise invalid(pointer, "expected a number")
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        raise invalid(pointer, "not a finite number")
    if abs(value) >= 10**18:
        raise invalid(pointer, "number too large")
    if isinstance(value, int):
        return value
    return Decimal(repr(value)) if isinstance(value, float) else value


def _time(value: str, pointer: str) -> dt.datetime:
    try:
        made = dt.datetime.fromisoformat(value)
    except ValueError:
        raise invalid(pointer, "expected a date or time such as 2026-01-31 or 2026-01-31T09:00:00Z") from None
    if not 1 < made.year < 9999:
        raise invalid(pointer, "expected a year from 2 to 9998")
    return made if made.tzinfo is not None else made.replace(tzinfo=dt.UTC)


def _id(prefixes: Sequence[str], value: str, pointer: str) -> int:
    for prefix in prefixes:
        if value.startswith(prefix + "_"):
            try:
                return ids.read(prefix, value)
            except errors.Invalid:
                break
    raise invalid(pointer, f"expected an id such as {prefixes[0]}_7")


def _only(value: Mapping[str, Any], allowed: set[str], pointer: str) -> None:
    for key in value:
        if key not in allowed:
            raise invalid(_at(pointer, str(key)), f"unknown key; known are {', '.join(sorted(allowed))}")


def _at(pointer: str, part: str | int) -> str:
    return f"{pointer}/{str(part).replace('~', '~0').replace('/', '~1')[:100]}"


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "…"


def without(made: Filter, name: str) -> Filter:
    """The filter without its top-level conditions on one field, for counting how many there are by that field."""
    kept = tuple(p for p in _conjuncts(made.root) if not (isinstance(p, Leaf) and p.field == name))
    return replace(made, root=Group("all", kept))
