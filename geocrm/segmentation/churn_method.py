"""Who will leave, as a method of segmentations: learnt from a past window, tested on the next, said of the coming one.

In a shop a customer is who ordered lately, and leaves by not ordering in the window; with contracts it is who has one,
and leaves when it ends. Windows follow each other: [cutoff − 2w, cutoff − w) is learnt from, [cutoff − w, cutoff) is
calibrated and tested on, at blocks of the map that the model did not see, and the answer is for [cutoff, cutoff + w).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import text

from geocrm.db.queries import named
from geocrm.errors import TooLittleData
from geocrm.segmentation import churn, classifiers, features, statistics, validation
from geocrm.segmentation.as_json import as_rows, numbers
from geocrm.segmentation.calibration import Area
from geocrm.segmentation.churn import HISTORY, RHYTHM, ChurnModel, Labels, ShopModel
from geocrm.segmentation.clv import bg_nbd, counts
from geocrm.segmentation.clv.bg_nbd import BgNbd
from geocrm.segmentation.feature_registry import Feature
from geocrm.segmentation.methods import (
    MONEY,
    NONE,
    Draw,
    Group,
    Means,
    Method,
    Outcome,
    Part,
    Reader,
    check_feature_names,
    check_money,
    check_names,
    number_of,
    wrong,
)
from geocrm.segmentation.place_gain import MapBlocks, blocks_of_map, gain_as_json
from geocrm.segmentation.regional_churn import Regions
from geocrm.segmentation.surroundings import POINT, Surroundings

BEHAVIOUR: Final = (
    "frequency", "orders_365", "recency_days", "tenure_days", "basket_value", "gap_variation", "returned_share",
    "discount_share", "channel_share.*", "complaints_365", "contacts_365", "is_organisation",
)  # fmt: skip
PLACE: Final = ("own_shop_m", "competitor_m", "urbanity", "neighbours_left")
SAMPLE_ROWS: Final = 20_000
"""A model is learnt from, and tested on, at most so many customers; all are asked of."""
MOST_TOLD: Final = 8
"""Features whose part in each customer's odds is kept."""
RAISED_ODDS: Final = 1.0
HIGH_ODDS: Final = 2.0
"""Times the odds of all from which a risk is raised, and high."""

_FAMILIES: Final = {
    "shops": ("own_shop_m", "competitor_m", "own_shops_near", "competitors_near", "shop_density"),
    "neighbours": ("neighbours_sales_365", "neighbours_left", "neighbours_growth", "local_penetration"),
    "people around": ("urbanity", "population_density", "location_precision_m"),
}


@dataclass(frozen=True)
class _Described:
    name: str
    unit: str
    meaning: str
    kind: str


_CONTRACT_DAYS: Final = _Described("contract_days", "days", "since the contract began", "behaviour")


@dataclass(frozen=True)
class _Window:
    """Customers of a sample at a cutoff, what was known of them, and who of them left in the window after it."""

    frame: pd.DataFrame
    labels: Labels
    customers: int


