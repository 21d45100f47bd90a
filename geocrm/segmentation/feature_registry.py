"""The registry of features of customers: each with its unit, its meaning and how it is made.

A feature is made from arrays: statistics of sales (`sales_statistics`), and fields of the database, each an SQL
expression over c (customers) and what FIELDS names beside. Days are whole, in UTC, counted from 2000-01-01.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geocrm.segmentation.sales_statistics import NO_DAY, Columns

Kind = Literal["identity", "behaviour", "place", "potential"]
Part = Literal["", "interactions", "children", "depth", "home"]
Ids = NDArray[np.int64]
Floats = NDArray[np.float64]


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


class Others(NamedTuple):
    """What the customers of each key bought in the last 365 days and in the 365 before, in ten-thousandths; or, as
    `last_year`, what stands for them: arrays by the place of the key."""

    last_year: Floats
    year_before: Floats


@dataclass
class Chunk:
    """What is known of some customers: `ids`, ascending; `sums`, statistics of those who bought, ascending by id;
    `fields` by name, NaN where there is none, in the order of `ids`. `others` are those of a sector, region or peers,
    to whom a field of that name points from 1 on."""

    ids: Ids
    sums: Columns
    fields: Mapping[str, Floats]
    end_day: int
    costs: ServingCosts = field(default_factory=ServingCosts)
    others: Mapping[str, Others] = field(default_factory=dict)

    def __post_init__(self) -> None:
        held = self.sums["customer_id"]
        at = np.searchsorted(held, self.ids)
        self.bought = at < len(held)
        self.bought[self.bought] = held[at[self.bought]] == self.ids[self.bought]
        self._at = at[self.bought]
        self._made: dict[str, Floats] = {}

    def sold(self, name: str) -> Floats:
        """A statistic, 0 for who never bought. (n,)"""
        if name not in self._made:
            made = np.zeros(len(self.ids))
            made[self.bought] = self.sums[name][self._at]
            self._made[name] = made
        return self._made[name]

    def group(self, name: str) -> NDArray[np.int64]:
        """A statistic by channel or category. (n, channels) or (n, categories)"""
        made = np.zeros((len(self.ids), self.sums[name].shape[1]), np.int64)
        made[self.bought] = self.sums[name][self._at]
        return made

    def day(self, name: str) -> Floats:
        """The first or last day with an order; NaN for who never ordered. (n,)"""
        if name not in self._made:
            made = np.full(len(self.ids), np.nan)
            days = self.sums[name][self._at].astype(np.float64)
            made[self.bought] = np.where(days == NO_DAY, np.nan, days)
            self._made[name] = made
        return self._made[name]

    def money(self, name: str) -> Floats:
        """A sum of amounts, in the currency of the cutoff. (n,)"""
        return self.sold(name) / 10_000


class Field(NamedTuple):
    """A number of the database: its expression, and what is joined for it (named queries `part_…`)."""

    sql: str
    part: Part = ""


@dataclass(frozen=True)
class Feature:
    """One column of a frame of features.

    `of` makes it from a chunk, of whose fields it takes those in `reads`; of a categorical feature the place of the
    word among the words, from 1, NaN for none. Without `of`, `sql` is its own expression over c (customers): of a
    categorical feature the word. A feature of place has neither: those are given beside."""

    name: str
    unit: str
    meaning: str
    kind: Kind
    dtype: Literal["float64", "category"] = "float64"
    of: Callable[[Chunk], Floats] | None = None
    reads: tuple[str, ...] = ()
    sql: str = ""


REGION: Final = "h.country || ' ' || h.region"
PEERS: Final = "concat_ws(' · ', c.kind, coalesce(c.industry, ''), coalesce(c.size_class, ''))"
"""Like customers: of the same kind, industry and size."""
LEAST_PEERS: Final = 20
"""Buyers of the last 365 days from which on like customers tell what one could spend."""
WALLET: Final = 0.9
"""The quantile of like customers' spending that stands for what a customer could spend: wallets are estimated by high
conditional quantiles (Perlich, Rosset, Lawrence and Zadrozny 2007, "High-quantile modeling for customer wallet
estimation and other applications", KDD)."""

_INTERACTIONS: Final = (
    *("contacts", "contacts_90", "contacts_365", "complaints", "complaints_90", "complaints_365"),
    *("visits", "visits_365", "calls", "calls_365"),
)
FIELDS: Final[dict[str, Field]] = {
    "is_organisation": Field("CASE WHEN c.kind = 'organisation' THEN 1 ELSE 0 END"),
    "children": Field("coalesce(k.children, 0)", "children"),
    "depth": Field("coalesce(d.depth, 0)", "depth"),
    **{name: Field(f"coalesce(i.{name}, 0)", "interactions") for name in _INTERACTIONS},
    **{name: Field(f"i.{name} - DATE '2000-01-01'", "interactions") for name in ("last_contact", "last_note")},
    "lon": Field("CASE WHEN h.placement = 'placed' THEN ST_X(h.location) END", "home"),
    "lat": Field("CASE WHEN h.placement = 'placed' THEN ST_Y(h.location) END", "home"),
    "sector": Field("array_position(CAST(:sector_names AS text[]), c.industry)"),
    "region": Field(f"array_position(CAST(:region_names AS text[]), {REGION})", "home"),
    "peers": Field(f"array_position(CAST(:peers_names AS text[]), {PEERS})"),
}
"""Fields that features take; beside them `trip`, what the drive to a customer and back costs, 0 where not known."""
KEYS: Final = {"sector": "c.industry", "region": REGION, "peers": PEERS}
"""Fields that point to others, and the words that these have in common."""
DRIVE: Final = ("trip", "lon", "lat", "visits")


# --- how they are made ---


def _share(part: Floats, whole: Floats) -> Floats:
    """Their ratio where the whole is above 0."""
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _field(name: str) -> Callable[[Chunk], Floats]:
    return lambda k: k.fields[name]


def _sold(name: str) -> Callable[[Chunk], Floats]:
    return lambda k: k.sold(name)


def _money(name: str) -> Callable[[Chunk], Floats]:
    return lambda k: k.money(name)


def _since(name: str) -> Callable[[Chunk], Floats]:
    return lambda k: k.end_day - k.day(name)


def _of(part: str, whole: str, scale: float = 1.0) -> Callable[[Chunk], Floats]:
    return lambda k: _share(k.sold(part), k.sold(whole)) / scale


def _gap(k: Chunk) -> Floats:
    return _share(k.day("last_day") - k.day("first_day"), k.sold("purchase_days") - 1)


def _spread(k: Chunk) -> Floats:
    """The squared variation of gaps: mean of squares ÷ square of mean − 1."""
    gaps = k.sold("purchase_days") - 1
    squares = _share(k.sold("gap_squares"), np.where(gaps > 1, gaps, 0))
    mean_square = _share((k.day("last_day") - k.day("first_day")) ** 2, gaps * gaps)
    return np.maximum(squares / mean_square - 1, 0)


def _returned_share(k: Chunk) -> Floats:
    return _share(k.sold("order_amount_e4") - k.sold("amount_e4"), k.sold("order_amount_e4"))


def _discount_share(k: Chunk) -> Floats:
    return _share(k.sold("discount_e4"), k.sold("order_amount_e4") + k.sold("discount_e4"))


def _margin(k: Chunk) -> Floats:
    made = np.where(k.sold("costed") > 0, k.money("margin_e4"), np.nan)
    return np.where(k.bought, made, 0.0)


def _margin_365(k: Chunk) -> Floats:
    made = np.where(k.sold("costed_365") > 0, k.money("margin_365_e4"), np.nan)
    return np.where(k.sold("orders_365") + k.sold("returns_365") > 0, made, 0.0)


def _to_serve(suffix: str, k: Chunk) -> Floats:
    visits, calls = k.fields[f"visits{suffix}"], k.fields[f"calls{suffix}"]
    return visits * k.costs.visit + calls * k.costs.call + k.fields["trip"] * visits


def _main_channel(k: Chunk) -> Floats:
    orders = k.group("channel_orders")
    if not orders.shape[1]:
        return np.full(len(orders), np.nan)
    return np.where(orders.max(axis=1) > 0, orders.argmax(axis=1) + 1.0, np.nan)


def _mean_repeat_value(k: Chunk) -> Floats:
    repeated = k.sold("order_amount_e4") - k.sold("first_day_amount_e4")
    return _share(repeated, k.sold("purchase_days") - 1) / 10_000


def _pointed(values: Floats, place: Floats) -> Floats:
    """Values by their place from 1 on; NaN for none."""
    made = np.full(len(place), np.nan)
    known = ~np.isnan(place)
    made[known] = values[place[known].astype(np.int64) - 1]
    return made


def _growth_of_others(name: str, k: Chunk) -> Floats:
    place = k.fields[name]
    before = _pointed(k.others[name].year_before, place) - k.sold("amount_year_before_e4")
    last = _pointed(k.others[name].last_year, place) - k.sold("amount_365_e4")
    return _share(last, before) - 1


def _share_of_wallet(k: Chunk) -> Floats:
    return k.sold("amount_365_e4") / _pointed(k.others["peers"].last_year, k.fields["peers"])


def _behaviour(
    name: str, unit: str, meaning: str, of: Callable[[Chunk], Floats], reads: tuple[str, ...] = ()
) -> Feature:
    return Feature(name, unit, meaning, "behaviour", "float64", of, reads)


def _counted(name: str, unit: str, meaning: str, kind: Kind = "behaviour") -> Feature:
    return Feature(name, unit, meaning, kind, "float64", _field(name), (name,))


_SERVED: Final = ("visits", "calls", *DRIVE)
_SERVED_365: Final = ("visits_365", "calls_365", *DRIVE)

FEATURES: Final[tuple[Feature, ...]] = (
    # who they are, as known now
    _counted("is_organisation", "0 or 1", "an organisation, not a person", "identity"),
    Feature("industry", "word", "industry of an organisation", "identity", "category", sql="c.industry"),
    Feature("size_class", "word", "size of an organisation", "identity", "category", sql="c.size_class"),
    Feature("stated_channel", "word", "channel the customer says it prefers", "identity", "category",
            sql="c.preferred_channel"),
    _counted("children", "customers", "customers directly below it in the account hierarchy", "identity"),
    _counted("depth", "levels", "customers above it in the account hierarchy", "identity"),
    # recency, frequency, money
    _behaviour("recency_days", "days", "since the last day with an order", _since("last_day")),
    _behaviour("frequency", "orders", "all orders, returns aside", _sold("orders")),
    _behaviour("monetary_value", "money", "net sales: orders less returns", _money("amount_e4")),
    _behaviour("tenure_days", "days", "since the first day with an order", _since("first_day")),
    _behaviour("orders_90", "orders", "orders in the last 90 days", _sold("orders_90")),
    _behaviour("orders_365", "orders", "orders in the last 365 days", _sold("orders_365")),
    _behaviour("orders_year_before", "orders", "orders in the 365 days before the last 365",
               _sold("orders_year_before")),
    _behaviour("sales_90", "money", "net sales of the last 90 days", _money("amount_90_e4")),
    _behaviour("sales_365", "money", "net sales of the last 365 days", _money("amount_365_e4")),
    _behaviour("sales_year_before", "money", "net sales of the 365 days before the last 365",
               _money("amount_year_before_e4")),
    _behaviour("growth", "share", "net sales of the last 365 days over those of the 365 days before, less 1; only "
               "where there were some", lambda k: _share(k.sold("amount_365_e4"), k.sold("amount_year_before_e4")) - 1),
    # rhythm
    _behaviour("purchase_days", "days", "different days with an order", _sold("purchase_days")),
    _behaviour("gap_mean_days", "days", "mean between neighbouring purchase days; from two of them on", _gap),
    _behaviour("gap_variation", "ratio", "standard deviation of the days between purchases over their mean: 0 like a "
               "clock, 1 at random; from three purchase days on", lambda k: np.sqrt(_spread(k))),
    _behaviour("gap_typical_days", "days", "median between purchases where their logarithm is normal with this mean "
               "and variation: less moved by one long pause than the mean",
               lambda k: _gap(k) / np.sqrt(1 + _spread(k))),
    _behaviour("overdue_days", "days", "since the last purchase, less its own mean gap: above 0 it is late",
               lambda k: k.end_day - k.day("last_day") - _gap(k)),
    _behaviour("overdue_ratio", "ratio", "since the last purchase over its own mean gap",
               lambda k: (k.end_day - k.day("last_day")) / _gap(k)),
    # baskets
    _behaviour("basket_value", "money", "mean amount of an order, returns aside",
               _of("order_amount_e4", "orders", 10_000)),
    _behaviour("basket_lines", "lines", "mean lines of an order, of those that have lines",
               _of("lines", "lined_orders")),
    _behaviour("returned_share", "share", "amount of the returns over that of the orders",
               _returned_share),
    _behaviour("returns", "returns", "all returns", _sold("returns")),
    _behaviour("discount_share", "share", "discounts over what the orders would have come to without them",
               _discount_share),
    Feature("main_channel", "word", "channel of most orders", "behaviour", "category", _main_channel),
    # contacts
    _counted("contacts_90", "contacts", "contacts on any channel, notes aside, in the last 90 days"),
    _counted("contacts_365", "contacts", "contacts on any channel, notes aside, in the last 365 days"),
    _counted("contacts", "contacts", "all contacts on any channel, notes aside"),
    _counted("complaints_90", "complaints", "complaints in the last 90 days"),
    _counted("complaints_365", "complaints", "complaints in the last 365 days"),
    _counted("complaints", "complaints", "all complaints"),
    _counted("visits_365", "visits", "visits in the last 365 days"),
    _counted("calls_365", "calls", "calls in the last 365 days"),
    _behaviour("contact_days", "days", "since the last contact", lambda k: k.end_day - k.fields["last_contact"],
               ("last_contact",)),
    # profit
    _behaviour("margin", "money", "net sales less cost, of sales whose cost is known", _margin),
    _behaviour("margin_365", "money", "margin of the sales of the last 365 days", _margin_365),
    _behaviour("cost_known_share", "share", "sales whose cost is known",
               lambda k: _share(k.sold("costed"), k.sold("orders") + k.sold("returns"))),
    _behaviour("cost_to_serve", "money", "visits, with the drive from the nearest place of ours, and calls at the cost "
               "of each", partial(_to_serve, ""), _SERVED),
    _behaviour("cost_to_serve_365", "money", "cost to serve of the last 365 days",
               partial(_to_serve, "_365"), _SERVED_365),
    _behaviour("profit", "money", "margin less cost to serve", lambda k: _margin(k) - _to_serve("", k), _SERVED),
    _behaviour("profit_365", "money", "profit of the last 365 days",
               lambda k: _margin_365(k) - _to_serve("_365", k), _SERVED_365),
    # what models of customer value take in (Fader, Hardie and Lee 2005), purchases of a day taken together
    _behaviour("repeat_frequency", "days", "purchase days after the first",
               lambda k: np.where(k.sold("orders") > 0, k.sold("purchase_days") - 1, np.nan)),
    _behaviour("recency_weeks", "weeks", "from the first purchase day to the last",
               lambda k: (k.day("last_day") - k.day("first_day")) / 7),
    _behaviour("t_weeks", "weeks", "from the first purchase day to the cutoff",
               lambda k: (k.end_day - k.day("first_day")) / 7),
    _behaviour("mean_repeat_value", "money", "mean amount of a purchase day after the first, returns aside",
               _mean_repeat_value),
    # what could become of them
    Feature("freshness_days", "days", "since we last learnt anything: an order, a contact or a note", "potential",
            of=lambda k: k.end_day - np.fmax(k.day("last_day"), k.fields["last_note"]), reads=("last_note",)),
    Feature("sector_growth", "share", "growth of the net sales to all others of the industry, last 365 days over the "
            "365 before, less 1", "potential", of=partial(_growth_of_others, "sector"), reads=("sector",)),
    Feature("region_growth", "share", "the same of all others of the state, province or canton of the primary site",
            "potential", of=partial(_growth_of_others, "region"), reads=("region",)),
    Feature("share_of_wallet", "share", "net sales of the last 365 days over what nine in ten buyers of the same kind, "
            "industry and size stay below; from 20 such buyers on", "potential", of=_share_of_wallet,
            reads=("peers",)),
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

BY_NAME: Final = {feature.name: feature for feature in (*FEATURES, *PLACE_FEATURES)}


def channel_share(name: str, place: int) -> Feature:
    """A channel's share of the orders, by its place among those told apart."""

    def of(k: Chunk) -> Floats:
        return _share(k.group("channel_orders")[:, place].astype(np.float64), k.sold("orders"))

    return _behaviour(f"channel_share.{name}", "share", f"orders by the channel {name}", of)


def category_share(name: str, place: int) -> Feature:
    """A category's share of the amount of lines, by its place among those told apart."""

    def of(k: Chunk) -> Floats:
        amounts = k.group("category_amounts_e4")
        return _share(amounts[:, place].astype(np.float64), amounts.sum(axis=1).astype(np.float64))

    return _behaviour(f"category_share.{name}", "share", f"amount of order lines in the category {name}", of)
