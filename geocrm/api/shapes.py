"""Shapes that several subjects share: ids, strict bodies, pages, points."""

import math
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Final, Generic, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from geocrm import errors, ids
from geocrm.api import faults

Item = TypeVar("Item")
_DEEPEST = 40


def _clean(value: Any, depth: int = 0) -> None:
    """Refuse what no column can hold: NUL and lone surrogates in texts, NaN and infinity, endless nesting."""
    if isinstance(value, str):
        if "\x00" in value:
            raise ValueError("a text may not hold a NUL character")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("a text must be valid Unicode") from None
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("a number must be finite")
    elif isinstance(value, int):
        if not -(10**30) < value < 10**30:
            raise ValueError("a number is too large")
    elif isinstance(value, dict | list):
        if depth > _DEEPEST:
            raise ValueError(f"nested deeper than {_DEEPEST} levels")
        for part in value.values() if isinstance(value, dict) else value:
            _clean(part, depth + 1)
        if isinstance(value, dict):
            for key in value:
                _clean(key)


class Body(BaseModel):
    """What a client sends: no unknown fields, no NaN, nothing that cannot be stored."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, str_max_length=20_000)
    never_null: ClassVar[tuple[str, ...]] = ()
    """Fields that may be left out, but are not null where they are sent."""

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, value: Any) -> Any:
        _clean(value)
        return value

    @model_validator(mode="after")
    def _not_null(self) -> Self:
        for name in self.never_null:
            if name in self.model_fields_set and getattr(self, name) is None:
                raise ValueError(f"{name} cannot be null")
        return self


class Shown(BaseModel):
    """What we answer."""

    model_config = ConfigDict(extra="forbid", json_schema_serialization_defaults_required=True)


def _reader(*prefixes: str) -> Any:
    def read(value: Any) -> int:
        if not isinstance(value, str):
            raise ValueError(f"expected an id such as {prefixes[0]}_7")
        try:
            return ids.read(prefixes, value)
        except errors.Invalid as error:
            raise ValueError(error.detail) from None

    start = prefixes[0] if len(prefixes) == 1 else f"({'|'.join(prefixes)})"
    pattern = f"^{start}_[1-9][0-9]{{0,17}}$"
    return Annotated[
        int,
        BeforeValidator(read),
        WithJsonSchema({"type": "string", "pattern": pattern, "examples": [f"{prefixes[0]}_7"]}),
    ]


CustomerId = _reader("cus")
SiteId = _reader("sit")
ContactId = _reader("con")
SaleId = _reader("sal")
ProductId = _reader("prd")
PlaceId = _reader("pla")
AreaId = _reader("ter", "are")
ImportId = _reader("imp")
InteractionId = _reader("int")
UserId = _reader("usr")
TeamId = _reader("tea")
KeyId = _reader("key")
JobId = _reader("job")
SegmentId = _reader("seg")
SegmentationId = _reader("sgm")
AnalysisId = _reader("ana")
OfferId = _reader("off")
RedemptionId = _reader("red")
CampaignId = _reader("cam")
WebhookId = _reader("whk")
DeliveryId = _reader("dlv")
AutomationId = _reader("aut")
AudienceId = _reader("aud")
TaskId = _reader("tsk")


def _storable_text(value: str) -> str:
    _clean(value)
    return value


Flag = Annotated[bool, Field(strict=True)]
"""True or false in a body, and nothing that could be read as either."""

Text = Annotated[str, AfterValidator(_storable_text)]
Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=500),
    AfterValidator(_storable_text),
    Field(json_schema_extra={"pattern": r"\S"}),
]
"""What something is called: blanks around it are left out, and blanks alone are no name."""
Short = Annotated[str, Field(max_length=300), AfterValidator(_storable_text)]
Lon = Annotated[
    float, Field(strict=True, ge=-180, le=180, allow_inf_nan=False, description="Longitude, degrees east (WGS 84).")
]
Lat = Annotated[
    float, Field(strict=True, ge=-90, le=90, allow_inf_nan=False, description="Latitude, degrees north (WGS 84).")
]
Country = Annotated[str, Field(pattern="^[A-Z]{2}$", description="ISO 3166-1 code of two letters.", examples=["US"])]
Currency = Annotated[str, Field(pattern="^[A-Z]{3}$", description="ISO 4217 code.", examples=["USD"])]


def _aware(value: datetime) -> datetime:
    if value.tzinfo is None:
        local = value.replace(microsecond=0).isoformat()
        raise ValueError(f"expected a time with its offset from UTC, such as {local}Z or {local}+01:00")
    try:
        utc = value.astimezone(UTC)
    except OverflowError:
        raise ValueError("expected a year from 1000 to 9000") from None
    if not 1000 <= utc.year <= 9000:
        raise ValueError("expected a year from 1000 to 9000")
    return utc


def _not_a_number(value: Any) -> Any:
    if not isinstance(value, str | datetime):
        raise ValueError(faults.TIME)
    if isinstance(value, str) and not _DAY.match(value):
        raise ValueError(faults.TIME)
    return value


def _whole_day(value: Any) -> Any:
    return f"{value}T00:00:00Z" if isinstance(value, str) and _DAY.fullmatch(value) else value


_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)

When = Annotated[
    datetime,
    BeforeValidator(_not_a_number),
    AfterValidator(_aware),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-01-31T09:00:00Z"]}),
]
"""A moment: a time with its offset from UTC, so that nobody's local time is taken for another."""

DayOrWhen = Annotated[When, BeforeValidator(_whole_day)]
"""The same, or a day alone, which means its beginning in UTC."""

_MONEY = {"type": "string", "pattern": r"^-?[0-9]{1,14}(\.[0-9]{1,4})?$", "examples": ["129.9000"]}


def _decimal(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected an amount such as 129.90")
    if isinstance(value, float):
        return Decimal(repr(value))
    return value


Money = Annotated[
    Decimal,
    BeforeValidator(_decimal),
    Field(max_digits=18, decimal_places=4, allow_inf_nan=False),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "minimum": -(10**13), "maximum": 10**13, "multipleOf": 0.01}, _MONEY]},
        mode="validation",
    ),
]
"""An amount as sent: a number, or better a text that keeps every digit."""

ShownMoney = Annotated[
    Decimal,
    PlainSerializer(lambda value: f"{value:f}", return_type=str),
    WithJsonSchema({"type": "string", "examples": ["129.9000"]}, mode="serialization"),
]
"""An amount as answered: a text with four decimals, rounded only when shown."""


class Point(Body):
    """A place on earth."""

    lon: Lon
    lat: Lat


class ShownPoint(Shown):
    """A place on earth, WGS 84."""

    lon: float
    lat: float


class Named(Shown):
    """Something by id and name."""

    id: str = Field(examples=["usr_7"])
    name: str | None = Field(examples=["Ada Young"])


class Page(Shown, Generic[Item]):
    """A page of a list; follow `next_cursor`, or the header Link with rel="next", to its end."""

    data: list[Item]
    has_more: bool
    next_cursor: str | None = None


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(examples=["https://geocrm.example/problems/invalid"])
    title: str = Field(examples=["The input is not valid."])
    status: int = Field(examples=[422])
    detail: str | None = Field(None, examples=["lon: expected at most 180"])
    errors: list["ProblemFault"] | None = None
    instance: str = Field(examples=["req_0f3c9a7be8d14c55"])


class ProblemFault(BaseModel):
    """One place in the input."""

    pointer: str = Field("", examples=["/lon"])
    detail: str = Field("", examples=["expected at most 180"])
