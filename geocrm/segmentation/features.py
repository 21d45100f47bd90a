"""The features of customers at a cutoff: one registry, one way to read them.

Nothing that happened at the cutoff or later is read: neither sales nor interactions. What has no history (industry,
size, attributes, hierarchy) is as it is known now. Sales come as the sufficient statistics of `statistics.refresh`.
Days are whole, in UTC: from a day to the last one before the cutoff. A customer who never bought has counts and sums of
0, and NaN for what only buyers have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from geocrm.db.copying import driver
from geocrm.db.engine import expecting_many_rows, side_by_side
from geocrm.db.queries import for_driver, named
from geocrm.errors import Invalid, NotFound, TooLittleData, TryAgain
from geocrm.segmentation import rfm, statistics
from geocrm.segmentation.place import nearest_place

SQL: Final = "features"
ROWS_AT_ONCE: Final = 25_000
"""Customers, about, that one process of the database reads at once."""
IDS_AT_ONCE: Final = 1_000_000
"""Customers, about, of whom one statement tells."""
MOST_WORDS: Final = 1_000
"""Different words that a categorical feature may have."""

Kind = Literal["identity", "behaviour", "place", "potential"]
Part = Literal["sales", "interactions", "children", "depth", "home", "sectors", "regions", "peers"]
Ids = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Feature:
    """One column of a frame of features.

    `sql` is its expression over c (customers), s (statistics of sales, null for who never bought) and the other
    `reads`; of a categorical feature the words, of a place feature nothing: those are given beside, see
    `read_features`."""

    name: str
    unit: str
    meaning: str
    kind: Kind
    dtype: Literal["float64", "category"] = "float64"
    sql: str = ""
    reads: tuple[Part, ...] = ()


@dataclass(frozen=True)
class ServingCosts:
    """What it costs to serve a customer, in the currency of the cutoff: each visit without the drive and each call (an
    hour and a quarter of an hour at 40), each kilometre of the drive (0.40 for the car, the rest for the rep's time at
    60 km/h), and how much longer the road is than the crow flies (1.2 to 1.5 in most countries: Ballou, Rahardja and
    Sakai 2002, "Selected country circuity factors for road travel distance estimation", Transportation Research A 36).
    """

    visit: float = 40.0
    call: float = 10.0
    km: float = 1.07
    detour: float = 1.3

    def trip(self, distance_m: Floats) -> Floats:
        """What the drive there and back costs, of shape (n,) as the distances; 0 where they are not known."""
        return np.where(np.isnan(distance_m), 0.0, 2 * self.detour * self.km * distance_m / 1000)


def _money(column: str) -> str:
    return f"CAST(coalesce(s.{column}, 0) AS double precision) / 10000"


def _count(column: str) -> str:
    return f"coalesce({column}, 0)"


def _days(since: str) -> str:
    return f"CAST(:end_day AS date) - {since}"


def _share(part: str, whole: str) -> str:
    return f"CASE WHEN {whole} > 0 THEN CAST({part} AS double precision) / {whole} END"


_GAP = (
    "CASE WHEN s.purchase_days > 1 THEN CAST(s.last_day - s.first_day AS double precision) / (s.purchase_days - 1) END"
)
_GAP_SQUARED = (
    "CAST((s.last_day - s.first_day) AS double precision) * (s.last_day - s.first_day)"
    " / (CAST(s.purchase_days - 1 AS double precision) * (s.purchase_days - 1))"
)
_SPREAD = (  # squared variation of gaps: mean of squares ÷ square of mean − 1
    "CASE WHEN s.purchase_days > 2 THEN greatest(CAST(s.gap_squares AS double precision) / (s.purchase_days - 1)"
    f" / ({_GAP_SQUARED}) - 1, 0) END"
)
_MARGIN = (
    "CASE WHEN s.customer_id IS NULL THEN 0 WHEN s.costed > 0 THEN CAST(s.margin_e4 AS double precision) / 10000 END"
)
_MARGIN_365 = (
    "CASE WHEN coalesce(s.orders_365 + s.returns_365, 0) = 0 THEN 0"
    " WHEN s.costed_365 > 0 THEN CAST(s.margin_365_e4 AS double precision) / 10000 END"
)
_SERVING = "({visits} * CAST(:cost_of_visit AS double precision) + {calls} * CAST(:cost_of_call AS double precision))"
_TO_SERVE = _SERVING.format(visits=_count("i.visits"), calls=_count("i.calls"))
_TO_SERVE_365 = _SERVING.format(visits=_count("i.visits_365"), calls=_count("i.calls_365"))
REGION: Final = "h.country || ' ' || h.region"
PEERS: Final = "concat_ws(' · ', c.kind, coalesce(c.industry, ''), coalesce(c.size_class, ''))"
"""Like customers: of the same kind, industry and size."""
LEAST_PEERS: Final = 20
"""Buyers of the last 365 days from which on like customers tell what one could spend."""
WALLET: Final = 0.9
"""The quantile of like customers' spending that stands for what a customer could spend: wallets are estimated by high
conditional quantiles (Perlich, Rosset, Lawrence and Zadrozny 2007, "High-quantile modeling for customer wallet
estimation and other applications", KDD)."""


def _others_growth(name: str, key: str) -> str:
    """Growth of the sales to all others with the same key, from the arrays that `_add_growth` binds."""
    place = f"array_position(CAST(:{name}_names AS text[]), {key})"
    before = f"((CAST(:{name}_before AS double precision[]))[{place}] - coalesce(s.amount_year_before_e4, 0))"
    last = f"((CAST(:{name}_last AS double precision[]))[{place}] - coalesce(s.amount_365_e4, 0))"
    return f"CASE WHEN {before} > 0 THEN {last} / {before} - 1 END"


_SECTOR = _others_growth("sectors", "c.industry")
_HOME_GROWTH = _others_growth("regions", REGION)
_WALLET_SHARE = (
    "coalesce(s.amount_365_e4, 0)"
    f" / (CAST(:peers_wallet AS double precision[]))[array_position(CAST(:peers_names AS text[]), {PEERS})]"
)

_SOLD: Final[tuple[Part, ...]] = ("sales",)
_SPOKEN: Final[tuple[Part, ...]] = ("interactions",)
_BOTH: Final[tuple[Part, ...]] = ("sales", "interactions")
_DRIVEN: Final[tuple[Part, ...]] = ("sales", "interactions", "home")
_TRIPS: Final = {
    "cost_to_serve": ("visits", 1),
    "cost_to_serve_365": ("visits_365", 1),
    "profit": ("visits", -1),
    "profit_365": ("visits_365", -1),
}
"""Features to which the drives of so many visits are added, or from which they are taken."""
_DRIVES: Final = {
    "visits": _count("i.visits"),
    "visits_365": _count("i.visits_365"),
    "lon": "CASE WHEN h.placement = 'placed' THEN ST_X(h.location) END",
    "lat": "CASE WHEN h.placement = 'placed' THEN ST_Y(h.location) END",
}


def _behaviour(name: str, unit: str, meaning: str, sql: str, reads: tuple[Part, ...] = _SOLD) -> Feature:
    return Feature(name, unit, meaning, "behaviour", "float64", sql, reads)


FEATURES: Final[tuple[Feature, ...]] = (
    # who they are, as known now
    Feature("is_organisation", "0 or 1", "an organisation, not a person", "identity",
            sql="CASE WHEN c.kind = 'organisation' THEN 1 ELSE 0 END"),
    Feature("industry", "word", "industry of an organisation", "identity", "category", "c.industry"),
    Feature("size_class", "word", "size of an organisation", "identity", "category", "c.size_class"),
    Feature("stated_channel", "word", "channel the customer says it prefers", "identity", "category",
            "c.preferred_channel"),
    Feature("children", "customers", "customers directly below it in the account hierarchy", "identity",
            sql=_count("k.children"), reads=("children",)),
    Feature("depth", "levels", "customers above it in the account hierarchy", "identity",
            sql=_count("d.depth"), reads=("depth",)),
    # recency, frequency, money
    _behaviour("recency_days", "days", "since the last day with an order", _days("s.last_day")),
    _behaviour("frequency", "orders", "all orders, returns aside", _count("s.orders")),
    _behaviour("monetary_value", "money", "net sales: orders less returns", _money("amount_e4")),
    _behaviour("tenure_days", "days", "since the first day with an order", _days("s.first_day")),
    _behaviour("orders_90", "orders", "orders in the last 90 days", _count("s.orders_90")),
    _behaviour("orders_365", "orders", "orders in the last 365 days", _count("s.orders_365")),
    _behaviour("orders_year_before", "orders", "orders in the 365 days before the last 365",
               _count("s.orders_year_before")),
    _behaviour("sales_90", "money", "net sales of the last 90 days", _money("amount_90_e4")),
    _behaviour("sales_365", "money", "net sales of the last 365 days", _money("amount_365_e4")),
    _behaviour("sales_year_before", "money", "net sales of the 365 days before the last 365",
               _money("amount_year_before_e4")),
    _behaviour("growth", "share", "net sales of the last 365 days over those of the 365 days before, less 1; only "
               "where there were some", f"{_share('s.amount_365_e4', 's.amount_year_before_e4')} - 1"),
    # rhythm
    _behaviour("purchase_days", "days", "different days with an order", _count("s.purchase_days")),
    _behaviour("gap_mean_days", "days", "mean between neighbouring purchase days; from two of them on", _GAP),
    _behaviour("gap_variation", "ratio", "standard deviation of the days between purchases over their mean: 0 like a "
               "clock, 1 at random; from three purchase days on", f"sqrt({_SPREAD})"),
    _behaviour("gap_typical_days", "days", "median between purchases where their logarithm is normal with this mean "
               "and variation: less moved by one long pause than the mean", f"({_GAP}) / sqrt(1 + ({_SPREAD}))"),
    _behaviour("overdue_days", "days", "since the last purchase, less its own mean gap: above 0 it is late",
               f"({_days('s.last_day')}) - ({_GAP})"),
    _behaviour("overdue_ratio", "ratio", "since the last purchase over its own mean gap",
               f"({_days('s.last_day')}) / ({_GAP})"),
    # baskets
    _behaviour("basket_value", "money", "mean amount of an order, returns aside",
               f"{_share('s.order_amount_e4', 's.orders')} / 10000"),
    _behaviour("basket_lines", "lines", "mean lines of an order, of those that have lines",
               _share("s.lines", "s.lined_orders")),
    _behaviour("returned_share", "share", "amount of the returns over that of the orders",
               _share("(s.order_amount_e4 - s.amount_e4)", "s.order_amount_e4")),
    _behaviour("returns", "returns", "all returns", _count("s.returns")),
    _behaviour("discount_share", "share", "discounts over what the orders would have come to without them",
               _share("s.discount_e4", "(s.order_amount_e4 + s.discount_e4)")),
    Feature("main_channel", "word", "channel of most orders", "behaviour", "category", "", _SOLD),
    # contacts
    _behaviour("contacts_90", "contacts", "contacts on any channel, notes aside, in the last 90 days",
               _count("i.contacts_90"), _SPOKEN),
    _behaviour("contacts_365", "contacts", "contacts on any channel, notes aside, in the last 365 days",
               _count("i.contacts_365"), _SPOKEN),
    _behaviour("contacts", "contacts", "all contacts on any channel, notes aside", _count("i.contacts"), _SPOKEN),
    _behaviour("complaints_90", "complaints", "complaints in the last 90 days", _count("i.complaints_90"), _SPOKEN),
    _behaviour("complaints_365", "complaints", "complaints in the last 365 days", _count("i.complaints_365"), _SPOKEN),
    _behaviour("complaints", "complaints", "all complaints", _count("i.complaints"), _SPOKEN),
    _behaviour("visits_365", "visits", "visits in the last 365 days", _count("i.visits_365"), _SPOKEN),
    _behaviour("calls_365", "calls", "calls in the last 365 days", _count("i.calls_365"), _SPOKEN),
    _behaviour("contact_days", "days", "since the last contact", _days("i.last_contact"), _SPOKEN),
    # profit
    _behaviour("margin", "money", "net sales less cost, of sales whose cost is known", _MARGIN),
    _behaviour("margin_365", "money", "margin of the sales of the last 365 days", _MARGIN_365),
    _behaviour("cost_known_share", "share", "sales whose cost is known", _share("s.costed", "(s.orders + s.returns)")),
    _behaviour("cost_to_serve", "money", "visits, with the drive from the nearest place of ours, and calls at the cost "
               "of each", _TO_SERVE, _DRIVEN),
    _behaviour("cost_to_serve_365", "money", "cost to serve of the last 365 days", _TO_SERVE_365, _DRIVEN),
    _behaviour("profit", "money", "margin less cost to serve", f"({_MARGIN}) - {_TO_SERVE}", _DRIVEN),
    _behaviour("profit_365", "money", "profit of the last 365 days", f"({_MARGIN_365}) - {_TO_SERVE_365}", _DRIVEN),
    # what models of customer value take in (Fader, Hardie and Lee 2005), purchases of a day taken together
    _behaviour("repeat_frequency", "days", "purchase days after the first",
               "CASE WHEN s.orders > 0 THEN s.purchase_days - 1 END"),
    _behaviour("recency_weeks", "weeks", "from the first purchase day to the last",
               "CAST(s.last_day - s.first_day AS double precision) / 7"),
    _behaviour("t_weeks", "weeks", "from the first purchase day to the cutoff",
               f"CAST({_days('s.first_day')} AS double precision) / 7"),
    _behaviour("mean_repeat_value", "money", "mean amount of a purchase day after the first, returns aside",
               f"{_share('(s.order_amount_e4 - s.first_day_amount_e4)', '(s.purchase_days - 1)')} / 10000"),
    # what could become of them
    Feature("freshness_days", "days", "since we last learnt anything: an order, a contact or a note", "potential",
            sql=_days("greatest(s.last_day, i.last_note)"), reads=_BOTH),
    Feature("sector_growth", "share", "growth of the net sales to all others of the industry, last 365 days over the "
            "365 before, less 1", "potential", sql=_SECTOR, reads=("sales", "sectors")),
    Feature("region_growth", "share", "the same of all others of the state, province or canton of the primary site",
            "potential", sql=_HOME_GROWTH, reads=("sales", "home", "regions")),
    Feature("share_of_wallet", "share", "net sales of the last 365 days over what nine in ten buyers of the same kind, "
            "industry and size stay below; from 20 such buyers on", "potential", sql=_WALLET_SHARE,
            reads=("sales", "peers")),
)  # fmt: skip
"""All features of fixed names. Families beside them: `channel_share.NAME` (orders by this channel),
`category_share.NAME` (amount of lines of this product category) and `attributes.NAME` (a field of a customer's
attributes: a number where all are numbers, else a word). `channel_share.*` and `category_share.*` stand for all of the
cutoff."""


def _place(name: str, unit: str, meaning: str) -> Feature:
    return Feature(name, unit, meaning, "place")


PLACE_FEATURES: Final[tuple[Feature, ...]] = (
    _place("location_precision_m", "metres", "radius that holds the true point of the primary site in 95 % of cases"),
    _place("own_shop_m", "metres", "to the nearest own shop, as the crow flies"),
    _place("competitor_m", "metres", "to the nearest competitor, as the crow flies"),
    _place("own_shops_near", "shops", "own shops within 10 km"),
    _place("competitors_near", "shops", "competitors within 10 km"),
    _place("shop_density", "shops/km²", "shops of ours and of competitors within 25 km, by area of the circle"),
    _place("neighbours_sales_365", "money", "mean net sales of the last 365 days of the up to 30 nearest other buyers "
           "within 5 km"),
    _place("neighbours_left", "share", "those of these neighbours without an order in the last 365 days, of those with "
           "one in the 365 days before"),
    _place("neighbours_growth", "share", "net sales to these neighbours in the last 365 days over the 365 before, "
           "less 1"),
    _place("urbanity", "logarithm", "log10(1 + people per km² around), from towns and their inhabitants"),
    _place("population_density", "people/km²", "population of the smallest reference area that has it, by its size"),
    _place("local_penetration", "customers/1,000 people", "other buyers in that area by its population"),
)  # fmt: skip
"""Features of where customers are, given by `surroundings.Surroundings`; beside them `area.NAME`, a number among the
attributes of the smallest reference area that has it, such as `area.income`."""

_BY_NAME: Final = {feature.name: feature for feature in (*FEATURES, *PLACE_FEATURES)}


@dataclass(frozen=True)
class Cutoff:
    """Statistics that stand in the database, as a reader needs them; `added`: some are to be put together."""

    id: int
    moment: datetime
    currency: str
    channels: tuple[str, ...]
    categories: tuple[str, ...]
    version: int
    schema: str
    added: bool

    @property
    def end_day(self) -> datetime:
        """The last day with moments before the cutoff: days are counted to it."""
        return (self.moment - timedelta(microseconds=1)).replace(hour=0, minute=0, second=0, microsecond=0)

    def statistics(self, *, chunk: bool) -> str:
        """The query of `statistics.folded` for this cutoff."""
        return statistics.folded(self.schema, len(self.channels), len(self.categories), added=self.added, chunk=chunk)

    def binds(self) -> dict[str, Any]:
        """The values that its queries bind."""
        return {
            "cutoff": self.moment,
            "cutoff_id": self.id,
            "end_day": self.end_day.date(),
            "from_90": self.moment - timedelta(days=90),
            "from_365": self.moment - timedelta(days=365),
        }


def get_cutoff(session: Session, cutoff: datetime, *, as_reader: bool = False) -> Cutoff:
    """The statistics at a cutoff; raises NotFound where none were made."""
    moment = statistics.cutoff_moment(cutoff)
    row = session.execute(text(named(SQL, "cutoff")), {"cutoff": moment}).one_or_none()
    if row is None:
        raise NotFound(f"There are no statistics of customers at {moment.isoformat()}: make them by a refresh first.")
    schema = "visible" if as_reader else "public"
    added = session.scalar(text(named(SQL, "has_added").replace("{schema}", schema)), {"cutoff_id": row.id})
    return Cutoff(
        row.id,
        row.cutoff.astimezone(UTC),
        row.currency,
        tuple(row.channels),
        tuple(row.categories),
        row.version,
        schema,
        bool(added),
    )


def find_features(session: Session, cutoff: Cutoff, names: Sequence[str]) -> list[Feature]:
    """The features of these names, families resolved; raises `errors.Invalid` for unknown ones, naming all."""
    found: list[Feature] = []
    for name in names:
        family, _, member = name.partition(".")
        if not member:
            if name not in _BY_NAME:
                raise Invalid(f"There is no feature {name!r}; there are {', '.join(_BY_NAME)}.")
            found.append(_BY_NAME[name])
        elif family == "attributes":
            found.append(_attribute(session, member))
        elif family == "area":
            found.append(_place(name, "number", f"the attribute {member} of the smallest reference area that has it"))
        elif family in ("channel_share", "category_share"):
            there = cutoff.channels if family == "channel_share" else cutoff.categories
            wanted = there if member == "*" else (member,)
            if missing := [one for one in wanted if one not in there]:
                said = ", ".join(there) or "none"
                raise Invalid(f"Before this cutoff there is no {family.split('_')[0]} {missing[0]!r}; there is {said}.")
            found += [_member(family, one, there) for one in wanted]
        else:
            raise Invalid(
                f"There is no family of features {family!r}: channel_share, category_share, attributes and area are."
            )
    return list({feature.name: feature for feature in found}.values())


def read_features(
    session: Session,
    cutoff: datetime,
    names: Sequence[str],
    *,
    customer_id: int | None = None,
    between: tuple[int, int] | None = None,
    as_reader: bool = False,
    costs: ServingCosts | None = None,
    chunk_rows: int = 100_000,
    place: Callable[[Ids], pd.DataFrame] | None = None,
) -> Iterator[pd.DataFrame]:
    """Features of customers in frames of at most `chunk_rows`, by id: index customer_id (int64), columns in the order
    of `names`, float64 (NaN: not known) or categorical. Erased customers are left out. Memory is that of one chunk.

    `customer_id`: of one customer alone; `between`: of those with ids from … to. `as_reader`: through row security,
    what the user sees in whose context the session stands; without it the session is the worker's, and all are read.
    `place` answers, for the customers of a chunk, a frame of the features of kind place among the names. The session
    may be used between two chunks.

    Raises NotFound where there are no statistics at the cutoff, `errors.Invalid` for an unknown feature, and
    `errors.TryAgain` where the statistics are refreshed while they are read.
    """
    if chunk_rows < 1:
        raise Invalid("chunk_rows: expected a number of customers of at least 1")
    present = get_cutoff(session, cutoff, as_reader=as_reader)
    features = find_features(session, present, names)
    placed = [feature.name for feature in features if feature.kind == "place"]
    if placed and place is None:
        raise Invalid(f"Features of place are given beside the others: {', '.join(placed)}.")
    reading = _Reading(session, present, [f for f in features if f.kind != "place"], costs or ServingCosts())
    first, last = between or ((0, 2**62) if customer_id is None else (customer_id, customer_id))
    after = first - 1
    while (upto := _next(session, after, last, chunk_rows)) is not None:
        frame = reading.read(after, upto)
        if session.scalar(text(named(SQL, "version")), {"cutoff_id": present.id}) != present.version:
            raise TryAgain("The statistics of customers were refreshed while they were read.")
        if place is not None and placed:
            frame = frame.join(place(frame.index.to_numpy())[placed])
        yield frame[[feature.name for feature in features]]
        after = upto


def _next(session: Session, after: int, last: int, rows: int) -> int | None:
    values = {"after": after, "last": last, "rows": rows}
    upto = session.scalar(text(named(SQL, "chunk")), values)
    return None if upto is None else int(upto)


def _packed(
    session: Session,
    query: str,
    columns: Sequence[str],
    values: Mapping[str, Any],
    ids: tuple[int, int],
    *,
    as_reader: bool = False,
) -> dict[str, NDArray[np.float64]]:
    """Columns of a query that binds `after` and `upto`, none of them NULL: each packed into bytes by the database,
    ranges of many customers side by side. Numbers to 2⁵³ are exact."""
    after, upto = ids
    parts = min(max(-(-(upto - after) // ROWS_AT_ONCE), 1), 1_000)
    edges = [after + (upto - after) * i // parts for i in range(parts + 1)]
    fields = ", ".join(f"CAST({name} AS double precision)" for name in columns)
    queries, bound = [], dict(values)
    for i in range(parts):
        names = {"after": f"after_{i}", "upto": f"upto_{i}", "part": f"part_{i}"}
        packed = f"SELECT CAST(:part AS integer), string_agg(array_send(ARRAY[{fields}]), '') FROM ({query}) AS q"
        queries.append(re.sub(r":(after|upto|part)\b", lambda found: f":{names[found[1]]}", packed))  # noqa: B023
        bound |= {names["after"]: edges[i], names["upto"]: edges[i + 1], names["part"]: i}
    layout = np.dtype([("head", ">i4", (5,)), *((name, [("size", ">i4"), ("value", ">f8")]) for name in columns)])
    read: dict[int, list[NDArray[np.float64]]] = {}
    statement = for_driver(" UNION ALL ".join(queries))
    used = {name: value for name, value in bound.items() if f"%({name})s" in statement}
    with (
        expecting_many_rows(session) if as_reader else side_by_side(session) if parts > 1 else nullcontext(),
        driver(session).cursor(binary=True) as cursor,
    ):
        for part, packed_rows in cursor.stream(statement, used):
            rows = np.frombuffer(packed_rows or b"", layout)
            read[part] = [rows[name]["value"].astype(np.float64) for name in columns]
    return {name: np.concatenate([read[part][i] for part in sorted(read)]) for i, name in enumerate(columns)}


class _Reading:
    """The query of one reading, and what it answers as frames."""

    def __init__(self, session: Session, cutoff: Cutoff, features: list[Feature], costs: ServingCosts) -> None:
        self._session = session
        self._reader = cutoff.schema == "visible"
        self._features: list[Feature] = []
        self._words: dict[str, list[str]] = {}
        self._values = cutoff.binds() | {"cost_of_visit": costs.visit, "cost_of_call": costs.call}
        fields = []
        for number, feature in enumerate(features):
            expression = feature.sql
            if feature.dtype == "category":
                expression = self._coded(cutoff, feature, number)
            elif feature.name.startswith("attributes."):
                self._values[f"key_{number}"] = feature.name.partition(".")[2]
                expression = expression.replace(":key", f":key_{number}")
            fields.append(f"coalesce(CAST({expression} AS double precision), 'NaN') AS f{number}")
            self._features.append(feature)
        parts = {part for feature in features for part in feature.reads}
        for part, key in (("sectors", "c.industry"), ("regions", REGION)):
            if part in parts:
                self._add_growth(cutoff, part, key)
        if "peers" in parts:
            self._add_peers(cutoff)
        self._costs = costs
        self._drives = list(_DRIVES) if any(feature.name in _TRIPS for feature in features) else []
        if self._drives:
            fields += [f"coalesce(CAST({_DRIVES[name]} AS double precision), 'NaN') AS {name}" for name in self._drives]
            bases = session.execute(text(named(SQL, "bases")), {"end_day": cutoff.end_day.date()}).all()
            self._bases = np.array([(row.lon, row.lat) for row in bases], dtype=np.float64).reshape(-1, 2)
        joined = ("sales", "interactions", "children", "depth", "home")
        joins = [named(SQL, f"part_{part}") for part in joined if part in parts]
        statement = (
            named(SQL, "read")
            .replace("{parts}", "\n".join(joins))
            .replace(", {fields}", "".join(f", {f}" for f in fields))
        )
        statement = statement.replace("{statistics}", cutoff.statistics(chunk=True)).replace("{schema}", cutoff.schema)
        self._query = statement

    def read(self, after: int, upto: int) -> pd.DataFrame:
        """The customers from beyond `after` to `upto`."""
        numbers = ["id", *(f"f{number}" for number in range(len(self._features))), *self._drives]
        rows = _packed(self._session, self._query, numbers, self._values, (after, upto), as_reader=self._reader)
        self._add_drives(rows)
        ids = rows["id"].astype(np.int64)
        order = None if (ids[1:] > ids[:-1]).all() else np.argsort(ids)
        columns: dict[str, Any] = {}
        for number, feature in enumerate(self._features):
            column = rows[f"f{number}"] if order is None else rows[f"f{number}"][order]
            if feature.dtype == "category":
                codes = np.where(np.isnan(column), 0, column).astype(np.int32) - 1
                columns[feature.name] = pd.Categorical.from_codes(codes, categories=self._words[feature.name])
            else:
                columns[feature.name] = column
        return pd.DataFrame(columns, index=pd.Index(ids if order is None else ids[order], name="customer_id"))

    def _add_drives(self, rows: dict[str, Floats]) -> None:
        """Put the drives to who was visited into the features of cost and profit."""
        if not self._drives:
            return
        distance = np.full(len(rows["id"]), np.nan)
        visited = np.flatnonzero(rows["visits"] > 0)
        distance[visited] = nearest_place(rows["lon"][visited], rows["lat"][visited], *self._bases.T).distance_m
        trip = self._costs.trip(distance)
        for number, feature in enumerate(self._features):
            if feature.name in _TRIPS:
                visits, sign = _TRIPS[feature.name]
                rows[f"f{number}"] = rows[f"f{number}"] + sign * trip * rows[visits]

    def _coded(self, cutoff: Cutoff, feature: Feature, number: int) -> str:
        """An expression for the place of a word among the words of the feature, from 1."""
        if feature.name == "main_channel":
            self._words[feature.name] = list(cutoff.channels)
            if not cutoff.channels:
                return "CAST(NULL AS integer)"
            most = f"greatest({', '.join(f's.channel_orders[{i}]' for i in range(1, len(cutoff.channels) + 1))})"
            return f"array_position(s.channel_orders, nullif({most}, 0))"
        key = feature.name.partition(".")[2]
        field = feature.sql.replace(":key", f":key_{number}")
        values: dict[str, Any] = {"limit": MOST_WORDS + 1} | ({f"key_{number}": key} if key else {})
        words = list(self._session.scalars(text(named(SQL, "words").replace("{field}", field)), values))
        if len(words) > MOST_WORDS:
            raise Invalid(f"{feature.name} has more than {MOST_WORDS:,} different values: it groups nobody.")
        self._words[feature.name] = words
        self._values |= {f"words_{number}": words} | ({f"key_{number}": key} if key else {})
        return f"array_position(CAST(:words_{number} AS text[]), {field})"

    def _add_growth(self, cutoff: Cutoff, part: str, key: str) -> None:
        statement = named(SQL, "growth").replace("{key}", key).replace("{home}", named(SQL, "part_home"))
        rows = self._of_all(cutoff, statement)
        self._values |= {
            f"{part}_names": [row.key for row in rows],
            f"{part}_last": [float(row.last_year) for row in rows],
            f"{part}_before": [float(row.year_before) for row in rows],
        }

    def _add_peers(self, cutoff: Cutoff) -> None:
        values = {"wallet": WALLET, "least": LEAST_PEERS}
        rows = self._of_all(cutoff, named(SQL, "wallets").replace("{key}", PEERS), values)
        self._values |= {"peers_names": [row.key for row in rows], "peers_wallet": [float(row.wallet) for row in rows]}

    def _of_all(self, cutoff: Cutoff, statement: str, values: Mapping[str, Any] | None = None) -> Sequence[Row[Any]]:
        statement = statement.replace("{statistics}", cutoff.statistics(chunk=False)).replace("{schema}", cutoff.schema)
        return self._session.execute(text(statement), {"cutoff_id": cutoff.id} | dict(values or {})).all()


def _member(family: str, member: str, there: Sequence[str]) -> Feature:
    place = there.index(member) + 1
    if family == "channel_share":
        share, meaning = _share(f"s.channel_orders[{place}]", "s.orders"), f"orders by the channel {member}"
    else:
        total = " + ".join(f"s.category_amounts_e4[{i}]" for i in range(1, len(there) + 1))
        share = _share(f"s.category_amounts_e4[{place}]", f"({total})")
        meaning = f"amount of order lines in the category {member}"
    return Feature(f"{family}.{member}", "share", meaning, "behaviour", "float64", share, _SOLD)


def _attribute(session: Session, key: str) -> Feature:
    number = bool(session.scalar(text(named(SQL, "are_numbers")), {"key": key}))
    feature = Feature(
        f"attributes.{key}",
        "word",
        f"the attribute {key}",
        "identity",
        "category",
        "c.attributes ->> CAST(:key AS text)",
    )
    if not number:
        return feature
    value = "CAST(nullif(c.attributes -> CAST(:key AS text), 'null') AS double precision)"
    return replace(feature, unit="number", dtype="float64", sql=value)


# --- what methods need of all customers, without a frame of all ---


def rfm_cuts(session: Session, cutoff: datetime) -> rfm.RfmCuts:
    """The cuts of `rfm.cut_by_quantiles` for all customers with an order before the cutoff, exactly; in memory are
    three numbers for each. Raises `errors.TooLittleData` where nobody ordered."""
    recency, orders, amount = _of_buyers(session, cutoff, "recency")
    if not len(recency):
        raise TooLittleData("RFM needs at least one customer with an order before the cutoff.")
    return rfm.RfmCuts(
        recency=rfm.quantile_cuts(*np.unique(recency, return_counts=True), less_is_better=True),
        frequency=rfm.quantile_cuts(*np.unique(orders, return_counts=True)),
        monetary=rfm.quantile_cuts(*np.unique(amount, return_counts=True)),
    )


def count_histories(session: Session, cutoff: datetime) -> pd.DataFrame:
    """How many customers have each purchase history: repeat_frequency (purchase days after the first), recency_days
    (first to last), t_days (first to the cutoff), customers; int64. All that BG/NBD and Pareto/NBD take in."""
    columns = ["repeat_frequency", "recency_days", "t_days"]
    made = pd.DataFrame(dict(zip(columns, _of_buyers(session, cutoff, "histories"), strict=True)), dtype=np.int64)
    return made.groupby(columns, as_index=False).size().rename(columns={"size": "customers"})


def _of_buyers(session: Session, cutoff: datetime, query: str) -> list[NDArray[np.float64]]:
    """Columns a, b and c of a query for all customers with an order."""
    present = get_cutoff(session, cutoff)
    statement = named(SQL, query).replace("{statistics}", present.statistics(chunk=True))
    lowest, highest = session.execute(text(named(SQL, "ids"))).one()
    edges = [*range(lowest - 1, highest, max(IDS_AT_ONCE, (highest - lowest) // 1_000)), highest]
    read = [_packed(session, statement, ["a", "b", "c"], present.binds(), ids) for ids in pairwise(edges)]
    if session.scalar(text(named(SQL, "version")), {"cutoff_id": present.id}) != present.version:
        raise TryAgain("The statistics of customers were refreshed while they were read.")
    return [np.concatenate([np.zeros(0), *(part[name] for part in read)]) for name in ("a", "b", "c")]