class Churn(Method):
    """The probability to leave in the coming window, with its interval and what drives it; segments by risk.

    Parameters: `window_days` (180), `active_days` (365: who ordered so lately is a customer), `contract` ({"since",
    "ended"}: names of attributes with the days it began and ended; without it "leaving" is not ordering), `features`
    (the usual ones), `cuts` ([raised, high] probabilities; by the odds of all where left out), `trees` (false: boosted
    trees are tried, too)."""

    name = "churn"

    @staticmethod
    def check(parameters: Mapping[str, Any]) -> None:
        check_names(parameters, {"window_days", "active_days", "contract", "features", "cuts", "trees", *MONEY})
        check_money(parameters)
        number_of(parameters, "window_days", 180, 14, 730)
        number_of(parameters, "active_days", 365, 30, 3_650)
        check_feature_names(parameters)
        if "location" in parameters.get("features", []):
            raise wrong("features", "a point by itself says nothing of who leaves; name distances instead")
        if not isinstance(parameters.get("trees", False), bool):
            raise wrong("trees", "expected true or false")
        contract = parameters.get("contract")
        if contract is not None:
            right = isinstance(contract, Mapping) and set(contract) == {"since", "ended"}
            if not right or not all(isinstance(name, str) and 0 < len(name) <= 200 for name in contract.values()):
                raise wrong("contract", 'expected {"since": …, "ended": …}, names of attributes')
            given = {f"attributes.{name}" for name in contract.values()}
            if held := sorted(given & set(parameters.get("features", []))):
                raise wrong("features", f"{held[0]} says who left; it cannot foretell it")
        cuts = parameters.get("cuts")
        if cuts is not None and not (
            isinstance(cuts, list)
            and len(cuts) == 2
            and all(isinstance(cut, int | float) and not isinstance(cut, bool) for cut in cuts)
            and 0 < cuts[0] < cuts[1] < 1
        ):
            raise wrong("cuts", "expected two probabilities, the raised and the high one, between 0 and 1")

    @staticmethod
    def cutoffs(cutoff: datetime, parameters: Mapping[str, Any]) -> tuple[datetime, ...]:
        window = timedelta(days=number_of(parameters, "window_days", 180, 14, 730))
        return (cutoff - 2 * window, cutoff - window, cutoff)

    # ---------------------------------------------------------------- what is read

    def _begin(self) -> None:
        self._contract: Mapping[str, str] | None = self.parameters.get("contract")
        self._days = number_of(self.parameters, "window_days", 180, 14, 730)
        self._active = number_of(self.parameters, "active_days", 365, 30, 3_650)
        self._at = self.cutoffs(statistics.cutoff_moment(self.reader.cutoff), self.parameters)
        self._readers = [self.reader.at(moment) for moment in self._at]
        self._unread = 0
        names = self.parameters.get("features") or [*BEHAVIOUR, *PLACE]
        found = [self._find(reader, names) for reader in self._readers]
        there = set.intersection(*({each.name for each in one} for one in found))
        wanted = [each for each in found[-1] if each.name in there]
        self._place = [each for each in wanted if each.kind == "place"]
        self._others: list[classifiers.Described] = [each for each in wanted if each.kind != "place"]
        if self._contract:
            self._others.append(_CONTRACT_DAYS)
        base = [each.name for each in wanted if each.kind != "place"]
        self._base = list(dict.fromkeys(["recency_days", "frequency", *HISTORY, *base]))

    @staticmethod
    def _find(reader: Reader, names: Sequence[str]) -> list[Feature]:
        cutoff = features.get_cutoff(reader.session, reader.cutoff)
        return features.find_features(reader.session, cutoff, names)

    def _chunks(
        self, number: int, names: list[str], *, phase: str, around: Surroundings | None = None
    ) -> Iterator[tuple[pd.DataFrame, NDArray[np.bool_]]]:
        """Everybody at a cutoff in chunks, and who is a customer then."""
        for frame in self._readers[number].chunks(names, phase=phase, around=around):
            if self._contract:
                frame = frame.join(self._contracts(frame.index.to_numpy()))
                moment = pd.Timestamp(self._at[number])
                there = (frame["since"] < moment) & (frame["ended"].isna() | (frame["ended"] >= moment))
                frame["contract_days"] = (moment - frame["since"]) / pd.Timedelta(days=1)
            else:
                there = frame["recency_days"] <= self._active
            yield frame, there.to_numpy()

    def _contracts(self, ids: NDArray[np.int64]) -> pd.DataFrame:
        """The days contracts began and ended, as attributes say them; NaT where they say no day."""
        assert self._contract is not None
        made = pd.DataFrame(index=pd.Index(ids, name="customer_id"))
        bound = dict(self._contract) | {"first": int(ids[0]), "last": int(ids[-1])}
        rows = self.reader.session.execute(text(named("segmentation", "contracts")), bound).all()
        held = pd.DataFrame([tuple(row) for row in rows], columns=["id", "since", "ended"]).set_index("id")
        for name in ("since", "ended"):
            said = held[name].astype("object")
            days = pd.to_datetime(said, errors="coerce", utc=True, format="ISO8601").astype("datetime64[us, UTC]")
            self._unread += int((days.isna() & said.notna() & (said != "")).sum())
            made[name] = days.reindex(made.index)
        turned = made["ended"] < made["since"]
        self._unread += int(turned.sum())
        made.loc[turned, "since"] = pd.NaT
        self.reader.saw(made.apply(lambda days: days.dt.tz_localize(None).to_numpy().view(np.int64)))
        return made

    def _sample(self, number: int, phase: str) -> tuple[pd.DataFrame, int]:
        """Customers at a cutoff, drawn with equal chance, and how many there are."""
        draw = Draw(SAMPLE_ROWS, self.seed)
        for frame, there in self._chunks(number, self._base, phase=phase):
            draw.add(frame[there])
        return draw.frame(), draw.seen

    def _frequency(self, number: int, ids: pd.Index) -> pd.Series:
        """Orders before a cutoff of some customers."""
        parts = [
            frame.loc[frame.index.isin(ids), "frequency"]
            for frame in self._readers[number].chunks(["frequency"], phase="who came back")
        ]
        return pd.concat(parts) if parts else pd.Series(dtype=np.float64)

    def _windows(self) -> tuple[_Window, _Window]:
        first, count_first = self._sample(0, "reading the first window")
        later, count_later = self._sample(1, "reading the second window")
        made = []
        for number, (frame, customers) in enumerate(((first, count_first), (later, count_later))):
            moment, until = self._at[number], self._at[number + 1]
            if not len(frame):
                who = "a contract" if self._contract else f"an order in the {self._active:g} days"
                raise TooLittleData(
                    f"Who leaves is learnt from two past windows of {self._days:g} days: on {moment:%Y-%m-%d} there was"
                    f" no customer with {who} before. Take a shorter window, or wait until there is more history."
                )
            if self._contract:
                labels = churn.labels_of_contracts(
                    frame.pop("ended"), cutoff=moment, window_days=self._days, known_until=until
                )
                frame = frame.drop(columns="since")
            else:
                labels = churn.labels_of_orders(
                    frame["frequency"], self._frequency(number + 1, frame.index), cutoff=moment,
                    window_days=self._days, known_until=until,
                )  # fmt: skip
            made.append(_Window(churn.at_cutoff(frame, moment), labels, customers))
        return made[0], made[1]

    # ---------------------------------------------------------------- what is learnt

    def parts(self) -> Iterator[Part]:
        self._begin()
        first, later = self._windows()
        for window in (first, later):
            churn.check_enough(window.labels)
        self.reader.tell("does place help", 0, None)
        self._purchases = None if self._contract else self._fit_purchases()
        first, later = self._with_places(0, first), self._with_places(1, later)
        self._blocks = self._blocks_of(first, later)
        self._kept = self._choose_places(first, later)
        self.reader.tell("learning", 0, None)
        self._model = self._fit(first, later)
        self._share = later.labels.share
        self._customers = (first.customers, later.customers)
        self._bounds = self._cuts()
        self._told = self._churn_model.drivers[:MOST_TOLD]
        self.scores = (*self._columns, *(f"odds_{_plain(each.feature.name)}" for each in self._told))
        yield from self._ask()

    def _fit_purchases(self) -> BgNbd:
        """BG/NBD on the histories of all who bought before the first cutoff."""
        histories = features.count_histories(self.reader.session, self._at[0])
        recency, t = histories["recency_days"] / 7, histories["t_days"] / 7
        return bg_nbd.fit(counts.collapse(histories["repeat_frequency"], recency, t, histories["customers"])).model

    def _with_places(self, number: int, window: _Window) -> _Window:
        reader = self._readers[number]
        around = Surroundings(reader.session, reader.cutoff, [each.name for each in self._place], points=True)
        places = reader.places(around, window.frame.index.to_numpy())
        self._around = around
        return _Window(churn.at_cutoff(window.frame.join(places), self._at[number]), window.labels, window.customers)

    def _blocks_of(self, first: _Window, later: _Window) -> MapBlocks:
        """Blocks of the map that hold the customers of both windows, as large as residuals without place ask for."""
        points = pd.concat([later.frame, first.frame[~first.frame.index.isin(later.frame.index)]])[list(POINT)]
        blocks = blocks_of_map(points, self._residual(later), seed=self.seed)
        return blocks if blocks.leaves_both(first.labels.left) else blocks.at_random(points.index, seed=self.seed)

    def _ready(self, window: _Window) -> pd.DataFrame:
        """The window's frame with the rhythm of purchases."""
        if self._purchases is None:
            return window.frame
        return churn.with_rhythm(window.frame, self._purchases, self._days)

    def _used(self) -> list[classifiers.Described]:
        return [*(() if self._contract else RHYTHM), *self._others]

    def _residual(self, window: _Window) -> pd.Series:
        """What a model without place leaves unexplained, of customers it did not see."""
        ready = self._ready(window).loc[window.labels.left.index]
        outcome = window.labels.left.to_numpy()
        used = self._used()
        folds = validation.random_folds(ready.index, seed=self.seed)
        predict = churn.predictor(used, seed=self.seed)
        told = validation.out_of_fold(ready[[each.name for each in used]], outcome, folds, predict)
        return pd.Series(outcome - told, index=ready.index)

    def _choose_places(self, first: _Window, later: _Window) -> list[classifiers.Described]:
        """The features of place that earn it: none, unless all together help in the later window, on blocks not seen;
        then those groups of them without which it is worse."""
        self._gain: validation.Gain | None = None
        self._dropped: list[dict[str, str]] = []
        known = [each for each in self._place if first.frame[each.name].notna().any() and
                 later.frame[each.name].notna().any()]  # fmt: skip
        for each in self._place:
            if each not in known:
                reason = self._around.reasons.get(each.name, "Not known of any customer.")
                self._dropped.append({"feature": each.name, "reason": reason})
        if known and not self._blocks.blocked:
            said = f"Whether place helps cannot be told: {self._blocks.reason}."
            self._dropped += [{"feature": each.name, "reason": said} for each in known]
            known = []
        if not known:
            return []
        folds = self._blocks.folds
        columns = [each.name for each in (*self._used(), *known)]
        described = [*self._used(), *known]
        predict = churn.predictor(described, seed=self.seed)
        learn, ask = (self._ready(window).loc[window.labels.left.index, columns] for window in (first, later))
        learnt, happened = first.labels.left.to_numpy(), later.labels.left.to_numpy()
        names = [each.name for each in known]
        self._gain = validation.gain_of_place(
            learn, learnt, names, folds, predict, seed=self.seed, later=(ask, happened)
        )
        if self._gain.verdict != "helps":
            self._dropped += [{"feature": name, "reason": self._gain.sentence} for name in names]
            return []
        families = {
            family: held for family, members in _FAMILIES.items() if (held := [n for n in names if n in members])
        }
        if rest := [name for name in names if name.startswith("area.")]:
            families["areas"] = rest
        kept = validation.eliminate(learn, learnt, families, folds, predict, seed=self.seed)
        for one in kept.dropped:
            self._dropped += [{"feature": name, "reason": one.gain.sentence} for name in families[one.name]]
        gone = {row["feature"] for row in self._dropped}
        return [each for each in known if each.name not in gone]

    def _fit(self, first: _Window, later: _Window) -> ChurnModel | ShopModel:
        folds = self._blocks.folds
        kinds: Sequence[Literal["logistic", "boosting"]] = ("logistic",)
        if self.parameters.get("trees", False):
            kinds = ("logistic", "boosting")
        described = [*self._others, *self._kept]
        after = (later.frame, later.labels)
        if self._purchases is None:
            return churn.fit(
                first.frame, first.labels, described, seed=self.seed, folds=folds, later=after, kinds=kinds
            )
        return churn.fit_shops(
            first.frame, first.labels, after, seed=self.seed, described=described, folds=folds, kinds=kinds,
            purchases=self._purchases,
        )  # fmt: skip

    @property
    def _churn_model(self) -> ChurnModel:
        return self._model.churn if isinstance(self._model, ShopModel) else self._model

    @property
    def _columns(self) -> tuple[str, ...]:
        return ("churn", "churn_low", "churn_high", *(() if self._contract else ("p_alive", "overdue_days")))

    # ---------------------------------------------------------------- what is said

    def _cuts(self) -> tuple[float, float]:
        """The probabilities from which a risk is raised, and high."""
        if given := self.parameters.get("cuts"):
            return float(given[0]), float(given[1])
        odds = self._share / (1 - self._share)
        raised, high = (times * odds / (1 + times * odds) for times in (RAISED_ODDS, HIGH_ODDS))
        return raised, high

    def _ask(self) -> Iterator[Part]:
        last = len(self._readers) - 1
        reader, model = self._readers[last], self._churn_model
        place = [each.name for each in self._kept]
        around = Surroundings(reader.session, reader.cutoff, place) if place else None
        at = [model.features.index(each.feature) for each in self._told]
        self._means = Means(3)
        self._expected = np.zeros((3, 4))
        self._gone = self._unread = 0
        self._regions = Regions(reader.session, self._at[last], contract=bool(self._contract))
        names = list(dict.fromkeys([*self._base, "orders_365", "orders_year_before"]))
        for frame, there in self._chunks(last, names, phase="asking of all", around=around):
            self._regions.add(frame)
            ids = frame.index.to_numpy()
            scores = np.full((len(frame), len(self.scores)), np.nan, dtype=np.float32)
            labels = np.full(len(frame), NONE, dtype=np.int32)
            bought = there if self._contract else frame["frequency"].to_numpy() > 0
            self._gone += int((bought & ~there).sum())
            rows = np.flatnonzero(there)
            if len(rows):
                asked = churn.at_cutoff(frame.iloc[rows], self._at[last])
                found = self._model.predict(asked)
                probability = found["probability"].to_numpy()
                labels[rows] = np.select([probability >= self._bounds[1], probability >= self._bounds[0]], [0, 1], 2)
                told = [found["probability"], found["low"], found["high"]]
                if not self._contract:
                    told += [found["p_alive"], found["overdue_days"]]
                scores[rows, : len(self._columns)] = np.column_stack(told)
                self._explain(asked, labels, rows, scores, at)
                for column, values in enumerate((np.ones(len(rows)), *(each.to_numpy() for each in told[:3]))):
                    self._expected[:, column] += np.bincount(labels[rows], weights=values, minlength=3)
            self._means.add(frame[[name for name in frame if name not in ("since", "ended")]], labels)
            yield Part(ids, labels, scores)

    def _explain(
        self, asked: pd.DataFrame, labels: NDArray[np.int32], rows: NDArray[np.int64],
        scores: NDArray[np.float32], at: list[int],
    ) -> None:  # fmt: skip
        """How many times each of the features told raises the odds of leaving, against the average customer; of trees,
        where this takes long, for customers of high risk alone."""
        model = self._churn_model
        if model.kind == "boosting":
            high = labels[rows] == 0
            asked, rows = asked[high], rows[high]
        if not len(asked):
            return
        if self._purchases is not None:
            asked = churn.with_rhythm(asked, self._purchases, self._days)
        added = model.contributions(asked).added[:, at]
        scores[rows, len(self._columns) :] = np.exp(np.clip(added, -20, 20))

    def outcome(self) -> Outcome:
        model = self._churn_model
        raised, high = self._bounds
        left = f"the contract ends within {self._days:g} days" if self._contract else (
            f"no order within {self._days:g} days"
        )  # fmt: skip
        average = f"; of all, {self._share:.0%} left in the last window"
        sentences = (
            f"{left}: a chance of at least {high:.0%}{average}",
            f"{left}: a chance of {raised:.0%} to {high:.0%}{average}",
            f"{left}: a chance of less than {raised:.0%}{average}",
        )
        names = ("High risk", "Raised risk", "Low risk")
        groups = tuple(
            Group(label, name, words) for label, (name, words) in enumerate(zip(names, sentences, strict=True))
        )
        found = model.evaluation
        results: dict[str, Any] = {
            "left": model.definition,
            "window_days": self._days,
            "learnt_at": [moment.isoformat() for moment in self._at[:-1]],
            "share": self._share,
            "cuts": {"raised": raised, "high": high},
            "kind": model.kind,
            "blocks": self._blocks.reason,
            "features": [each.name for each in model.features],
            "dropped": self._dropped,
            "drivers": [
                {
                    "feature": each.feature.name, "meaning": each.feature.meaning, "unit": each.feature.unit,
                    "kind": each.feature.kind, "loss": each.loss, "low": each.low, "high": each.high,
                    "score": f"odds_{_plain(each.feature.name)}" if each in self._told else None,
                }
                for each in model.drivers
            ],
            "evaluation": _evaluation(found),
            "place": None if self._gain is None else gain_as_json(self._gain),
            "expected": [
                {"label": label, "n": int(n), "leavers": float(leavers), "low": float(low), "high": float(high)}
                for label, (n, leavers, low, high) in enumerate(self._expected)
            ],
            "churn_rate": self._regions.rates(),
            "profile": self._means.table(groups),
            "notes": list(self._notes()),
        }  # fmt: skip
        return Outcome(groups, results)

    def _notes(self) -> Iterator[str]:
        yield from (f"{note[0].upper()}{note[1:]}." for note in self._churn_model.notes)
        sampled = [customers for customers in self._customers if customers > SAMPLE_ROWS]
        if sampled:
            yield f"Learnt from {SAMPLE_ROWS:,} of {max(sampled):,} customers drawn at random; all are asked of."
        if self._gone:
            what = "contract has ended" if self._contract else f"last order is over {self._active:g} days old"
            yield f"{self._gone:,} customers whose {what} have left already: they are in no segment."
        if self._unread:
            yield f"Customers whose contract has a day that is none, or an end before its begin: {self._unread:,}."
        yield from self._around.notes
        if self._churn_model.kind == "boosting":
            yield "What drives a customer's odds is told of customers of high risk alone."


def _plain(name: str) -> str:
    """A feature's name as part of a score's."""
    return re.sub(r"[^a-z0-9_]+", "_", name.lower())[:50]


def _area(found: Area) -> dict[str, float | None]:
    given = asdict(found)
    return dict(zip(given, numbers(given.values()), strict=True))


def _evaluation(found: churn.Evaluation) -> dict[str, Any]:
    """How good the probabilities are on customers that nothing was learnt from, as JSON."""
    return {
        "how": found.how,
        "customers": found.customers,
        "left": found.left,
        "calibration": [asdict(each) for each in found.curve.bins],
        "level": found.curve.level,
        "design_effect": found.curve.design_effect,
        "holds": found.curve.holds,
        "error": {
            "error": found.error.error,
            "by_chance_95": found.error.by_chance_95,
            "sentence": found.error.sentence,
        },
        "brier": asdict(found.brier) | {"skill": found.brier.skill},
        "roc": _area(found.roc),
        "precision": _area(found.precision),
        "lift": as_rows(found.lift.reset_index()),
        "gain": gain_as_json(found.gain),
    }
