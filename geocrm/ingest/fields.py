"""What can be imported: the fields of each kind, their types, and what the usual exports call them.

Headers are compared after folding: lower case, no accents, no blanks or punctuation. So `Postal Code`, `postal_code`
and `PostalCode` are one. The words stand in `words.toml`.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from geocrm.db.models.customers import KINDS, STAGES
from geocrm.db.models.interactions import INTERACTION_KINDS
from geocrm.db.models.places import PLACE_KINDS
from geocrm.errors import Invalid

Type = Literal[
    "text", "id", "number", "money", "integer", "time", "boolean", "choice", "country", "currency", "email", "phone",
    "lon", "lat", "metres", "geometry", "crs", "json",
]  # fmt: skip

Kind = Literal["customers", "sales", "interactions", "places", "areas", "products"]
KINDS_OF_IMPORT: tuple[Kind, ...] = ("customers", "sales", "interactions", "places", "areas", "products")

_WORDS: Final[dict[str, Any]] = tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Field:
    """One thing that a column can be. `headers`: what others call it, folded, best first; `vague_headers`: what means
    it where every value is one of its choices."""

    name: str
    type: Type
    about: str
    headers: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    max_length: int = 500
    vague_headers: tuple[str, ...] = ()


_SPELT_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss", "&": "and"})


def fold(text: str) -> str:
    """A header for comparison: no accents, case, blanks or punctuation; ä is ae, ß is ss, & is and."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFC", text).translate(_SPELT_OUT))
    return re.sub(r"[^a-z0-9]", "", "".join(c for c in plain if not unicodedata.combining(c)).lower())


def _known(group: str, *fields: Field) -> tuple[Field, ...]:
    """Fields with what others call them."""
    headers, vague = _WORDS["headers"][group], _WORDS["vague_headers"].get(group, {})
    return tuple(
        replace(
            field,
            headers=tuple(headers[field.name].split()),
            vague_headers=tuple(vague.get(field.name, "").split()),
        )
        for field in fields
    )


_ADDRESS = _known(
    "addresses",
    Field("line1", "text", "street and number"),
    Field("line2", "text", "second address line"),
    Field("city", "text", "town"),
    Field("region", "text", "state or province, as a code where it has one"),
    Field("postal_code", "text", "postal code, as text", max_length=20),
    Field("country", "country", "country, by name or code"),
    Field("lon", "lon", "longitude in degrees, or x in the reference system of the recipe"),
    Field("lat", "lat", "latitude in degrees, or y in the reference system of the recipe"),
    Field("geometry", "geometry", "a point as WKT, EWKT or hexadecimal WKB"),
    Field("crs", "crs", "reference system of this row, where rows differ"),
    Field("precision_m", "metres", "radius in metres that holds the true point in 95 % of cases"),
)

_CUSTOMERS = (
    *_known(
        "customers",
        Field("external_id", "id", "what the source calls the customer", max_length=200),
        Field("name", "text", "name of the person or organisation"),
        Field("first_name", "text", "given name, joined with the last name"),
        Field("last_name", "text", "family name"),
        Field("kind", "choice", "person or organisation", choices=KINDS),
        Field("stage", "choice", "prospect, lead, active or lapsed", choices=STAGES),
        Field("parent", "id", "the customer above it, by its external id", max_length=200),
        Field("owner", "text", "the rep responsible, by e-mail, name or usr_ id"),
        Field("industry", "text", "branch of trade"),
        Field("size_class", "text", "size of the organisation"),
        Field("preferred_channel", "text", "how it wants to be reached"),
        Field("site_id", "id", "what the source calls the address, where a customer has several", max_length=200),
        Field("label", "text", "what the address is called"),
        Field("is_primary", "boolean", "whether this is the customer's main address"),
    ),
    *_ADDRESS,
    *_known(
        "customers",
        Field("contact_name", "text", "a person to talk to"),
        Field("contact_role", "text", "what that person does"),
        Field("email", "email", "e-mail address"),
        Field("phone", "phone", "telephone number", max_length=60),
    ),
)

