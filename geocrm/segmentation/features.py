"""The features of customers at a cutoff, read: `feature_registry` says which there are.

Nothing that happened at the cutoff or later is read: neither sales nor interactions. What has no history (industry,
size, attributes, hierarchy) is as it is known now. Sales come as the sufficient statistics of `statistics.refresh`.
Days are whole, in UTC: from a day to the last one before the cutoff. A customer who never bought has counts and sums of
0, and NaN for what only buyers have. The session is the worker's, and all customers are read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import pandas as pd
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm.db.copying import driver
from geocrm.db.engine import side_by_side
from geocrm.db.queries import for_driver, named
from geocrm.errors import Invalid, NotFound, TooLittleData, TryAgain
from geocrm.segmentation import customer_statistics, rfm, statistics
from geocrm.segmentation.feature_registry import (
    BY_NAME,
    DRIVE,
    FIELDS,
    KEYS,
    LEAST_PEERS,
    WALLET,
    Chunk,
    Feature,
    Floats,
    Ids,
    Others,
    ServingCosts,
    category_share,
    channel_share,
)
from geocrm.segmentation.place import nearest_place
from geocrm.segmentation.sales_statistics import Columns

SQL: Final = "features"
ROWS_AT_ONCE: Final = 25_000
"""Customers, about, whose fields one process of the database reads at once."""
IDS_AT_ONCE: Final = 500_000
"""Customers of whom a pass over all reads the statistics at once."""
MOST_WORDS: Final = 1_000
"""Different words that a categorical feature may have."""


@dataclass(frozen=True)
class Cutoff:
    """Statistics that stand in the database, as a reader needs them."""

    id: int
    moment: datetime
    currency: str
    channels: tuple[str, ...]
    categories: tuple[str, ...]
    version: int

    @property
    def end_day(self) -> datetime:
        """The last day with moments before the cutoff: days are counted to it."""
        return (self.moment - timedelta(microseconds=1)).replace(hour=0, minute=0, second=0, microsecond=0)

    def binds(self) -> dict[str, Any]:
        """The values that its queries bind."""
        return {
            "cutoff": self.moment,
            "cutoff_id": self.id,
            "end_day": self.end_day.date(),
            "from_90": self.moment - timedelta(days=90),
            "from_365": self.moment - timedelta(days=365),
        }


def get_cutoff(session: Session, cutoff: datetime) -> Cutoff:
    """The statistics at a cutoff; raises NotFound where none were made."""
    moment = statistics.cutoff_moment(cutoff)
    row = session.execute(text(named(SQL, "cutoff")), {"cutoff": moment}).one_or_none()
    if row is None:
        raise NotFound(f"There are no statistics of customers at {moment.isoformat()}: make them by a refresh first.")
    channels, categories = tuple(row.channels), tuple(row.categories)
    return Cutoff(row.id, row.cutoff.astimezone(UTC), row.currency, channels, categories, row.version)


def find_features(session: Session, cutoff: Cutoff, names: Sequence[str]) -> list[Feature]:
    """The features of these names, families resolved; raises `errors.Invalid` for unknown ones, naming all."""
    found: list[Feature] = []
    for name in names:
        family, _, of = name.partition(".")
        if not of:
            if name not in BY_NAME:
                raise Invalid(f"There is no feature {name!r}; there are {', '.join(BY_NAME)}.")
            found.append(BY_NAME[name])
        elif family == "attributes":
            found.append(_attribute(session, of))
        elif family == "area":
            meaning = f"the attribute {of} of the smallest reference area that has it"
            found.append(Feature(name, "number", meaning, "place"))
        elif family in ("channel_share", "category_share"):
            made = channel_share if family == "channel_share" else category_share
            there = cutoff.channels if family == "channel_share" else cutoff.categories
            wanted = there if of == "*" else (of,)
            if missing := [one for one in wanted if one not in there]:
                said = ", ".join(there) or "none"
                raise Invalid(f"Before this cutoff there is no {family.split('_')[0]} {missing[0]!r}; there is {said}.")
            found += [made(one, there.index(one)) for one in wanted]
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
    costs: ServingCosts | None = None,
    chunk_rows: int = 100_000,
    place: Callable[[Ids], pd.DataFrame] | None = None,
) -> Iterator[pd.DataFrame]:
    """Features of customers in frames of at most `chunk_rows`, by id: index customer_id (int64), columns in the order
    of `names`, float64 (NaN: not known) or categorical. Erased customers are left out. Memory is that of one chunk.

    `customer_id`: of one customer alone; `between`: of those with ids from … to. `place` answers, for the customers of
    a chunk, a frame of the features of kind place among the names. The session may be used between two chunks.

    Raises NotFound where there are no statistics at the cutoff, `errors.Invalid` for an unknown feature, and
    `errors.TryAgain` where the statistics are refreshed while they are read.
    """
    if chunk_rows < 1:
        raise Invalid("chunk_rows: expected a number of customers of at least 1")
    present = get_cutoff(session, cutoff)
    features = find_features(session, present, names)
    placed = [feature.name for feature in features if feature.kind == "place"]
    if placed and place is None:
        raise Invalid(f"Features of place are given beside the others: {', '.join(placed)}.")
    reading = _Reading(session, present, [f for f in features if f.kind != "place"], costs or ServingCosts())
    first, last = between or ((0, 2**62) if customer_id is None else (customer_id, customer_id))
    for ids in read_ids(session, chunk_rows, after=first - 1, last=last):
        frame = reading.read(ids)
        if place is not None and placed:
            frame = frame.join(place(frame.index.to_numpy())[placed])
        yield frame[[feature.name for feature in features]]


def read_ids(session: Session, rows: int, *, after: int = -1, last: int = 2**62) -> Iterator[Ids]:
    """The customers from beyond `after` to `last`, erased ones aside, ascending and so many at a time."""
    while True:
        with driver(session).cursor(binary=True) as cursor:
            values = {"after": after, "last": last, "rows": rows}
            (packed,) = cursor.execute(for_driver(named(SQL, "ids")), values).fetchone() or (None,)
        if not packed:
            return
        ids = np.frombuffer(packed, ">i8").astype(np.int64)
        yield ids
        after = int(ids[-1])


def read_statistics(session: Session, cutoff: Cutoff, ids: Ids) -> Columns:
    """The statistics of those of these customers who bought, both ascending. Raises `errors.TryAgain` where they were
    refreshed since `cutoff` was read."""
    first, last = (int(ids[0]), int(ids[-1])) if len(ids) else (0, 0)
    widths = {"channels": len(cutoff.channels), "categories": len(cutoff.categories)}
    made = customer_statistics.read(session, cutoff.id, first - 1, last, **widths)
    if session.scalar(text(named(SQL, "version")), {"cutoff_id": cutoff.id}) != cutoff.version:
        raise TryAgain("The statistics of customers were refreshed while they were read.")
    at = np.minimum(np.searchsorted(ids, made["customer_id"]), max(len(ids) - 1, 0))
    held = ids[at] == made["customer_id"]
    return made if held.all() else {name: values[held] for name, values in made.items()}


def _packed(
    session: Session, query: str, columns: Sequence[str], values: Mapping[str, Any], ids: tuple[int, int]
) -> dict[str, Floats]:
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
    read: dict[int, list[Floats]] = {}
    statement = for_driver(" UNION ALL ".join(queries))
    used = {name: value for name, value in bound.items() if f"%({name})s" in statement}
    with side_by_side(session) if parts > 1 else nullcontext(), driver(session).cursor(binary=True) as cursor:
        for part, packed_rows in cursor.stream(statement, used):
            rows = np.frombuffer(packed_rows or b"", layout)
            read[part] = [rows[name]["value"].astype(np.float64) for name in columns]
    return {name: np.concatenate([read[part][i] for part in sorted(read)]) for i, name in enumerate(columns)}


class _Reading:
    """What one reading asks of the database, and what it answers as frames."""

    def __init__(self, session: Session, cutoff: Cutoff, features: list[Feature], costs: ServingCosts) -> None:
        self._session = session
        self._cutoff = cutoff
        self._features = features
        self._costs = costs
        self._words: dict[str, list[str]] = {"main_channel": list(cutoff.channels)}
        self._others: dict[str, Others] = {}
        self._values = cutoff.binds()
        wanted = {name for feature in features for name in feature.reads if name != "trip"}
        fields = {name: FIELDS[name] for name in sorted(wanted)}
        self._own = {feature.name: f"own_{number}" for number, feature in enumerate(features) if feature.sql}
        for name in KEYS.keys() & wanted:
            self._add_others(name)
        self._bases = self._read_bases() if wanted.issuperset(set(DRIVE) - {"trip"}) else np.empty((0, 2))
        named_fields = {name: kept.sql for name, kept in fields.items()}
        named_fields |= {self._own[f.name]: self._own_field(f, self._own[f.name]) for f in features if f.sql}
        self._names = list(named_fields)
        self._query = _query(named_fields, {kept.part for kept in fields.values() if kept.part})

    def read(self, ids: Ids) -> pd.DataFrame:
        """The features of these customers, or of those of them that are still there."""
        fields: dict[str, Floats] = {}
        if self._names:
            fields = _packed(
                self._session, self._query, ["id", *self._names], self._values, (int(ids[0]) - 1, int(ids[-1]))
            )
            ids = fields.pop("id").astype(np.int64)
            order = np.argsort(ids, kind="stable")
            ids, fields = ids[order], {name: values[order] for name, values in fields.items()}
        if "lon" in fields:
            fields["trip"] = self._trips(fields)
        sums = read_statistics(self._session, self._cutoff, ids)
        end_day = statistics.day_number(self._cutoff.end_day.date())
        chunk = Chunk(ids, sums, fields, end_day, self._costs, self._others)
        columns: dict[str, Any] = {}
        for feature in self._features:
            values = feature.of(chunk) if feature.of else fields[self._own[feature.name]]
            if feature.dtype == "category":
                codes = np.where(np.isnan(values), 0, values).astype(np.int32) - 1
                columns[feature.name] = pd.Categorical.from_codes(codes, categories=self._words[feature.name])
            else:
                columns[feature.name] = values
        return pd.DataFrame(columns, index=pd.Index(ids, name="customer_id"))

    def _trips(self, fields: Mapping[str, Floats]) -> Floats:
        """What the drive to each customer and back costs, of those who were visited."""
        distance = np.full(len(fields["lon"]), np.nan)
        visited = np.flatnonzero(fields["visits"] > 0)
        found = nearest_place(fields["lon"][visited], fields["lat"][visited], *self._bases.T)
        distance[visited] = found.distance_m
        return self._costs.trip(distance)

    def _read_bases(self) -> Floats:
        rows = self._session.execute(text(named(SQL, "bases")), {"end_day": self._cutoff.end_day.date()}).all()
        return np.array([(row.lon, row.lat) for row in rows], dtype=np.float64).reshape(-1, 2)

    def _own_field(self, feature: Feature, name: str) -> str:
        """The expression of a feature's own field: a number, or the place of a word among the words, from 1."""
        expression, key = feature.sql, feature.name.partition(".")[2]
        bound: dict[str, Any] = {}
        if key:
            expression = expression.replace(":key", f":key_{name}")
            bound = {f"key_{name}": key}
        self._values |= bound
        if feature.dtype == "float64":
            return expression
        bound |= {"limit": MOST_WORDS + 1}
        words = list(self._session.scalars(text(named(SQL, "words").replace("{field}", expression)), bound))
        if len(words) > MOST_WORDS:
            raise Invalid(f"{feature.name} has more than {MOST_WORDS:,} different values: it groups nobody.")
        self._words[feature.name] = words
        self._values[f"words_{name}"] = words
        return f"array_position(CAST(:words_{name} AS text[]), {expression})"

    def _add_others(self, name: str) -> None:
        """What the customers of each sector, region or kind of peers bought."""
        home = named(SQL, "part_home") if FIELDS[name].part == "home" else ""
        query = named(SQL, "keys").replace("{key}", KEYS[name]).replace("{home}", home)
        keys = list(self._session.scalars(text(query)))
        self._values[f"{name}_names"] = keys
        query = _query({name: FIELDS[name].sql}, {FIELDS[name].part} - {""})
        last, before = np.zeros(len(keys), np.int64), np.zeros(len(keys), np.int64)
        spent: list[tuple[Ids, Ids]] = []
        for ids in read_ids(self._session, IDS_AT_ONCE):
            rows = _packed(self._session, query, ["id", name], self._values, (int(ids[0]) - 1, int(ids[-1])))
            known = ~np.isnan(rows[name])
            order = np.argsort(rows["id"][known])
            sums = read_statistics(self._session, self._cutoff, ids)
            there, at, of = np.intersect1d(
                rows["id"][known][order].astype(np.int64), sums["customer_id"], assume_unique=True, return_indices=True
            )
            place = rows[name][known][order][at].astype(np.int64) - 1
            np.add.at(last, place, sums["amount_365_e4"][of])
            np.add.at(before, place, sums["amount_year_before_e4"][of])
            if name == "peers" and len(there):
                bought = sums["amount_365_e4"][of] > 0
                spent.append((place[bought], sums["amount_365_e4"][of][bought]))
        if name == "peers":
            self._others[name] = Others(_wallets(spent, len(keys)), before.astype(np.float64))
        else:
            self._others[name] = Others(last.astype(np.float64), before.astype(np.float64))


