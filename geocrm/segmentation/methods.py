"""The methods of segmentations behind one interface: RFM, groups, value and rules.

A method reads customers in chunks and gives each a label and scores; what it found in all of them it tells at the end.
Its memory is that of a chunk, of a sample, and of a few bytes a customer.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Final, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import filters
from geocrm.db.queries import named
from geocrm.errors import Invalid, TooLittleData
from geocrm.segmentation import features, rfm
from geocrm.segmentation.clv import bg_nbd, counts, gamma_gamma, value
from geocrm.segmentation.clv.likelihood import Estimate
from geocrm.segmentation.clv.purchases import PurchaseModel

NONE: Final = -1
"""The label of customers in no group."""

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

    def chunks(self, names: list[str], *, phase: str) -> Iterator[pd.DataFrame]:
        """Frames of these features, by customer id."""
        total = self.session.scalar(text("SELECT count(*) FROM customers WHERE erased_at IS NULL")) or 0
        done = 0
        self.tell(phase, 0, total)
        for frame in features.read_features(self.session, self.cutoff, names, chunk_rows=self.chunk_rows):
            self.saw(frame)
            yield frame
            done += len(frame)
            self.tell(phase, done, total)

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
        check_names(parameters, {"cuts"})
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
            name: [bound if np.isfinite(bound) else None for bound in cut.bounds]
            for name, cut in zip(
                self._CUTS, (self._cuts.recency, self._cuts.frequency, self._cuts.monetary), strict=True
            )
        }
        return Outcome(groups, {"cuts": cuts, "profile": self._means.table(groups)})


def _rfm_words(name: str) -> str:
    """What a named segment holds: "recency 4 or 5, frequency and money 4 or 5 of 5"."""
    pairs = [pair for pair, segment in rfm.SEGMENT_OF.items() if segment == name]

    def said(scores: set[int]) -> str:
        return " or ".join(map(str, sorted(scores)))

    recency = {r for r, _ in pairs}
    by_recency: dict[str, list[int]] = {}
    for r in sorted(recency, reverse=True):
        by_recency.setdefault(said({fm for other, fm in pairs if other == r}), []).append(r)
    return "; ".join(f"recency {said(set(rs))}, frequency and money {fms}, of 5" for fms, rs in by_recency.items())


# ---------------------------------------------------------------- value


TIERS: Final = (
    (0.5, "Half of the worth", "the most valuable customers, who together are half of the expected worth"),
    (0.8, "Next 30 % of the worth", "the next ones, who together are 30 % of the expected worth"),
    (1.0, "Last 20 % of the worth", "all others, who together are 20 % of the expected worth"),
)


class Value(Method):
    """What customers are worth: BG/NBD and Gamma-Gamma; segments by their share of the expected worth.

    Parameters: `horizon_weeks` (52), `discount_a_year` (0.1)."""

    name = "value"
    scores = ("p_alive", "purchases", "worth", "worth_low", "worth_high")
    _COLUMNS: Final = ["repeat_frequency", "recency_weeks", "t_weeks", "mean_repeat_value"]
    _SAMPLE: Final = 500_000

    @staticmethod
    def check(parameters: Mapping[str, Any]) -> None:
        check_names(parameters, {"horizon_weeks", "discount_a_year"})
        number_of(parameters, "horizon_weeks", 52, 1, 520)
        number_of(parameters, "discount_a_year", 0.1, 0, 5)

    def parts(self) -> Iterator[Part]:
        horizon = number_of(self.parameters, "horizon_weeks", 52, 1, 520)
        discount = number_of(self.parameters, "discount_a_year", 0.1, 0, 5)
        self.reader.tell("fitting", 0, None)
        histories = features.count_histories(self.reader.session, self.reader.cutoff)
        if histories.empty:
            raise TooLittleData("Customer value needs customers with an order before the cutoff; there are none.")
        held = counts.collapse(
            histories["repeat_frequency"],
            histories["recency_days"] / 7,
            histories["t_days"] / 7,
            histories["customers"],
        )
        self._purchases = cast("Estimate[PurchaseModel]", bg_nbd.fit(held))
        self._values = self._fit_values()
        self._worth: list[NDArray[np.float64]] = []
        self._slopes: NDArray[np.float64] | None = None
        self._covariance: NDArray[np.float64] | None = None
        self._without = 0
        for frame in self.reader.chunks(list(self._COLUMNS), phase="valuing"):
            yield self._part(frame, horizon, discount)

    def _fit_values(self) -> gamma_gamma.ValueEstimate:
        kept: list[pd.DataFrame] = []
        seen = 0
        generator = np.random.default_rng(self.seed)
        for frame in self.reader.chunks(["repeat_frequency", "mean_repeat_value"], phase="fitting"):
            again = frame[(frame["repeat_frequency"] > 0) & (frame["mean_repeat_value"] > 0)]
            seen += len(again)
            kept.append(again)
            if sum(map(len, kept)) > 2 * self._SAMPLE:  # thin out, all with the same chance
                held = pd.concat(kept)
                kept = [held.iloc[np.sort(generator.choice(len(held), self._SAMPLE, replace=False))]]
        sample = pd.concat(kept)
        self._fitted_on = (len(sample), seen)
        return gamma_gamma.fit(sample["repeat_frequency"], sample["mean_repeat_value"])

    def _part(self, frame: pd.DataFrame, horizon: float, discount: float) -> Part:
        ids = frame.index.to_numpy()
        scores = np.full((len(frame), len(self.scores)), np.nan, dtype=np.float32)
        labels = np.full(len(frame), NONE, dtype=np.int32)
        x, mean = frame["repeat_frequency"].to_numpy(), frame["mean_repeat_value"].to_numpy()
        bought = ~np.isnan(x)
        usable = bought & ((x == 0) | (mean > 0))  # the model of amounts has no answer for a mean of 0 or less
        self._without += int((bought & ~usable).sum())
        rows = np.flatnonzero(usable)
        if len(rows):
            history = x[rows], frame["recency_weeks"].to_numpy()[rows], frame["t_weeks"].to_numpy()[rows]
            coming = value.expected_purchases(self._purchases, *history, horizon_weeks=horizon)
            worth = value.customer_value(
                self._purchases, self._values, *history, mean[rows], horizon_weeks=horizon, discount_a_year=discount
            )
            low, high = worth.interval()
            alive = self._purchases.model.probability_alive(*history)
            scores[rows] = np.column_stack((alive, coming.value, worth.value, low, high))
            self._worth.append(worth.value)
            slopes = worth.slopes.sum(axis=0)
            self._slopes = slopes if self._slopes is None else self._slopes + slopes
            self._covariance = worth.log_covariance
            labels[rows] = 0  # the tier is known when all are
        return Part(ids, labels, scores)

    def outcome(self) -> Outcome:
        worth = np.concatenate(self._worth) if self._worth else np.zeros(0)
        order = np.argsort(-worth, kind="stable")
        total = float(worth.sum())
        upto = np.cumsum(worth[order])
        before = upto - worth[order]
        tier = np.zeros(len(worth), dtype=np.int32)
        shares = before / total if total > 0 else np.arange(len(worth)) / max(len(worth), 1)
        tier[order] = np.searchsorted([bound for bound, _, _ in TIERS], shares, side="right").clip(0, len(TIERS) - 1)
        groups = tuple(Group(label, name, words) for label, (_, name, words) in enumerate(TIERS))
        results: dict[str, Any] = {
            "currency": features.get_cutoff(self.reader.session, self.reader.cutoff).currency,
            "purchases": _estimate(self._purchases),
            "values": _estimate(self._values) | {"independence": self._values.independence},
            "worth_by_segment": [
                {"label": group.label, "worth": float(worth[tier == group.label].sum())} for group in groups
            ],
            "notes": [],
        }
        if self._slopes is not None and self._covariance is not None:
            whole = value.Expectations(np.array([total]), self._slopes[None, :], self._covariance)
            low, high = whole.interval()
            results["total"] = {"worth": total, "low": float(low[0]), "high": float(high[0])}
        if self._without:
            results["notes"].append(
                f"{self._without:,} customers whose repeat purchases came to nothing or less are in no segment."
            )
        if self._fitted_on[0] < self._fitted_on[1]:
            results["notes"].append(
                f"The model of amounts was fitted on {self._fitted_on[0]:,} of {self._fitted_on[1]:,} customers."
            )
        return Outcome(groups, results, labels=tier)


def _estimate(fitted: Any) -> dict[str, Any]:
    errors = fitted.standard_errors
    return {
        "parameters": [
            {"name": name, "value": float(number), "standard_error": float(errors[name])}
            for name, number in zip(fitted.names, fitted.model.values, strict=True)
        ],
        "log_likelihood": float(fitted.log_likelihood),
        "customers": int(fitted.customers),
    }


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
        after, done = -1, 0
        self.reader.tell("asking the rules", 0, total)
        while True:
            upto = session.scalar(
                text(named("features", "chunk")), {"after": after, "last": 2**62, "rows": self.reader.chunk_rows}
            )
            if upto is None:
                return
            rows = session.execute(text(query), bound | {"after": after, "upto": upto}).all()
            found = np.array([tuple(row) for row in rows], dtype=np.int64).reshape(-1, 2)
            frame = pd.DataFrame({"label": found[:, 1]}, index=pd.Index(found[:, 0], name="customer_id"))
            self.reader.saw(frame)
            yield Part(found[:, 0], found[:, 1].astype(np.int32), np.zeros((len(found), 0), dtype=np.float32))
            after, done = upto, done + len(found)
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
    "ter": "areas", "are": "areas", "seg": "segments", "usr": "users", "pla": "places",
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