_SALES = _known(
    "sales",
    Field("external_id", "id", "what the source calls the sale; rows with the same one are its lines", max_length=200),
    Field("customer", "id", "the customer, by its external id", max_length=200),
    Field("occurred_at", "time", "when it was sold"),
    Field("line_no", "integer", "number of the line in the sale"),
    Field("product", "id", "the product, by its external id or SKU", max_length=200),
    Field("product_name", "text", "name of the product"),
    Field("category", "text", "category of the product"),
    Field("quantity", "number", "how many"),
    Field("unit_price", "money", "price of one"),
    Field("amount", "money", "amount of the line, discount taken off"),
    Field("unit_cost", "money", "cost of one"),
    Field("cost", "money", "cost of the line"),
    Field("discount", "money", "discount on the line"),
    Field("currency", "currency", "ISO code of the currency"),
    Field("channel", "text", "how it was sold"),
    Field("place", "id", "the shop, by its external id", max_length=200),
    Field("site_id", "id", "the customer's site, by its external id", max_length=200),
    Field("returned", "boolean", "whether it came back"),
)

_INTERACTIONS = (
    *_known(
        "interactions",
        Field("external_id", "id", "what the source calls it", max_length=200),
        Field("customer", "id", "the customer, by its external id", max_length=200),
        Field(
            "kind",
            "choice",
            "call, email, visit, note, ticket, feedback, survey or complaint",
            choices=INTERACTION_KINDS,
        ),
        Field("occurred_at", "time", "when it took place"),
        Field("channel", "text", "by which means"),
        Field("direction", "choice", "in or out", choices=("in", "out")),
        Field("department", "text", "which department"),
        Field("user", "text", "who of us, by e-mail, name or usr_ id"),
        Field("subject", "text", "what about"),
        Field("body", "text", "the text", max_length=100000),
        Field("outcome", "text", "what came of it"),
        Field("score", "number", "a rating"),
        Field("follow_up_at", "time", "when to come back to it"),
    ),
    *(field for field in _ADDRESS if field.name in ("lon", "lat", "geometry", "crs")),
)

_PLACES = (
    *_known(
        "places",
        Field("external_id", "id", "what the source calls the place", max_length=200),
        Field("kind", "choice", "own, competitor, depot or branch", choices=PLACE_KINDS),
        Field("name", "text", "name of the place"),
        Field("brand", "text", "brand or chain"),
    ),
    *(field for field in _ADDRESS if field.name != "line2"),
    *_known(
        "places",
        Field("floor_area_m2", "number", "floor area, square metres"),
    ),
)

_AREAS = _known(
    "areas",
    Field("external_id", "id", "what the source calls the area", max_length=200),
    Field("name", "text", "name of the area"),
    Field("owner", "text", "the rep it belongs to, by e-mail, name or usr_ id"),
    Field("team", "text", "the team it belongs to, by name"),
    Field("priority", "integer", "which wins where areas overlap: the higher one"),
    Field("rule", "json", "rule on attributes, in the filter language"),
    Field("geometry", "geometry", "polygon as WKT, EWKT or hexadecimal WKB", max_length=50000000),
    Field("crs", "crs", "reference system of this row, where rows differ"),
)

_PRODUCTS = _known(
    "products",
    Field("external_id", "id", "what the source calls the product", max_length=200),
    Field("sku", "text", "stock keeping unit", max_length=200),
    Field("name", "text", "name of the product"),
    Field("category", "text", "category"),
    Field("unit_price", "money", "price of one"),
    Field("unit_cost", "money", "cost of one"),
    Field("currency", "currency", "ISO code of the currency"),
)

