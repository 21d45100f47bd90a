"""Groups of customers by location and behaviour as a method of segmentations, and its preview on a sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm.errors import Conflict, TooLittleData
from geocrm.segmentation import clusters, explain, feature_registry, features, scaling, stability
from geocrm.segmentation.as_json import as_rows
from geocrm.segmentation.explain import Wording
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
from geocrm.segmentation.place_gain import gain_as_json, gain_of_groups
from geocrm.segmentation.surroundings import OF_BUYERS, POINT, Surroundings

BEHAVIOUR: Final = (
    "recency_days", "frequency", "basket_value", "gap_mean_days", "returned_share", "discount_share",
    "channel_share.*", "category_share.*", "is_organisation",
)  # fmt: skip
WEIGHTS: Final = {
    **dict.fromkeys(("recency_days", "frequency", "gap_mean_days"), 1 / 3),
    **dict.fromkeys(("basket_value", "returned_share", "discount_share"), 1 / 3),
    "category_share": 2.0,
}
"""Variance of the usual features: three that say nearly the same count as one, and what is bought counts double. Where
features are named they weigh alike."""
PLACE: Final = ("location", "own_shop_m", "competitor_m", "urbanity")
SAMPLE_ROWS: Final = 200_000
"""Groups are found on at most so many customers; all are assigned."""
PREVIEW_ROWS: Final = 2_000
PREVIEW_BLOCKS: Final = 40
PREVIEW_BUYERS: Final = 100_000
"""With more customers a preview leaves out features for which all buyers are passed over."""
MOST_GROUPS: Final = 50
SPENT: Final = "sales_365"
"""What groups with and without place are asked to tell of customers."""
JUDGED_ROWS: Final = 20_000
"""Whether place helps is asked of at most so many of the sample."""

_WORDING: Final = {
    "recency_days": Wording("time since the last order", "days", "last order {} ago", "last order within {}",
                            "last order over {} ago", "gone quiet", "bought lately"),
    "frequency": Wording("orders", "orders", "{}", "up to {}", "over {}", "many orders", "few orders"),
    "basket_value": Wording("basket", "", "a basket of {}", "baskets up to {}", "baskets over {}", "large baskets",
                            "small baskets"),
    "gap_mean_days": Wording("interval between orders", "days", "buys every {}", "buys at least every {}",
                             "buys less than every {}", "rare buyers", "frequent buyers"),
    "returned_share": Wording("share returned", "share", "{} returned", high="many returns", low="few returns"),
    "discount_share": Wording("share of discounts", "share", "{} discount", high="discount buyers",
                              low="full-price buyers"),
    "is_organisation": Wording("organisations", "share", "{} organisations", "people", "organisations",
                               "organisations", "people"),
    "own_shop_m": Wording("distance to a shop", "m", "{} from a shop", "within {} of a shop", "over {} from a shop",
                          "far from shops", "close to a shop"),
    "competitor_m": Wording("distance to a competitor", "m", "{} from a competitor", "within {} of a competitor",
                            "over {} from a competitor", "far from competitors", "close to a competitor"),
    "own_shops_near": Wording("shops within 10 km", "", "{} shops within 10 km", "up to {} shops within 10 km",
                              "over {} shops within 10 km", "many shops near", "few shops near"),
    "competitors_near": Wording("competitors within 10 km", "", "{} competitors within 10 km",
                                "up to {} competitors within 10 km", "over {} competitors within 10 km",
                                "many competitors near", "few competitors near"),
    "shop_density": Wording("shops per km²", "", "{} shops per km²", "up to {} shops per km²",
                            "over {} shops per km²", "among many shops", "far from any shops"),
    "neighbours_sales_365": Wording("neighbours' yearly spend", "", "neighbours spend {} a year",
                                    "neighbours spend up to {} a year", "neighbours spend over {} a year",
                                    "among good customers", "among small customers"),
    "neighbours_left": Wording("neighbours who left", "share", "{} of the neighbours left",
                               "up to {} of the neighbours left", "over {} of the neighbours left",
                               "where customers leave", "where customers stay"),
    "neighbours_growth": Wording("growth of the neighbours' spend", "share", "neighbours' spend grew {}",
                                 "neighbours' spend grew up to {}", "neighbours' spend grew over {}",
                                 "where sales grow", "where sales shrink"),
    "urbanity": Wording("people around (log10 per km²)", "", "urbanity {}", "urbanity up to {}", "urbanity over {}",
                        "in town", "in the country"),
    "population_density": Wording("people per km²", "", "{} people per km²", "up to {} people per km²",
                                  "over {} people per km²", "densely peopled", "thinly peopled"),
    "local_penetration": Wording("customers per 1,000 people", "", "{} customers per 1,000 people around",
                                 "up to {} customers per 1,000 people around",
                                 "over {} customers per 1,000 people around", "where many are customers",
                                 "where few are customers"),
    "lon": Wording("longitude", "°", "at longitude {}", "west of {}", "east of {}", "in the east", "in the west"),
    "lat": Wording("latitude", "°", "at latitude {}", "south of {}", "north of {}", "in the north", "in the south"),
}  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """Which features enter: names for the database, those of place, and how each is scaled."""

    read: list[str]
    place: list[str]
    scaled: list[scaling.Feature]
    points: bool


def check(parameters: Mapping[str, Any]) -> None:
    """Raise Invalid, with a pointer, for parameters that groups do not take."""
    check_names(parameters, {"method", "k", "dial", "features", *MONEY})
    check_money(parameters)
    method = parameters.get("method", "kmeans")
    if method not in clusters.METHODS:
        raise wrong("method", f"expected one of {', '.join(clusters.METHODS)}")
    k = parameters.get("k")
    if k is not None and (isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= MOST_GROUPS):
        raise wrong("k", f"expected a whole number from 1 to {MOST_GROUPS}, or nothing: it is chosen then")
    if k is not None and method == "hdbscan":
        raise wrong("k", "HDBSCAN finds the number of groups by itself")
    number_of(parameters, "dial", 0.3, 0, 1)
    check_feature_names(parameters)
    names = parameters.get("features", [])
    if method == "contiguous" and names and "location" not in names:
        raise wrong("features", "contiguous groups need the feature location")


def weigh(scaled: Sequence[scaling.Feature]) -> list[scaling.Feature]:
    """The usual features with their weights."""
    return [replace(feature, weight=WEIGHTS.get(feature.name, 1.0)) for feature in scaled]


def _wanted(reader: Reader, names: Sequence[str]) -> Wanted:
    cutoff = features.get_cutoff(reader.session, reader.cutoff)
    read: list[str] = []
    place: list[str] = []
    scaled: list[scaling.Feature] = []
    for name in names:
        if name == "location":
            scaled.append(scaling.Feature("location", "place", "location", POINT))
            continue
        found = features.find_features(reader.session, cutoff, [name])
        if found and found[0].kind == "place":
            place.append(found[0].name)
            scaled.append(scaling.Feature(found[0].name, "place"))
            continue
        read += [feature.name for feature in found]
        if name.endswith(".*"):
            if len(found) > 1:  # of one part everybody has the whole
                columns = tuple(feature.name for feature in found)
                scaled.append(scaling.Feature(name[:-2], "behaviour", "composition", columns))
        else:
            kind: scaling.Kind = "category" if found[0].dtype == "category" else "number"
            scaled.append(scaling.Feature(found[0].name, "behaviour", kind))
    return Wanted(list(dict.fromkeys(["recency_days", SPENT, *read])), place, scaled, "location" in names)


class Groups(Method):
    """Groups by location and behaviour of the customers who ordered before the cutoff.

    Parameters: `method` (kmeans), `k` (chosen by stability where left out), `dial` from behaviour 0 to place 1 (0.3),
    `features` (the usual ones).

    Of who is known by postal code, town or region alone, the point counts as not known, and so do distances where it
    is too coarse for them: they are grouped by what else is known, and are in no contiguous group."""

    name = "groups"
    named = False

    @staticmethod
    def check(parameters: Mapping[str, Any]) -> None:
        check(parameters)

    def parts(self) -> Iterator[Part]:
        dial = number_of(self.parameters, "dial", 0.3, 0, 1)
        self._wanted = _wanted(self.reader, self.parameters.get("features") or [*BEHAVIOUR, *PLACE])
        if not self.parameters.get("features"):
            self._wanted = replace(self._wanted, scaled=weigh(self._wanted.scaled))
        self._method = cast(clusters.Method, self.parameters.get("method", "kmeans"))
        self._around = (
            Surroundings(self.reader.session, self.reader.cutoff, self._wanted.place, points=True)
            if self._wanted.place or self._wanted.points
            else None
        )
        sample, self._buyers = self._draw()
        self._sample = sample
        self._scaling = scaling.fit_scaling(sample, self._wanted.scaled, seed=self.seed)
        matrix = self._scaling.turn(self._scaling.apply(sample), dial)
        lonlat = sample[["lon", "lat"]].to_numpy() if self._method == "contiguous" else None
        self._choice: stability.Choice | None = None
        k = self.parameters.get("k")
        if k is None and self._method != "hdbscan":
            self.reader.tell("choosing the number of groups", 0, None)
            self._choice = stability.choose_groups(matrix, self._method, seed=self.seed, lonlat=lonlat)
            k = self._choice.k
        self.reader.tell("finding groups", 0, None)
        self._found = clusters.fit(matrix, self._method, k, seed=self.seed, lonlat=lonlat)
        self._explanation = self._explain(sample)
        scaled = self._scaling.apply(sample)
        self._profiles = {
            label: scaled[self._found.labels == label].mean(axis=0).tolist()
            for label, size in enumerate(self._found.sizes)
            if size
        }
        self._means = Means(max(self._found.k, 1))
        self._all = self._coarse = 0
        for frame in self.reader.chunks(self._wanted.read, phase="assigning", around=self._around):
            buyers = _bought(frame)
            self._all += int(buyers.sum())
            if self._wanted.points:
                self._coarse += int((buyers & frame["lon"].isna().to_numpy()).sum())
            labels = np.full(len(frame), NONE, dtype=np.int32)
            rows = self._usable(frame)
            part = frame[rows]
            if len(part):
                chunk = self._scaling.turn(self._scaling.apply(part), dial)
                where = part[["lon", "lat"]].to_numpy() if self._method == "contiguous" else None
                labels[rows] = self._found.model.assign(chunk, where)
            self._means.add(frame, labels)
            yield Part(frame.index.to_numpy(), labels, np.zeros((len(frame), 0), dtype=np.float32))

    def outcome(self) -> Outcome:
        told = {words.group: words for words in self._explanation.groups}
        groups = tuple(
            Group(label, told[label].name, told[label].sentence, told[label].rule)
            if label in told
            else Group(label, f"Group {label + 1}")
            for label in range(self._found.k)
        )
        fitted_on = len(self._found.labels)
        notes = [*self._scaling.notes, *self._found.notes, *self._of_places()]
        if fitted_on < self._buyers:
            notes.append(f"Found on {fitted_on:,} customers drawn at random; all {self._buyers:,} are assigned.")
        results: dict[str, Any] = {
            "k": self._found.k,
            "verdict": self._explanation.verdict,
            "accuracy": self._explanation.accuracy,
            "balanced_accuracy": self._explanation.balanced_accuracy,
            "features": [feature.name for feature in self._wanted.scaled],
            "dropped": [
                {"feature": one.name, "reason": self._reasons().get(one.name, one.reason)}
                for one in self._scaling.dropped
            ],
            "columns": list(self._scaling.names),
            "words": [
                {"label": w.group, "rule": w.rule, "precision": w.precision, "coverage": w.coverage}
                for w in self._explanation.groups
            ],
            "profile": self._means.table(groups),
            "distinct": as_rows(self._explanation.profiles),
            "place": self._gain(),
            "notes": notes,
        }
        if self._choice is not None:
            results["choice"] = {
                "k": self._choice.k,
                "reason": self._choice.reason,
                "table": as_rows(self._choice.table),
                "alone": list(self._choice.alone),
            }
        return Outcome(groups, results, profiles=self._profiles)

    def _gain(self) -> dict[str, Any] | None:
        """Whether groups that know the place tell more of what customers spend than as many that do not know it."""
        dial = number_of(self.parameters, "dial", 0.3, 0, 1)
        blocks = set(self._scaling.blocks)
        if dial == 0 or len(blocks) < 2 or self._found.k < 2:
            return None
        draw = Draw(JUDGED_ROWS, self.seed)
        draw.add(self._sample)
        sample = draw.frame()
        scaled = self._scaling.apply(sample)
        method: clusters.Method = "kmeans" if self._method == "contiguous" else self._method
        k = None if method == "hdbscan" else self._found.k
        with_, without = (
            clusters.fit(self._scaling.turn(scaled, turned), method, k, seed=self.seed).labels for turned in (dial, 0.0)
        )
        found = gain_of_groups(sample[list(POINT)], with_, without, sample[SPENT], seed=self.seed)
        if isinstance(found, str):
            return {"verdict": "cannot tell", "sentence": found, "measures": []}
        told = "of what customers of parts of the map never seen spent in the last 365 days"
        return gain_as_json(found) | {"what": f"groups with and without place, by what they tell {told}"}

    def _reasons(self) -> dict[str, str]:
        return {} if self._around is None else self._around.reasons

    def _of_places(self) -> Iterator[str]:
        """What was left out of places, and of customers for their points."""
        if self._around is None:
            return
        yield from self._around.notes
        if self._coarse:
            how = "are in no group" if self._method == "contiguous" else "are grouped by what else is known of them"
            yield (
                f"{self._coarse:,} of {self._all:,} customers have no point, or only that of a postal code or town:"
                f" they {how}."
            )

    def _usable(self, frame: pd.DataFrame) -> NDArray[np.bool_]:
        """Who is grouped: buyers, and of contiguous groups those with a point."""
        held = _bought(frame)
        if self._method == "contiguous":
            held = held & frame["lon"].notna().to_numpy()
        return held

    def _draw(self) -> tuple[pd.DataFrame, int]:
        """A sample of those who are grouped, every one with the same chance, in order of id; and how many they are.

        Places are asked for the sample alone, unless they decide who is grouped."""
        first = self._around if self._method == "contiguous" else None
        draw, coarse = Draw(SAMPLE_ROWS, self.seed), 0
        for frame in self.reader.chunks(self._wanted.read, phase="reading", around=first):
            part = frame[self._usable(frame)]
            coarse += int(_bought(frame).sum()) - len(part)
            draw.add(part)
        if not draw.seen:
            who = "customers with an order before the cutoff"
            if coarse:
                raise TooLittleData(f"Contiguous groups need {who} and a point better than that of a postal code.")
            raise TooLittleData(f"Groups need {who}; there are none.")
        sample = draw.frame()
        if self._around is not None and first is None:
            sample = sample.join(self.reader.places(self._around, sample.index.to_numpy()))
        return sample, draw.seen

    def _explain(self, sample: pd.DataFrame) -> explain.Explanation:
        if not (self._found.labels >= 0).any():
            nobody = pd.DataFrame()
            return explain.Explanation((), 0.0, 0.0, "There is no group to explain.", nobody)
        columns = [column for feature in self._wanted.scaled for column in feature.source]
        words = {column: _wording(column) for column in columns}
        return explain.explain(sample, self._found.labels, words, seed=self.seed)


def _bought(frame: pd.DataFrame) -> NDArray[np.bool_]:
    return cast("NDArray[np.bool_]", frame["recency_days"].notna().to_numpy())


def _wording(column: str) -> Wording:
    if column in _WORDING:
        return _WORDING[column]
    family, _, member = column.partition(".")
    if family in ("channel_share", "category_share"):
        high = f"buyers of {member}" if family == "category_share" else f"{member} buyers"
        return Wording(f"share of {member}", "share", f"{{}} {member}", high=high, low=f"little {member}")
    if family == "attributes":
        return Wording(member.replace("_", " "))
    if family == "area":
        return Wording(f"{member.replace('_', ' ')} of the area")
    found = next(feature for feature in feature_registry.FEATURES if feature.name == column)
    if found.dtype == "category":
        return Wording(column.replace("_", " "))
    unit = {"money": "", "ratio": "", "0 or 1": ""}.get(found.unit, found.unit)
    return Wording(column.replace("_", " "), unit)


# ---------------------------------------------------------------- preview


@dataclass(frozen=True)
class Preview:
    """What groups would look like, on a sample: words and sizes, and the sample's customers with their places."""

    sample: int
    groups: tuple[explain.GroupWords, ...]
    verdict: str
    notes: tuple[str, ...]
    ids: NDArray[np.int64]
    labels: NDArray[np.int32]
    lon: NDArray[np.float64]
    lat: NDArray[np.float64]


