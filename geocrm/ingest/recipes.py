"""Recipes: what a file's columns mean, saved as YAML and used again.

The keys are documented in `docs/how-to/import.md`; unknown ones are refused by name.
"""

from __future__ import annotations

import dataclasses
import re
import zoneinfo
from dataclasses import asdict, dataclass, field, fields
from typing import Any, get_args

import yaml

from geocrm.errors import Fault, Invalid
from geocrm.ingest.fields import FIELDS, field_of, fold
from geocrm.ingest.formats import Options
from geocrm.spatial import crs as reference_systems
from geocrm.spatial.layers import LayerKind

MAX_CHARS = 200_000
ATTRIBUTE_TYPES = ("text", "number", "boolean", "date")
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
_STRFTIME = set("YymdHMSfpIbBzjTD%")


@dataclass(frozen=True)
class Recipe:
    """How to read one kind of file.

    `columns`: field → column name, or a template with `{column}`s in it. `constants`: field → value for every row.
    `values`: field → {what the file says: what it means}. `date_format`: strptime formats tried in turn, or field →
    formats.
    """

    kind: str
    source: str = "file"
    columns: dict[str, str] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)
    values: dict[str, dict[str, str]] = field(default_factory=dict)
    ignore: list[str] = field(default_factory=list)
    automatic: bool = True
    title_case: list[str] = field(default_factory=list)
    types: dict[str, str] = field(default_factory=dict)
    date_format: dict[str, list[str]] = field(default_factory=dict)
    decimal: str = "auto"
    timezone: str = "UTC"
    crs: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    skip_lines: int = 0
    sheet: str | None = None
    layer: str | None = None
    target_layer: str | None = None
    layer_kind: LayerKind = "territories"
    create_products: bool = False
    create_customers: bool = False
    place_addresses: bool = True
    repair: bool = False
    replace: bool = False

    @property
    def reading(self) -> Options:
        """What concerns the reading of the file."""
        return Options(self.encoding, self.delimiter, self.skip_lines, self.sheet, self.layer, self.crs)

    def to_dict(self) -> dict[str, Any]:
        """As plain data, without what is at its default."""
        plain = asdict(self)
        empty = asdict(Recipe(kind=self.kind))
        return {key: value for key, value in plain.items() if key == "kind" or value != empty[key]}

    def to_yaml(self) -> str:
        """As the text of a recipe file."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, width=100)

    def with_(self, **changes: Any) -> Recipe:
        """A copy with some values changed."""
        return dataclasses.replace(self, **changes)


_SWITCHES = {
    "automatic": True, "create_products": False, "create_customers": False, "place_addresses": True, "repair": False,
    "replace": False,
}  # fmt: skip
_KEYS = {item.name for item in fields(Recipe)}


class _Loader(yaml.SafeLoader):
    """YAML without aliases: a few lines of them can stand for more than a machine holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node, unless it is an alias."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(problem="aliases (*) are not read", problem_mark=event.start_mark)
        return super().compose_node(parent, index)


def from_yaml(text: str, *, kind: str | None = None) -> Recipe:
    """A recipe from the text of its file. Raises Invalid naming what is wrong in it."""
    if len(text) > MAX_CHARS:
        raise Invalid(f"The recipe has {len(text):,} characters; at most {MAX_CHARS:,} are read.")
    try:
        loaded = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark is not None else ""
        raise Invalid(
            f"The recipe is not valid YAML{place}: {getattr(error, 'problem', None) or 'see its syntax'}."
        ) from error
    return from_dict(loaded if loaded is not None else {}, kind=kind)