FIELDS: dict[str, dict[str, Field]] = {
    kind: {field.name: field for field in fields}
    for kind, fields in (
        ("customers", _CUSTOMERS),
        ("sales", _SALES),
        ("interactions", _INTERACTIONS),
        ("places", _PLACES),
        ("areas", _AREAS),
        ("products", _PRODUCTS),
    )
}

# Each entry: one of these sets must be given by columns or constants.
REQUIRED: dict[str, tuple[tuple[str, ...], ...]] = {
    "customers": (("external_id",), ("name", "last_name", "first_name", "contact_name", "email")),
    "sales": (("external_id",), ("customer",), ("occurred_at",), ("amount", "unit_price"), ("currency",)),
    "interactions": (("external_id",), ("customer",), ("occurred_at",), ("kind",)),
    "places": (("external_id",), ("name",)),
    "areas": (("external_id",), ("name",)),
    "products": (("external_id",), ("name",)),
}

WITH_ATTRIBUTES = frozenset({"customers", "places", "areas", "products"})

# What source systems say for our choices, folded.
SYNONYMS: dict[str, dict[str, str]] = {
    field: {word: choice for choice, words in meant.items() for word in words.split()}
    for field, meant in _WORDS["choices"].items()
}

# What the flags of a row mean.
FLAGS = {
    "zero": "coordinates at (0, 0)",
    "swapped": "longitude and latitude look swapped",
    "out_of_country": "over 25 km outside its country",
    "email": "unlikely e-mail address",
    "phone": "unlikely telephone number",
    "owner_unknown": "owner not known",
    "user_unknown": "user not known",
    "parent_unknown": "parent not known",
    "parent_circular": "is its own parent",
    "site_id_taken": "the id of its site is another customer's",
    "repaired": "polygon mended",
}

# Columns that our own rejected files add; ignored when such a file comes back.
REJECTED_COLUMNS = ("_line", "_column", "_reason")


def field_of(kind: str, name: str) -> Field:
    """The field of a kind by its name; any `attributes.…` where the kind has attributes. Raises Invalid naming the
    choices.
    """
    if kind not in FIELDS:
        raise Invalid(f"“{kind}” cannot be imported; possible are {', '.join(FIELDS)}.")
    if (found := FIELDS[kind].get(name)) is not None:
        return found
    if kind in WITH_ATTRIBUTES and name.startswith("attributes.") and len(name) > len("attributes."):
        return Field(name, "text", "an attribute of your own", max_length=10_000)
    raise Invalid(
        f"{kind} have no field “{name}”; fields are {', '.join(FIELDS[kind])}"
        + (" and attributes.…" if kind in WITH_ATTRIBUTES else "")
        + "."
    )


def match(kind: str, columns: list[str]) -> dict[str, str]:
    """The likely meaning of each column: {field: column}. A column serves one field, the field whose list names it
    earliest.
    """
    folded = {column: fold(column) for column in columns if column not in REJECTED_COLUMNS}
    found: dict[str, str] = {}
    taken: set[str] = set()
    for column in folded:
        if kind in WITH_ATTRIBUTES and column.lower().startswith("attributes.") and len(column) > 11:
            found["attributes." + column[11:]] = column
            taken.add(column)
    candidates = sorted(
        (field.headers.index(name), position, field.name, column)
        for position, field in enumerate(FIELDS[kind].values())
        for column, name in folded.items()
        if column not in taken and name in field.headers
    )
    # our own names win over everything, then the earliest mention of a header in any field's list
    for exact in (True, False):
        for _, _, field_name, column in candidates:
            if column in taken or field_name in found or (exact and folded[column] != fold(field_name)):
                continue
            found[field_name] = column
            taken.add(column)
    if "external_id" not in found:  # an SKU or a name may serve as the id too
        doubled = [entry for entry in candidates if entry[2] == "external_id"]
        if doubled:
            found["external_id"] = doubled[0][3]
    order = list(FIELDS[kind])
    return dict(sorted(found.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order)))
