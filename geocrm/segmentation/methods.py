"""The methods of segmentations behind one interface: RFM, groups, value and rules.

A method reads customers in chunks and gives each a label and scores; what it found in all of them it tells at the end.
Its memory is that of a chunk, of a sample, and of a few bytes a customer.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import filters
from geocrm.db.queries import named
from geocrm.errors import Invalid
from geocrm.segmentation import feature_registry, features, rfm
from geocrm.segmentation.as_json import numbers
from geocrm.segmentation.surroundings import Surroundings

NONE: Final = -1
"""The label of customers in no group."""

_GAP: Final = 1_000
Labels = NDArray[np.int32]
Tell = Callable[[str, int, int | None], None]
"""Phase, customers done, of how many: told now and then; raises where the run was cancelled."""


@dataclass(frozen=True)
class Part:
    """Some customers: ids ascending (n,), labels (n,), scores (n, number of scores)."""

    ids: NDArray[np.int64]
    labels: Labels
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Group:
    """What a label stands for."""

    label: int
    name: str
    sentence: str = ""
    rule: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a method found: the groups; results for plots and tables (JSON); the labels of all customers in the order of
    the parts, where they are known at the end only; profiles in standard deviations by label, for groups that are known
    again by them."""

    groups: tuple[Group, ...]
    results: dict[str, Any]
    labels: Labels | None = None
    profiles: dict[int, list[float]] = field(default_factory=dict)


