"""What filters are made of: the registry of fields and the nodes of a parsed filter."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

OPS: Final = ("=", "!=", "in", "not_in", "<", "<=", ">", ">=", "between", "contains", "exists")
ORDER_OPS: Final = ("<", "<=", ">", ">=", "between")
_EQUAL_OPS: Final = ("=", "!=", "in", "not_in", "exists")
OPS_OF: Final[dict[str, tuple[str, ...]]] = {
    "choice": _EQUAL_OPS,
    "id": _EQUAL_OPS,
    "boolean": ("=", "!=", "exists"),
    "text": (*_EQUAL_OPS, "contains"),
    "number": (*_EQUAL_OPS, *ORDER_OPS),
    "time": ("=", "!=", *ORDER_OPS, "exists"),
    "json": OPS,
}


@dataclass(frozen=True)
class Field:
    """One name that filters may use.

    ``type`` is choice, id, boolean, text, number, time or json (the type of the value decides). ``columns`` maps scopes
    to SQL expressions; a scope that is missing borrows from the joined tables. ``sql_type`` is what values are cast to.
    ``words`` is the noun used in sentences, None where the value speaks for itself. ``needs`` names what the reader
    must be entitled to: "contacts" (unmasked contact details) or "exact" (exact places, the address below the town).
    ``over`` is set for what is counted or summed over a customer's rows ``f`` of that table, of those in the window;
    ``only`` says which of them."""

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
    over: Literal["", "sales", "interactions"] = ""
    only: str = ""


def _customer(name: str, column: str, kind: str, sql_type: str, words: str | None, help: str, **more: Any) -> Field:
    return Field(name, kind, sql_type, {"customer": f"c.{column}"}, words, help, **more)


def _site(name: str, column: str, kind: str, sql_type: str, words: str | None, help: str, **more: Any) -> Field:
    return Field(name, kind, sql_type, {"site": f"s.{column}"}, words, help, level="site", **more)


def _interactions(name: str, column: str, kind: str, words: str, help: str, only: str) -> Field:
    sql_type = "timestamptz" if kind == "time" else "numeric"
    return Field(name, kind, sql_type, {"customer": column}, words, help, over="interactions", only=only)


STAGES: Final = ("prospect", "lead", "active", "lapsed")
KINDS: Final = ("person", "organisation")
PRECISIONS: Final = ("given", "rooftop", "street", "postcode", "locality", "region")
PLACEMENTS: Final = ("placed", "pending", "flagged", "failed")
PLACE_KINDS: Final = ("own", "competitor", "depot", "branch")

_EVERY_CONTACT: Final = (
    "(SELECT string_agg(k.{column}, ' ') FROM {{schema}}.contacts k"
    " WHERE k.customer_id = {{customer_id}} AND k.{column} IS NOT NULL)"
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
              {"customer": "(SELECT m.segment_id FROM {schema}.segment_members m WHERE m.customer_id = {customer_id}"
                           " AND m.run_id = (SELECT g.current_run_id FROM segmentations g WHERE g.is_active))",
               "lookup": "l.segment_id"}, "in segment",
              "the group in the active segmentation, seg_…", prefix=("seg",), indexed=True),
        Field("is_primary", "boolean", "boolean", {"site": "s.is_primary", "lookup": "l.is_primary"},
              "the customer's primary site", "whether the site is the customer's primary one", level="site"),
        _customer("name", "name", "text", "text", "name", "the customer's name", rule=True),
        _customer("industry", "industry", "text", "text", "industry", "the customer's industry", rule=True),
        _customer("size_class", "size_class", "text", "text", "size", "the customer's size class", rule=True),
        _customer("preferred_channel", "preferred_channel", "text", "text", "preferred channel",
                  "how the customer likes to be reached"),
        _customer("created_at", "created_at", "time", "timestamptz", "known since",
                  "when the customer was first stored"),
        _site("country", "country", "text", "text", "country", "ISO 3166 code of the site's country", rule=True),
        _site("region", "region", "text", "text", "region", "state, province or canton of the site", rule=True),
        _site("city", "city", "text", "text", "town", "town of the site", rule=True),
        _site("postal_code", "postal_code", "text", "text", "postal code", "postal code of the site",
              rule=True, needs="exact"),
        Field("location_precision", "choice", "text",
              {"site": "s.location_precision", "lookup": "l.location_precision"}, "precision",
              "how the site's point was found", level="site", choices=PRECISIONS),
        _site("precision_m", "precision_m", "number", "double precision", "precision in metres",
              "radius that holds the true point in 95 % of cases"),
        _site("placement", "placement", "choice", "text", "placement",
              "placed, pending, flagged or failed", choices=PLACEMENTS),
        Field("contact.email", "text", "text", {"customer": _EVERY_CONTACT.format(column="email")}, "e-mail",
              "e-mail addresses of the customer's contacts", needs="contacts"),
        Field("contact.phone", "text", "text", {"customer": _EVERY_CONTACT.format(column="phone")}, "phone",
              "phone numbers of the customer's contacts", needs="contacts"),
        Field("sales.amount", "number", "numeric", {"customer": "coalesce(sum(f.amount), 0)"}, "sales",
              "sum of sales, in the currency they are stored in", over="sales"),
        Field("sales.count", "number", "numeric", {"customer": "count(*)"}, "number of sales", "how many sales",
              over="sales"),
        Field("sales.average", "number", "numeric", {"customer": "avg(f.amount)"}, "average sale",
              "mean amount of a sale; missing without sales", over="sales"),
        Field("sales.last_at", "time", "timestamptz", {"customer": "max(f.occurred_at)"}, "last sale",
              "time of the last sale; missing without sales", over="sales"),
        Field("sales.first_at", "time", "timestamptz", {"customer": "min(f.occurred_at)"}, "first sale",
              "time of the first sale; missing without sales", over="sales"),
        _interactions("interactions.count", "count(*)", "number", "number of interactions",
                      "how many calls, visits, e-mails and so on there were, notes aside", "f.kind <> 'note'"),
        _interactions("interactions.last_at", "max(f.occurred_at)", "time", "last interaction",
                      "time of the last of them; missing without one", "f.kind <> 'note'"),
        _interactions("visits.count", "count(*)", "number", "number of visits", "how many visits there were",
                      "f.kind = 'visit'"),
        _interactions("visits.last_at", "max(f.occurred_at)", "time", "last visit",
                      "time of the last visit; missing without one", "f.kind = 'visit'"),
        _interactions("complaints.count", "count(*)", "number", "number of complaints",
                      "how often the customer complained", "f.kind = 'complaint'"),
        _interactions("complaints.last_at", "max(f.occurred_at)", "time", "last complaint",
                      "time of the last complaint; missing without one", "f.kind = 'complaint'"),
    )
}  # fmt: skip

SHORT_FORMS: Final = (
    "stage", "kind", "owner", "territory", "segment", "country", "region", "city", "postal_code", "industry",
    "size_class", "location_precision",
)  # fmt: skip
"""Fields that may be a query parameter, ``stage=active&owner=usr_7``; several values with commas or repeated."""

_PUBLISHED: Final = "(SELECT geocrm_published_run({published}))"
_SEGMENT: Final = re.compile(r"^segments\.([A-Za-z0-9_-]{1,60})$")
_SCORE: Final = re.compile(r"^scores\.([A-Za-z0-9_-]{1,60})\.([a-z][a-z0-9_]{0,59})$")
SEGMENTS: Final = Field(
    "segments.*", "id", "bigint",
    {"customer": "(SELECT m.segment_id FROM {schema}.segment_members m WHERE m.customer_id = {customer_id}"
                 f" AND m.run_id = {_PUBLISHED})"},
    "in segment", "the group in the published run of a segmentation, seg_…", prefix=("seg",),
)  # fmt: skip
SCORES: Final = Field(
    "scores.*", "number", "real",
    {"customer": "(SELECT nullif(x.numbers[(SELECT geocrm_score_place({published}, {score}))], 'NaN')"
                 f" FROM {{schema}}.scores x WHERE x.customer_id = {{customer_id}} AND x.run_id = {_PUBLISHED})"},
    None, "a score in the published run of a segmentation; missing where there is none",
)  # fmt: skip
NAMED_BY_KEY: Final = {field.name: field for field in (SEGMENTS, SCORES)}
"""Fields whose name holds the key of a segmentation: `segments.rfm`, `scores.value.worth`."""
STARRED: Final = ("attributes.*", *NAMED_BY_KEY)


def key_of_score(name: str) -> str | None:
    """`value.worth` of ``scores.value.worth``; None of what names no score."""
    return name.partition(".")[2] if _SCORE.match(name) else None


_ATTRIBUTE: Final = re.compile(r"^attributes\.(.{1,100})$", re.DOTALL)


def find_field(name: str) -> tuple[Field | None, str | None]:
    """The field of that name and, for ``attributes.plan``, ``segments.rfm``, ``scores.value.worth``, what follows the
    first point."""
    if name in FIELDS:
        return FIELDS[name], None
    if _SEGMENT.match(name):
        return SEGMENTS, name.partition(".")[2]
    if _SCORE.match(name):
        return SCORES, name.partition(".")[2]
    if match := _ATTRIBUTE.match(name):
        return Field(
            "attributes.*", "json", "jsonb", {"customer": "c.attributes"}, None, "an own attribute", rule=True
        ), match[1]
    return None, None


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
    """A field compared with a value; ``key`` is what stands for the star in ``attributes.*``, ``segments.*`` and
    ``scores.*``."""

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


@dataclass(frozen=True)
class Entered:
    """Entered into an audience, and not at its end there."""

    audience_id: int


Node = Group | Not | Leaf | Within | Near | Consent | Entered
EVERYTHING: Final = Group("all", ())


def conjuncts(node: Node) -> tuple[Node, ...]:
    """The conditions that must all hold."""
    if isinstance(node, Group) and node.word == "all":
        return tuple(inner for part in node.parts for inner in conjuncts(part))
    return (node,)


def leaves_of(node: Node) -> Iterable[Node]:
    """The conditions without logic between them."""
    if isinstance(node, Group):
        for part in node.parts:
            yield from leaves_of(part)
    elif isinstance(node, Not):
        yield from leaves_of(node.part)
    else:
        yield node


def field_names(node: Node) -> Iterable[str]:
    """Names of the fields used."""
    for leaf in leaves_of(node):
        if isinstance(leaf, Leaf):
            yield leaf.field if leaf.key is None else leaf.field.replace("*", leaf.key)
        else:
            yield "audience" if isinstance(leaf, Entered) else type(leaf).__name__.lower()


def speaks_of_site(node: Node) -> bool:
    """Whether the condition asks about a site."""
    return any(
        isinstance(leaf, Within | Near)
        or (isinstance(leaf, Leaf) and leaf.key is None and FIELDS[leaf.field].level == "site")
        for leaf in leaves_of(node)
    )


def holds_when_missing(node: Node) -> bool:
    """Whether the condition can hold where every site field is missing; errs on the side of yes."""
    if isinstance(node, Leaf):
        if node.key is not None or FIELDS[node.field].level != "site":
            return True
        return node.op in ("!=", "not_in") or (node.op == "exists" and not node.value)
    if isinstance(node, Within | Near):
        return False
    if isinstance(node, Group):
        return (all if node.word == "all" else any)(holds_when_missing(p) for p in node.parts)
    return True


def json_kind(value: Any) -> str:
    """text, number or boolean: what an attribute must be to be compared with the value."""
    if isinstance(value, bool):
        return "boolean"
    return "text" if isinstance(value, str) else "number"
