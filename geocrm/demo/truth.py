"""What is true in the demo company: the numbers the generator works with, for checking analyses against.

The truth is on purpose not of any simple model's form: rates are mixtures of log-normals that also depend on place,
customers leave by season and tenure and not at a constant rate, orders come in clumps, distance works through two kinds
of travellers, and a wet spring and a new competitor overlap with the campaign. docs/methods/demo-company.md tells it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

UNTIL = date(2026, 11, 15)  # the last day of the demo company's books, unless told otherwise
YEARS = 3


@dataclass(frozen=True)
class Group:
    """A behaviour group. Rates are orders a year while a customer; months run January … December."""

    name: str
    kind: str
    share: float  # among its kind, before the pull of place
    rate: float  # median of the log-normal
    spread: float  # its sigma
    season: tuple[float, ...]  # relative, by month
    categories: tuple[float, ...]  # Hike & Camp, Climb, Ride, Snow, Clothing & Footwear, Service & Rental
    lines: float  # mean of lines beyond the first
    leave_per_year: float  # hazard of leaving, yearly mean
    leave_season: tuple[float, ...]  # relative, by month
    channels: tuple[float, float, float, float]  # shop, web, phone, trade


GROUPS = (
    Group("weekend hikers", "person", 0.34, 1.1, 0.65, (0.6, 0.6, 0.8, 1.1, 1.4, 1.5, 1.4, 1.2, 1.0, 0.8, 0.7, 1.1),
          (0.46, 0.05, 0.06, 0.05, 0.33, 0.05), 0.6, 0.22, (1.0,) * 12, (0.56, 0.41, 0.03, 0.0)),
    Group("ski families", "person", 0.20, 1.3, 0.5, (1.9, 1.5, 1.1, 0.4, 0.3, 0.3, 0.3, 0.5, 0.8, 1.3, 1.8, 2.2),
          (0.07, 0.02, 0.05, 0.43, 0.25, 0.18), 0.9, 0.30,
          (0.3, 0.3, 0.8, 4.2, 3.6, 1.1, 0.5, 0.3, 0.3, 0.3, 0.2, 0.1), (0.68, 0.28, 0.04, 0.0)),
    Group("riders", "person", 0.14, 1.6, 0.8, (0.5, 0.6, 1.1, 1.6, 1.7, 1.5, 1.3, 1.1, 0.9, 0.6, 0.5, 0.7),
          (0.08, 0.03, 0.51, 0.05, 0.14, 0.19), 0.55, 0.26,
          (0.6, 0.5, 0.4, 0.4, 0.5, 0.7, 0.9, 1.2, 2.0, 2.3, 1.6, 0.9), (0.5, 0.47, 0.03, 0.0)),
    Group("climbers", "person", 0.08, 3.4, 0.55, (0.8, 0.8, 1.1, 1.3, 1.2, 1.0, 0.9, 0.9, 1.2, 1.2, 0.8, 0.9),
          (0.17, 0.5, 0.04, 0.1, 0.16, 0.03), 0.5, 0.14, (1.0,) * 12, (0.63, 0.35, 0.02, 0.0)),
    Group("bargain hunters", "person", 0.14, 0.95, 0.7, (2.4, 0.6, 0.4, 0.4, 0.6, 0.6, 0.7, 2.3, 0.7, 0.5, 2.3, 0.6),
          (0.24, 0.06, 0.1, 0.2, 0.37, 0.03), 0.9, 0.42, (1.0,) * 12, (0.35, 0.64, 0.01, 0.0)),
    Group("gift givers", "person", 0.10, 0.7, 0.45, (0.4, 0.6, 0.4, 0.4, 0.9, 1.3, 0.6, 0.4, 0.4, 0.7, 2.4, 4.9),
          (0.2, 0.05, 0.07, 0.12, 0.53, 0.03), 0.5, 0.35, (3.4, 1.6, 0.7, 0.6, 0.6, 0.7, 0.7, 0.7, 0.7, 0.7, 0.6, 0.4),
          (0.42, 0.54, 0.04, 0.0)),
    Group("trade", "organisation", 0.53, 3.9, 0.75, (0.6, 0.8, 1.3, 1.7, 1.6, 0.9, 0.7, 0.8, 1.2, 1.5, 1.1, 0.6),
          (0.3, 0.12, 0.14, 0.2, 0.16, 0.08), 2.0, 0.11, (0.6, 0.7, 1.2, 1.4, 0.8, 0.6, 0.7, 1.0, 1.6, 1.7, 1.0, 0.7),
          (0.08, 0.27, 0.17, 0.48)),
    Group("institutions", "organisation", 0.47, 2.1, 0.6, (0.5, 0.7, 0.9, 1.1, 1.7, 1.6, 0.7, 2.0, 1.6, 0.8, 0.6, 0.4),
          (0.28, 0.11, 0.11, 0.15, 0.27, 0.08), 1.6, 0.09, (0.5, 0.5, 0.6, 0.7, 1.2, 3.2, 1.9, 0.9, 0.7, 0.6, 0.6, 0.6),
          (0.14, 0.31, 0.3, 0.25)),
)  # fmt: skip

# category × month: when each category sells, on top of the group's own season
CATEGORY_SEASON = (
    (0.5, 0.5, 0.7, 1.0, 1.5, 1.6, 1.5, 1.2, 0.9, 0.7, 0.6, 0.9),
    (0.9, 0.9, 1.1, 1.2, 1.1, 1.0, 0.9, 0.9, 1.1, 1.1, 0.9, 1.0),
    (0.4, 0.5, 1.1, 1.7, 1.7, 1.5, 1.3, 1.1, 0.9, 0.6, 0.5, 0.7),
    (2.0, 1.5, 0.9, 0.4, 0.1, 0.1, 0.1, 0.3, 0.8, 1.5, 2.0, 2.3),
    (0.9, 0.8, 0.9, 0.9, 0.9, 0.9, 0.9, 1.1, 1.1, 1.2, 1.3, 1.5),
    (1.3, 1.0, 1.2, 1.5, 1.3, 1.0, 0.9, 0.8, 0.7, 1.0, 1.4, 1.3),
)


@dataclass(frozen=True)
class Pull:
    """How distance works. Two kinds of travellers, so that no single decay curve fits."""

    near_share: float = 0.72  # travellers who stay close; the others drive to the shop they like
    near_scale_km: float = 8.5  # exp(-(d / scale) ^ shape)
    near_shape: float = 0.9
    far_scale_km: float = 22.0  # (1 + d / scale) ^ -power
    far_power: float = 1.9
    size_power: float = 0.8  # of the floor area
    rate_elasticity: float = 0.33  # a customer's order rate against access to own shops, net of competitors'
    shop_channel: float = 0.45  # log-odds of buying in the shop against the same access
    leave_far: float = 0.22  # log of the hazard of leaving, per unit of poorer access
    taste: float = 0.35  # sigma of each customer's own liking of each shop: makes it no plain Huff model


@dataclass(frozen=True)
class Bump:
    """A smooth hill of liking: adds to the log-odds of a group, falling off with distance like a normal curve."""

    name: str
    group: str
    lon: float
    lat: float
    width_km: float
    height: float


BUMPS = (
    Bump("Flatirons", "climbers", -105.29, 40.01, 28, 1.5),
    Bump("Cottonwood Canyons", "climbers", -111.75, 40.62, 24, 1.2),
    Bump("Indian Creek and Moab", "climbers", -109.55, 38.45, 55, 1.6),
    Bump("Summit County", "ski families", -106.05, 39.55, 45, 1.4),
    Bump("Wasatch Back", "ski families", -111.45, 40.62, 32, 1.3),
    Bump("Tetons", "ski families", -110.8, 43.5, 50, 1.2),
    Bump("Enchanted Circle", "ski families", -105.5, 36.5, 38, 1.0),
    Bump("Grand Valley trails", "riders", -108.65, 39.1, 35, 1.4),
    Bump("Hurricane Mesa", "riders", -113.3, 37.2, 40, 1.1),
    Bump("Gallup trails", "riders", -108.7, 35.5, 45, 0.9),
)


@dataclass(frozen=True)
class Campaign:
    """The past regional campaign: which counties, when, what it brought, and what happened beside it."""

    name: str = "Ride into Spring"
    counties: tuple[str, ...] = (
        "Mesa CO", "Garfield CO", "Delta CO", "Montrose CO", "Gunnison CO", "Eagle CO", "La Plata CO", "Montezuma CO",
        "Utah UT", "Davis UT", "Weber UT", "Cache UT", "Summit UT", "Wasatch UT", "Washington UT", "Iron UT",
        "Grand UT",
    )  # fmt: skip
    start_month_day: tuple[int, int] = (3, 15)  # of the year before the last
    weeks: int = 11
    categories: tuple[str, ...] = ("Ride", "Service & Rental")
    lift: float = 0.38  # mean extra orders in these categories while it runs, relative
    lift_spread: float = 0.5  # sigma of a log-normal over customers: some do not react at all
    reacting: float = 0.7
    ramp_weeks: float = 2.0
    afterglow_weeks: float = 3.0  # half-life after its end
    pulled_forward: float = 0.12  # fall of these customers' orders in the eight weeks after the end
    spill_km: float = 25.0  # spill-over: a quarter of the effect next door, fading over this distance
    spill_share: float = 0.25
    wet_spring: float = -0.14  # fall of Ride and Hike & Camp in April and May of that year …
    wet_states: tuple[str, ...] = ("CO", "WY")  # … in these states, treated or not
    rival_km: float = 40.0  # a competitor opened in Grand Junction during the campaign: loss within this distance
    rival_loss: float = 0.17


@dataclass(frozen=True)
class Truth:
    """Everything the generator works with."""

    groups: tuple[Group, ...] = GROUPS
    pull: Pull = field(default_factory=Pull)
    bumps: tuple[Bump, ...] = BUMPS
    campaign: Campaign = field(default_factory=Campaign)
    potential: dict[str, float] = field(default_factory=lambda: {"person": 0.22, "organisation": 0.31})
    organisations: float = 0.12
    known_before: float = 0.58  # of the customers were so when the books begin
    clump: float = 0.13  # an order is followed by another within two weeks
    tenure_shape: float = 0.75  # the hazard of leaving falls with tenure ^ (shape - 1): the loyal stay
    growth: float = 0.06  # rates grow each year by
    inflation: float = 0.031  # prices grow each year by
    weather_spread: float = 0.08  # sigma of a shock common to all customers of a state, per week

    def to_json(self) -> dict[str, Any]:
        """The truth as JSON values."""
        return asdict(self)