class Reader:
    """Customers' features at a cutoff in the worker's session, and a digest of all that was read."""

    def __init__(self, session: Session, cutoff: datetime, *, tell: Tell, chunk_rows: int = 100_000) -> None:
        self.session = session
        self.cutoff = cutoff
        self.chunk_rows = chunk_rows
        self.tell = tell
        self._digest = hashlib.sha256()

    def at(self, cutoff: datetime) -> Reader:
        """The same customers at another cutoff; what is read goes into the same digest."""
        other = Reader(self.session, cutoff, tell=self.tell, chunk_rows=self.chunk_rows)
        other._digest = self._digest
        return other

    def chunks(self, names: list[str], *, phase: str, around: Surroundings | None = None) -> Iterator[pd.DataFrame]:
        """Frames of these features, by customer id, with those that `around` gives of where they are."""
        total = self.session.scalar(text("SELECT count(*) FROM customers WHERE erased_at IS NULL")) or 0
        done = 0
        self.tell(phase, 0, total)
        for frame in features.read_features(self.session, self.cutoff, names, chunk_rows=self.chunk_rows):
            whole = frame if around is None else frame.join(around.read(frame.index.to_numpy()))
            self.saw(whole)
            yield whole
            done += len(frame)
            self.tell(phase, done, total)

    def places(self, around: Surroundings, ids: NDArray[np.int64]) -> pd.DataFrame:
        """What `around` gives of some customers, ids ascending, without reading many of those between them."""
        apart = (np.diff(ids) > _GAP) | (np.diff(ids // self.chunk_rows) > 0)
        frames = [around.read(part) for part in np.split(ids, np.flatnonzero(apart) + 1)]
        made = pd.concat(frames)
        self.saw(made)
        return made

    def saw(self, frame: pd.DataFrame) -> None:
        """Take a frame into the digest."""
        self._digest.update(np.ascontiguousarray(frame.index.to_numpy()).tobytes())
        for name in frame.columns:
            column = frame[name]
            self._digest.update(name.encode())
            if isinstance(column.dtype, pd.CategoricalDtype):
                self._digest.update("\x1f".join(map(str, column.cat.categories)).encode())
                self._digest.update(column.cat.codes.to_numpy().tobytes())
            else:
                self._digest.update(np.ascontiguousarray(column.to_numpy()).tobytes())

    def digest(self) -> str:
        """SHA-256 of all that was read, hexadecimal."""
        return self._digest.hexdigest()


class Method(ABC):
    """A method on one reading of the customers: what each kind brings."""

    name: ClassVar[str]
    scores: tuple[str, ...] = ()
    """Names of the scores; a method that knows them only from the data sets its own before the first part."""
    named: ClassVar[bool] = True
    """A label means the same in every run; else groups are known again by who is in them."""
    at_cutoff: ClassVar[bool] = True
    """It reads statistics of sales, which are refreshed before."""

    def __init__(self, reader: Reader, parameters: Mapping[str, Any], seed: int) -> None:
        self.reader = reader
        self.parameters = parameters
        self.seed = seed

    @staticmethod
    @abstractmethod
    def check(parameters: Mapping[str, Any]) -> None:
        """Raise Invalid, with a pointer, for parameters that the method does not take."""

    @staticmethod
    def cutoffs(cutoff: datetime, parameters: Mapping[str, Any]) -> tuple[datetime, ...]:
        """The moments at which a run at this cutoff reads statistics of sales: earlier ones to learn from."""
        return (cutoff,)

    @abstractmethod
    def parts(self) -> Iterator[Part]:
        """Every customer, by id."""

    @abstractmethod
    def outcome(self) -> Outcome:
        """What was found, after all parts."""


def wrong(name: str, detail: str) -> Invalid:
    """The error for one parameter."""
    return Invalid(f"{name}: {detail}", errors=[{"pointer": f"/parameters/{name}", "detail": detail}])


def check_names(parameters: Mapping[str, Any], allowed: set[str]) -> None:
    """Raise Invalid for a parameter that there is not."""
    for name in parameters:
        if name not in allowed:
            raise wrong(str(name)[:60], f"there is no such parameter; there are {', '.join(sorted(allowed)) or 'none'}")


def number_of(parameters: Mapping[str, Any], name: str, default: float, low: float, high: float) -> float:
    """A number among the parameters; raises Invalid outside of its bounds."""
    given = parameters.get(name, default)
    if isinstance(given, bool) or not isinstance(given, int | float) or not low <= given <= high:
        raise wrong(name, f"expected a number from {low:g} to {high:g}")
    return float(given)


def check_whole(parameters: Mapping[str, Any], name: str, default: int, low: int, high: int) -> None:
    """Raise Invalid unless a parameter is a whole number within its bounds."""
    given = parameters.get(name, default)
    if isinstance(given, bool) or not isinstance(given, int) or not low <= given <= high:
        raise wrong(name, f"expected a whole number from {low} to {high}")


MONEY: Final = frozenset({"currency", "rates"})
"""Parameters of all methods that read sales: see `check_money`."""


def check_money(parameters: Mapping[str, Any]) -> None:
    """Raise Invalid unless `currency` and `rates` (what one unit of each other currency is worth in it) are right, or
    both are absent."""
    currency, rates = parameters.get("currency"), parameters.get("rates")
    if currency is None and rates is None:
        return
    if not isinstance(currency, str) or not re.fullmatch("[A-Z]{3}", currency):
        raise wrong("currency", "expected the three letters of the currency that amounts are to be in, such as EUR")
    if not isinstance(rates, Mapping) or not rates:
        raise wrong("rates", f'expected what one unit of each other currency is worth in {currency}: {{"USD": 0.9, …}}')
    for name, rate in rates.items():
        if not isinstance(name, str) or not re.fullmatch("[A-Z]{3}", name):
            raise wrong("rates", f"{str(name)[:20]!r} is no currency: expected three letters")
        if decimal_rate(rate) is None:
            raise wrong(f"rates/{name}", "expected a number above 0")


def decimal_rate(rate: Any) -> Decimal | None:
    """A rate as it was written; None for what is no number above 0."""
    if isinstance(rate, bool) or not isinstance(rate, int | float | str):
        return None
    try:
        made = Decimal(str(rate))
    except InvalidOperation:
        return None
    return made if made.is_finite() and 0 < made < Decimal(10) ** 9 else None


def check_feature_names(parameters: Mapping[str, Any]) -> None:
    """Raise Invalid unless `features` are names that the registry may know; `location` is one of them."""
    names = parameters.get("features", [])
    if not isinstance(names, list) or not all(isinstance(name, str) and 0 < len(name) <= 200 for name in names):
        raise wrong("features", "expected a list of names of features")
    known = {feature.name for feature in (*feature_registry.FEATURES, *feature_registry.PLACE_FEATURES)} | {"location"}
    families = ("channel_share", "category_share", "attributes", "area")
    for name in names:
        family, _, member = name.partition(".")
        if name not in known and not (member and family in families):
            raise wrong("features", f"there is no feature {name[:60]!r}")


class Draw:
    """A sample of at most `rows` customers who come chunk by chunk, each with the same chance, in their order."""

    def __init__(self, rows: int, seed: int) -> None:
        self.seen = 0
        self._rows = rows
        self._generator = np.random.default_rng(seed)
        self._kept: list[pd.DataFrame] = []
        self._keys: list[NDArray[np.float64]] = []

    def add(self, frame: pd.DataFrame) -> None:
        """The next customers."""
        self.seen += len(frame)
        self._kept.append(frame)
        self._keys.append(self._generator.random(len(frame)))
        if sum(map(len, self._kept)) > 2 * self._rows:
            self.frame()

    def frame(self) -> pd.DataFrame:
        """Those drawn so far."""
        if not self._kept:
            return pd.DataFrame()
        whole, drawn = pd.concat(self._kept), np.concatenate(self._keys)
        if len(whole) > self._rows:
            rows = np.sort(np.argpartition(drawn, self._rows)[: self._rows])
            whole, drawn = whole.iloc[rows], drawn[rows]
        self._kept, self._keys = [whole], [drawn]
        return whole


class Means:
    """Means of numbers by label, gathered chunk by chunk."""

    def __init__(self, labels: int) -> None:
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._known: dict[str, NDArray[np.float64]] = {}
        self._labels = labels

    def add(self, frame: pd.DataFrame, labels: Labels) -> None:
        """Customers with their labels, 0 … less than the number of labels; others are left aside."""
        for name in frame.columns:
            if isinstance(frame[name].dtype, pd.CategoricalDtype):
                continue
            column = frame[name].to_numpy(dtype=np.float64)
            held = (labels >= 0) & np.isfinite(column)
            sums = np.bincount(labels[held], weights=column[held], minlength=self._labels)
            known = np.bincount(labels[held], minlength=self._labels).astype(np.float64)
            self._sums[name] = self._sums.get(name, 0) + sums
            self._known[name] = self._known.get(name, 0) + known

    def table(self, groups: tuple[Group, ...]) -> list[dict[str, Any]]:
        """A row for each group and feature: its mean, and that of all."""
        rows = []
        for name, sums in self._sums.items():
            known = self._known[name]
            average = float(sums.sum() / known.sum()) if known.sum() else None
            for group in groups:
                n = known[group.label]
                mean = float(sums[group.label] / n) if n else None
                rows.append({"label": group.label, "feature": name, "n": int(n), "mean": mean, "average": average})
        return rows


# ---------------------------------------------------------------- RFM


class Rfm(Method):
    """Recency, frequency, monetary value: scores 1 to 5 and the named segments.

    Parameters: `cuts`, fixed cuts by feature (recency_days falling, frequency and monetary_value rising, four numbers
    each); those left out go by quantile."""

    name = "rfm"
    scores = ("r", "f", "m")
    _CUTS: Final = {"recency_days": True, "frequency": False, "monetary_value": False}

    @staticmethod
    def check(parameters: Mapping[str, Any]) -> None:
        check_names(parameters, {"cuts", *MONEY})
        check_money(parameters)
        given = parameters.get("cuts", {})
        if not isinstance(given, Mapping) or not set(given) <= set(Rfm._CUTS):
            raise wrong("cuts", f"expected cuts by feature: {', '.join(Rfm._CUTS)}")
        for name, bounds in given.items():
            if (
                not isinstance(bounds, list)
                or len(bounds) != rfm.CLASSES - 1
                or not all(isinstance(b, int | float) and not isinstance(b, bool) for b in bounds)
            ):
                raise wrong("cuts", f"{name}: expected {rfm.CLASSES - 1} numbers")
            try:
                rfm.fixed_cuts(bounds, less_is_better=Rfm._CUTS[name])
            except Invalid as error:
                raise wrong("cuts", f"{name}: {error.detail}") from None

    def parts(self) -> Iterator[Part]:
        given = self.parameters.get("cuts", {})
        fixed = {name: rfm.fixed_cuts(given[name], less_is_better=self._CUTS[name]) for name in given}
        by_quantile = None if len(fixed) == 3 else features.rfm_cuts(self.reader.session, self.reader.cutoff)

        def cut(name: str, by_rank: str) -> rfm.Cuts:
            if name in fixed:
                return fixed[name]
            chosen: rfm.Cuts = getattr(by_quantile, by_rank)
            return chosen

        self._cuts = rfm.RfmCuts(
            cut("recency_days", "recency"), cut("frequency", "frequency"), cut("monetary_value", "monetary")
        )
        self._means = Means(len(rfm.SEGMENTS))
        for frame in self.reader.chunks(list(self._CUTS), phase="scoring"):
            scored = rfm.score(frame, self._cuts)
            labels = scored["segment"].cat.codes.to_numpy().astype(np.int32)
            self._means.add(frame, labels)
            yield Part(frame.index.to_numpy(), labels, scored[["r", "f", "m"]].to_numpy(dtype=np.float32))

    def outcome(self) -> Outcome:
        groups = tuple(Group(label, name, _rfm_words(name)) for label, name in enumerate(rfm.SEGMENTS))
        cuts = {
            name: numbers(cut.bounds)
            for name, cut in zip(
                self._CUTS, (self._cuts.recency, self._cuts.frequency, self._cuts.monetary), strict=True
            )
        }
        return Outcome(groups, {"cuts": cuts, "profile": self._means.table(groups)})


_LAST_BOUGHT: Final = {
    (4, 5): "bought lately", (5,): "bought just now", (4,): "bought lately", (3,): "bought a while ago",
    (2,): "bought long ago", (1,): "bought longest ago",
}  # fmt: skip
_HOW_MUCH: Final = {
    (4, 5): "often and for much", (3, 4, 5): "as often and for as much as most, or more",
    (3,): "as often and for as much as most", (1, 2): "seldom and for little", (2,): "seldom and for little",
    (1,): "most seldom and for least",
}  # fmt: skip


def _rfm_words(name: str) -> str:
    """What a named segment holds, with its scores: "bought lately, often and for much (R 4–5, FM 4–5)"."""
    pairs = [pair for pair, segment in rfm.SEGMENT_OF.items() if segment == name]
    by_how_much: dict[tuple[int, ...], list[int]] = {}
    for r in sorted({r for r, _ in pairs}):
        by_how_much.setdefault(tuple(sorted(fm for other, fm in pairs if other == r)), []).append(r)

    def scores(held: tuple[int, ...]) -> str:
        return str(held[0]) if len(held) == 1 else f"{held[0]}–{held[-1]}"

    parts = [(tuple(rs), fms) for fms, rs in by_how_much.items()][::-1]
    said = "; or ".join(f"{_LAST_BOUGHT[rs]}, {_HOW_MUCH[fms]}" for rs, fms in parts)
    return f"{said} ({'; '.join(f'R {scores(rs)}, FM {scores(fms)}' for rs, fms in parts)})"


# ---------------------------------------------------------------- rules


MOST_RULES: Final = 50


class Rule(Method):
    """Filters with names; a customer is in the segment of the first one that holds.

    Parameters: `rules`, a list of {"name", "filter"}. They are asked of what is known when the run is made; contact
    details may not be named, as who reads segments need not see these."""

    name = "rule"
    at_cutoff = False

    @staticmethod
    def check(parameters: Mapping[str, Any]) -> None:
        check_names(parameters, {"rules"})
        rules = parameters.get("rules")
        if not isinstance(rules, list) or not 1 <= len(rules) <= MOST_RULES:
            raise wrong("rules", f"expected a list of 1 to {MOST_RULES} rules")
        seen = set()
        for number, rule in enumerate(rules):
            if not isinstance(rule, Mapping) or set(rule) != {"name", "filter"}:
                raise wrong(f"rules/{number}", 'expected {"name": …, "filter": …}')
            name = rule["name"]
            if not isinstance(name, str) or not 0 < len(name.strip()) <= 200:
                raise wrong(f"rules/{number}/name", "expected a text of 1 to 200 characters")
            if name in seen:
                raise wrong(f"rules/{number}/name", "another rule has this name")
            seen.add(name)
            if not read_rule(rule["filter"], f"/parameters/rules/{number}/filter"):
                raise wrong(f"rules/{number}/filter", "a rule that everybody passes divides nobody")

    def parts(self) -> Iterator[Part]:
        session = self.reader.session
        compiled = [read_rule(rule["filter"]).compile("customer", schema="public") for rule in self.parameters["rules"]]
        cases, bound = [], dict[str, Any]()
        for number, condition in enumerate(compiled):
            cases.append(f"WHEN {condition.named(f'r{number}')} THEN {number:d}")
            bound |= condition.params(f"r{number}")
        query = named("segmentation", "rule_chunk").replace("{rules}", " ".join(cases))
        total = session.scalar(text("SELECT count(*) FROM customers WHERE erased_at IS NULL")) or 0
        done = 0
        self.reader.tell("asking the rules", 0, total)
        for ids in features.read_ids(session, self.reader.chunk_rows):
            edges = {"after": int(ids[0]) - 1, "upto": int(ids[-1])}
            rows = session.execute(text(query), bound | edges).all()
            found = np.array([tuple(row) for row in rows], dtype=np.int64).reshape(-1, 2)
            frame = pd.DataFrame({"label": found[:, 1]}, index=pd.Index(found[:, 0], name="customer_id"))
            self.reader.saw(frame)
            yield Part(found[:, 0], found[:, 1].astype(np.int32), np.zeros((len(found), 0), dtype=np.float32))
            done += len(found)
            self.reader.tell("asking the rules", done, total)

    def outcome(self) -> Outcome:
        groups = []
        for label, rule in enumerate(self.parameters["rules"]):
            sentence = read_rule(rule["filter"]).sentence(names_of(self.reader.session))
            groups.append(Group(label, rule["name"], sentence, sentence))
        return Outcome(tuple(groups), {})


def read_rule(given: Any, pointer: str = "/filter") -> filters.Filter:
    """The filter of a rule; raises InvalidFilter."""
    return filters.parse(given, reader=filters.Reader(contacts=False, exact=True), pointer=pointer)


_NAMED: Final = {
    "ter": "areas", "are": "areas", "seg": "segments", "usr": "users", "pla": "places", "aud": "audiences",
}  # fmt: skip


def names_of(session: Session) -> filters.Names:
    """Gives the names behind ids, for sentences."""

    def name(shown: str) -> str:
        prefix, _, number = shown.partition("_")
        if prefix not in _NAMED or not number.isdigit():
            return shown
        found = session.scalar(
            text(f"SELECT name FROM {_NAMED[prefix]} WHERE id = CAST(:id AS bigint)"), {"id": int(number)}
        )
        return str(found) if found is not None else shown

    return name