def _query(fields: Mapping[str, str], parts: set[Any]) -> str:
    """The query for fields of the customers of a range."""
    cast = [f"coalesce(CAST({sql} AS double precision), 'NaN') AS {name}" for name, sql in fields.items()]
    joins = "\n".join(named(SQL, f"part_{part}") for part in sorted(parts))
    return named(SQL, "read").replace("{fields}", ", ".join(cast)).replace("{parts}", joins)


def _wallets(spent: Sequence[tuple[Ids, Ids]], keys: int) -> Floats:
    """The high quantile of what the buyers of each key spent, NaN where they are too few to tell. (keys,)"""
    made = np.full(keys, np.nan)
    if spent:
        place, amount = (np.concatenate(parts) for parts in zip(*spent, strict=True))
        order = np.argsort(place, kind="stable")
        place, amount = place[order], amount[order]
        first = np.flatnonzero(np.diff(place, prepend=-1))
        for start, end in zip(first, np.append(first[1:], len(place)), strict=True):
            if end - start >= LEAST_PEERS:
                made[place[start]] = np.quantile(amount[start:end], WALLET)
    return made


def _attribute(session: Session, key: str) -> Feature:
    number = bool(session.scalar(text(named(SQL, "are_numbers")), {"key": key}))
    word = "c.attributes ->> CAST(:key AS text)"
    feature = Feature(f"attributes.{key}", "word", f"the attribute {key}", "identity", "category", sql=word)
    if not number:
        return feature
    value = "CAST(nullif(c.attributes -> CAST(:key AS text), 'null') AS double precision)"
    return replace(feature, unit="number", dtype="float64", sql=value)