def preview(session: Session, parameters: Mapping[str, Any], *, seed: int) -> Preview:
    """Groups of a sample of about 2,000 customers by the newest statistics of sales, within seconds. Nothing is stored.

    Without `k` five groups are shown: choosing the number takes longer than one waits for. Needs the worker's session.
    Raises Invalid, TooLittleData, and Conflict where there are no statistics yet."""
    check(parameters)
    cutoff = _newest(session)
    reader = _Sampled(session, cutoff, seed)
    given = dict(parameters) | ({} if parameters.get("method") == "hdbscan" else {"k": parameters.get("k") or 5})
    left_out = []
    if reader.customers > PREVIEW_BUYERS:
        names = given.get("features") or [*BEHAVIOUR, *PLACE]
        left_out = [name for name in names if name in OF_BUYERS]
        given["features"] = [name for name in names if name not in OF_BUYERS]
    method = Groups(reader, given, seed)
    parts = list(method.parts())
    ids = np.concatenate([part.ids for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    held = labels != NONE
    places = reader.places(Surroundings(session, cutoff, (), points=True), ids)
    notes = [f"Left out of the preview: {', '.join(left_out)}; they take all customers."] if left_out else []
    return Preview(
        sample=int(held.sum()), groups=method._explanation.groups, verdict=method._explanation.verdict,
        notes=(*method._scaling.notes, *method._found.notes, *method._of_places(), *notes),
        ids=ids[held], labels=labels[held],
        lon=places["lon"].to_numpy()[held], lat=places["lat"].to_numpy()[held],
    )  # fmt: skip


def _newest(session: Session) -> datetime:
    cutoff = session.scalar(text("SELECT max(cutoff) FROM feature_cutoffs"))
    if cutoff is None:
        raise Conflict("There are no statistics of sales yet: run a segmentation first, then there is a preview.")
    return cast(datetime, cutoff)


class _Sampled(Reader):
    """The features of some customers: of all where they are few, else of blocks of neighbouring ids drawn at random."""

    def __init__(self, session: Session, cutoff: datetime, seed: int) -> None:
        super().__init__(session, cutoff, tell=lambda phase, done, total: None)
        low, high, total = session.execute(
            text("SELECT min(id), max(id), count(*) FROM customers WHERE erased_at IS NULL")
        ).one()
        self.customers = int(total)
        self._blocks: list[tuple[int, int]] = [(0, 2**62)]
        if total > 2 * PREVIEW_ROWS:
            width = max(1, round((high - low + 1) / total * PREVIEW_ROWS / PREVIEW_BLOCKS))
            places = np.random.default_rng(seed).choice((high - low) // width + 1, PREVIEW_BLOCKS, replace=False)
            self._blocks = [(low + int(at) * width, low + (int(at) + 1) * width - 1) for at in np.sort(places)]
        self._held: dict[tuple[str, ...], pd.DataFrame] = {}
        self._placed: dict[Surroundings, pd.DataFrame] = {}

    def chunks(self, names: list[str], *, phase: str, around: Surroundings | None = None) -> Iterator[pd.DataFrame]:
        """One frame."""
        key = tuple(names)
        if key not in self._held:
            frames = [
                frame
                for block in self._blocks
                for frame in features.read_features(self.session, self.cutoff, names, between=block)
            ]
            if not frames:
                raise TooLittleData("There are no customers to group.")
            self._held[key] = pd.concat(frames)
        held = self._held[key]
        yield held if around is None else held.join(self.places(around, held.index.to_numpy()))

    def places(self, around: Surroundings, ids: NDArray[np.int64]) -> pd.DataFrame:
        """Of all of the sample once."""
        if around not in self._placed:
            everybody = next(iter(self._held.values())).index.to_numpy()
            self._placed[around] = super().places(around, everybody)
        return self._placed[around].loc[ids]