def from_dict(given: Any, *, kind: str | None = None) -> Recipe:
    """A recipe from plain data, checked. `kind`: what is imported, where the recipe need not say it."""
    if not isinstance(given, dict):
        raise Invalid("The recipe must be a mapping of keys to values.")
    faults: list[Fault] = []

    def wrong(pointer: str, detail: str) -> None:
        faults.append({"pointer": f"/recipe{pointer}", "detail": detail})

    for key in given:
        if key not in _KEYS:
            wrong(f"/{key}", f"there is no key “{key}”; keys are {', '.join(sorted(_KEYS))}")
    stated = given.get("kind", kind)
    if stated not in FIELDS:
        raise Invalid(
            f"The recipe's kind must be one of {', '.join(FIELDS)}.",
            errors=[{"pointer": "/recipe/kind", "detail": str(stated)}],
        )
    if kind is not None and stated != kind:
        raise Invalid(
            f"The recipe is for {stated}, not for {kind}.", errors=[{"pointer": "/recipe/kind", "detail": str(stated)}]
        )

    def mapping(key: str) -> dict[str, Any]:
        value = given.get(key) or {}
        if not isinstance(value, dict):
            wrong(f"/{key}", "must be a mapping")
            return {}
        return {str(name): entry for name, entry in value.items()}

    def known(key: str, names: Any) -> None:
        for name in names:
            try:
                field_of(stated, name)
            except Invalid as error:
                wrong(f"/{key}/{name}", error.detail)

    columns = {name: _text(value) for name, value in mapping("columns").items() if value is not None}
    constants = {name: _text(value) for name, value in mapping("constants").items() if value is not None}
    values: dict[str, dict[str, str]] = {}
    for name, entries in mapping("values").items():
        if isinstance(entries, dict):
            values[name] = {_text(said): _text(meant) for said, meant in entries.items()}
        else:
            wrong(f"/values/{name}", "must map what the file says to what it means")
    known("columns", columns)
    known("constants", constants)
    known("values", values)
    title_case = _texts(given.get("title_case"))
    known("title_case", title_case)
    types = {name: _text(value) for name, value in mapping("types").items()}
    for name, value in types.items():
        if not name.startswith("attributes.") or value not in ATTRIBUTE_TYPES:
            wrong(f"/types/{name}", f"attributes.… can be {', '.join(ATTRIBUTE_TYPES)}")
    formats = given.get("date_format") or {}
    date_format = (
        {str(name): _texts(value) for name, value in formats.items()}
        if isinstance(formats, dict)
        else {"*": _texts(formats)}
    )
    for name, entries in date_format.items():
        for entry in entries:
            codes = set(re.findall(r"%(.)", entry))
            if not codes or codes - _STRFTIME:
                wrong(f"/date_format/{name}", f"“{entry}” is no date format; for example %d.%m.%Y or %m/%d/%Y %H:%M")
    decimal = str(given.get("decimal", "auto"))
    if decimal not in ("auto", ".", ","):
        wrong("/decimal", "must be “.”, “,” or auto")
    timezone = str(given.get("timezone", "UTC"))
    try:
        zoneinfo.ZoneInfo(timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        wrong("/timezone", f"“{timezone}” is no time zone; for example Europe/Berlin")
    crs = given.get("crs")
    if crs is not None:
        try:
            reference_systems.read_crs(crs)
        except Invalid as error:
            wrong("/crs", error.detail)
    source = str(given.get("source", "file")).strip()
    if not 1 <= len(source) <= 100:
        wrong("/source", "must have 1 to 100 characters")
    skip_lines = given.get("skip_lines", 0)
    if not isinstance(skip_lines, int) or isinstance(skip_lines, bool) or not 0 <= skip_lines <= 1000:
        wrong("/skip_lines", "must be a whole number from 0 to 1000")
        skip_lines = 0
    layer_kind = given.get("layer_kind", "territories")
    if layer_kind not in get_args(LayerKind):
        wrong("/layer_kind", f"must be one of {', '.join(get_args(LayerKind))}")
    delimiter = given.get("delimiter")
    if delimiter is not None and (not isinstance(delimiter, str) or len(delimiter) != 1):
        wrong("/delimiter", "must be one character")
    switches: dict[str, bool] = {}
    for name, usual in _SWITCHES.items():
        value = given.get(name, usual)
        if not isinstance(value, bool):
            wrong(f"/{name}", "must be true or false")
        switches[name] = bool(value)
    if faults:
        raise Invalid(f"The recipe is not valid: {faults[0]['detail']}.", errors=faults)
    return Recipe(
        kind=stated,
        source=source,
        columns=columns,
        constants=constants,
        values=values,
        ignore=_texts(given.get("ignore")),
        title_case=title_case,
        types=types,
        date_format=date_format,
        decimal=decimal,
        timezone=timezone,
        crs=None if crs is None else str(crs),
        encoding=_optional(given.get("encoding")),
        delimiter=delimiter,
        skip_lines=skip_lines,
        sheet=_optional(given.get("sheet")),
        layer=_optional(given.get("layer")),
        target_layer=_optional(given.get("target_layer")),
        layer_kind=layer_kind,
        **switches,
    )


def placeholders(template: str) -> list[str]:
    """The columns that a template names; empty for a plain column name."""
    return _PLACEHOLDER.findall(template)


def find_column(name: str, columns: list[str]) -> str | None:
    """The column that a recipe means: exactly, else folded (so that a recipe survives a change of case)."""
    if name in columns:
        return name
    alike = [column for column in columns if fold(column) == fold(name)]
    return alike[0] if len(alike) == 1 else None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    return [_text(entry) for entry in value] if isinstance(value, list | tuple) else [_text(value)]


def _optional(value: Any) -> str | None:
    return None if value is None else str(value)