# --- what methods need of all customers, without a frame of all ---


def rfm_cuts(session: Session, cutoff: datetime) -> rfm.RfmCuts:
    """The cuts of `rfm.cut_by_quantiles` for all customers with an order before the cutoff, exactly; in memory are
    three numbers for each. Raises `errors.TooLittleData` where nobody ordered."""
    present = get_cutoff(session, cutoff)
    end_day = statistics.day_number(present.end_day.date())
    last, orders, amount = _of_buyers(session, present, ("last_day", "orders", "amount_e4"))
    if not len(last):
        raise TooLittleData("RFM needs at least one customer with an order before the cutoff.")
    return rfm.RfmCuts(
        recency=rfm.quantile_cuts(*np.unique(end_day - last, return_counts=True), less_is_better=True),
        frequency=rfm.quantile_cuts(*np.unique(orders, return_counts=True)),
        monetary=rfm.quantile_cuts(*np.unique(amount / 10_000, return_counts=True)),
    )


def count_histories(session: Session, cutoff: datetime) -> pd.DataFrame:
    """How many customers have each purchase history: repeat_frequency (purchase days after the first), recency_days
    (first to last), t_days (first to the cutoff), customers; int64. All that BG/NBD and Pareto/NBD take in."""
    present = get_cutoff(session, cutoff)
    days, first, last = _of_buyers(session, present, ("purchase_days", "first_day", "last_day"))
    end_day = statistics.day_number(present.end_day.date())
    made = pd.DataFrame({"repeat_frequency": days - 1, "recency_days": last - first, "t_days": end_day - first})
    return made.groupby(list(made.columns), as_index=False).size().rename(columns={"size": "customers"})


def _of_buyers(session: Session, cutoff: Cutoff, names: Sequence[str]) -> list[Ids]:
    """Statistics of all customers with an order, int64."""
    parts: list[list[Ids]] = [[np.zeros(0, np.int64) for _ in names]]
    for ids in read_ids(session, IDS_AT_ONCE):
        sums = read_statistics(session, cutoff, ids)
        ordered = sums["orders"] > 0
        parts.append([sums[name][ordered].astype(np.int64) for name in names])
    return [np.concatenate(columns) for columns in zip(*parts, strict=True)]
