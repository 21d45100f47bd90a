"""The one filter language: JSON to SQL with bound, cast parameters, and JSON to a plain sentence.

The same filter serves lists, lookups, tiles, territory rules, segments, audiences and exports. A filter is a statement
about a customer *at one of its sites*: a lookup or a tile asks it of every site, a list shows a customer when it holds
for at least one of its sites (a customer without any site is asked with all site fields missing).

Logic is two-valued. A comparison with a missing value is false; ``!=``, ``not_in`` and ``not`` are the exact complement
of ``=``, ``in`` and the condition inside, so they hold where the value is missing.

Nothing a user wrote ever becomes SQL text. Values are bound and every one is cast to the type of its column, because a
parameter of another integer type silently turns an index condition into a filter.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final, Literal

from geocrm import errors, ids
from geocrm.filter_sql import Compiled, Schema, Scope, Writer
from geocrm.filter_tree import (
    EVERYTHING,
    FIELDS,
    OPS,
    OPS_OF,
    ORDER_OPS,
    PLACE_KINDS,
    SHORT_FORMS,
    STARRED,
    Consent,
    Entered,
    Field,
    Group,
    Leaf,
    Near,
    Node,
    Not,
    Within,
    conjuncts,
    field_names,
    find_field,
    json_kind,
    leaves_of,
)
from geocrm.filter_words import Names, sentence, to_json

__all__ = [
    "FIELDS", "OPS", "SHORT_FORMS", "Compiled", "Field", "Filter", "Indexed", "Names", "Reader", "from_query", "parse",
    "without",
]  # fmt: skip

MAX_DEPTH: Final = 8
MAX_LEAVES: Final = 200
MAX_VALUES: Final = 1000
MAX_TEXT: Final = 1000
MAX_RADIUS_M: Final = 500_000
MAX_WINDOW_DAYS: Final = 36_525

Use = Literal["rows", "rule"]
"""``rows``: every field. ``rule``: what a territory rule may name, fields of the customer and its address."""


@dataclass(frozen=True)
class Reader:
    """What the reader may filter by: ``contacts``, unmasked contact details; ``exact``, exact places."""

    contacts: bool = False
    exact: bool = True


@dataclass(frozen=True)
class Indexed:
    """Conditions on the dimensions that indexes and the tile pyramid carry; None where unrestricted."""

    stages: tuple[str, ...] | None = None
    kinds: tuple[str, ...] | None = None
    owners: tuple[int, ...] | None = None
    territories: tuple[int, ...] | None = None
    segments: tuple[int, ...] | None = None


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
        words = [w for w in ("all", "any", "not", "within", "near", "consent", "audience", "field") if w in value]
        if len(words) != 1:
            raise invalid(pointer, "expected exactly one of all, any, not, within, near, consent, audience, field")
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
            raise invalid(
                here, f"a territory rule cannot use {word}; it names attributes of the customer and its address"
            )
        if word == "audience":
            return self.audience(value[word], here)
        if not isinstance(value[word], Mapping):
            raise invalid(here, "expected an object")
        if word == "within":
            return self.within(value[word], here)
        return self.near(value[word], here) if word == "near" else self.consent(value[word], here)

    def leaf(self, value: Mapping[str, Any], pointer: str) -> Leaf:
        name, here = value["field"], _at(pointer, "field")
        if not isinstance(name, str):
            raise invalid(here, "expected the name of a field")
        found, key = find_field(name)
        if found is None:
            raise invalid(here, f"unknown field {_short(name)}; known are {', '.join([*FIELDS, *STARRED])}")
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
        if op not in OPS_OF[found.type]:
            raise invalid(here, f"{name} does not take {op}; it takes {' '.join(OPS_OF[found.type])}")
        window = value.get("window_days")
        if window is not None:
            here = _at(pointer, "window_days")
            if not found.over:
                counted = ", ".join(sorted({f"{f.name.partition('.')[0]}.*" for f in FIELDS.values() if f.over}))
                raise invalid(here, f"{name} has no window; window_days goes with {counted}")
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
            if found.type == "json" and len({json_kind(v) for v in made}) > 1:
                raise invalid(pointer, "the values are of different types")
            return made
        if op == "between":
            if not _is_list(value) or len(value) != 2:
                raise invalid(pointer, "between takes a list of two values, both included")
            low, high = (self.one(found, v, _at(pointer, i)) for i, v in enumerate(value))
            if found.type == "json" and not (json_kind(low) == json_kind(high) == "number"):
                raise invalid(pointer, "between takes two numbers")
            if low > high:
                raise invalid(pointer, "the first value is greater than the second")
            return low, high
        made_one = self.one(found, value, pointer)
        if found.type == "json" and op in ORDER_OPS and json_kind(made_one) != "number":
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
            if kind not in PLACE_KINDS:
                raise invalid(_at(pointer, "place_kind"), f"expected one of {', '.join(PLACE_KINDS)}")
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

    def audience(self, value: Any, pointer: str) -> Entered:
        if not self.reader.exact:  # it may say that the customer was in a fence
            raise invalid(pointer, "audiences need access to exact places")
        if not isinstance(value, str):
            raise invalid(pointer, "expected the id of an audience, aud_…")
        return Entered(_id(("aud",), value, pointer))

    def consent(self, value: Mapping[str, Any], pointer: str) -> Consent:
        _only(value, {"purpose", "channel"}, pointer)
        for key in ("purpose", "channel"):
            if key in value and (
                not isinstance(value[key], str) or not 0 < len(value[key]) <= 60 or "\x00" in value[key]
            ):
                raise invalid(_at(pointer, key), "expected a text of 1 to 60 characters")
        if "purpose" not in value:
            raise invalid(pointer, "purpose is missing")
        return Consent(value["purpose"], value.get("channel"))


@dataclass(frozen=True)
class Filter:
    """A parsed, valid filter. Make one with :func:`parse` or :func:`from_query`."""

    root: Node = field(default=EVERYTHING)

    def __bool__(self) -> bool:
        return self.root != EVERYTHING

    def __and__(self, other: Filter) -> Filter:
        return Filter(Group("all", (*conjuncts(self.root), *conjuncts(other.root))))

    def compile(self, scope: Scope, *, snapped: bool = False, schema: Schema = "visible") -> Compiled:
        """SQL that is true where the filter holds.

        ``scope`` says which tables the surrounding query has, see :data:`Scope`. With ``snapped`` every spatial
        condition sees the point snapped to the 500 m grid, for readers without exact places. ``schema`` is ``public``
        for the worker, which has no row-security context."""
        writer = Writer(snapped, schema)
        return Compiled(writer.condition(self.root, scope), tuple(writer.values), tuple(writer.types))

    def split(self) -> tuple[Indexed, Filter]:
        """What indexes can serve, and the rest as an ad-hoc filter; together they are the filter."""
        dims: dict[str, tuple[Any, ...]] = {}
        rest: list[Node] = []
        for part in conjuncts(self.root):
            if isinstance(part, Leaf) and part.op in ("=", "in") and part.field in _DIMENSIONS:
                values = part.value if part.op == "in" else (part.value,)
                name = _DIMENSIONS[part.field]
                dims[name] = tuple(v for v in dict.fromkeys(values) if name not in dims or v in dims[name])
            else:
                rest.append(part)
        return Indexed(**dims), Filter(Group("all", tuple(rest)))

    def fields(self) -> set[str]:
        """Names of all fields used, with within, near, consent and audience under those words."""
        return set(field_names(self.root))

    def audiences(self, *, required: bool = False) -> list[int]:
        """The audiences that are named; with `required` those that a customer must be in to pass."""
        parts = conjuncts(self.root) if required else leaves_of(self.root)
        return sorted({part.audience_id for part in parts if isinstance(part, Entered)})

    def sentence(self, names: Names | None = None) -> str:
        """The filter in plain words; ``names`` gives names for ids such as ter_12."""
        return sentence(self.root, names or (lambda shown: shown)) or "everything"

    def to_json(self) -> dict[str, Any]:
        """The filter as it was written, in its canonical form: parse(to_json()) is the same filter."""
        return to_json(self.root)


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
        leaf = (
            {"field": name, "op": "in", "value": values}
            if len(values) > 1
            else {"field": name, "op": "=", "value": values[0]}
        )
        try:
            made = made & Filter(parser.leaf(leaf, ""))
        except errors.Invalid as fault:
            detail = fault.errors[0]["detail"] if fault.errors else str(fault)
            raise invalid(f"/{name}", detail) from None
    return made


_DIMENSIONS: Final = {
    "stage": "stages",
    "kind": "kinds",
    "owner": "owners",
    "territory": "territories",
    "segment": "segments",
}


# Values


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is not a number")


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _number(value: Any, pointer: str) -> int | Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise invalid(pointer, "expected a number")
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        raise invalid(pointer, "not a finite number")
    if not -(10**18) < value < 10**18:
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
    kept = tuple(p for p in conjuncts(made.root) if not (isinstance(p, Leaf) and p.field == name))
    return replace(made, root=Group("all", kept))
