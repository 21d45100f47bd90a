"""Groups of customers by location and behaviour as a method of segmentations, and its preview on a sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm.errors import Conflict, Invalid, TooLittleData
from geocrm.segmentation import clusters, explain, features, scaling, stability
from geocrm.segmentation.explain import Wording
from geocrm.segmentation.locations import COLUMNS, Locations
from geocrm.segmentation.methods import NONE, Group, Means, Method, Outcome, Part, Reader, check_names, number_of, wrong

BEHAVIOUR: Final = (
    "recency_days", "frequency", "basket_value", "gap_mean_days", "returned_share", "discount_share",
    "channel_share.*", "category_share.*",
)  # fmt: skip
PLACE: Final = ("location", "own_shop_m")
SAMPLE_ROWS: Final = 200_000
"""Groups are found on at most so many customers; all are assigned."""
PREVIEW_ROWS: Final = 2_000
PREVIEW_BLOCKS: Final = 40
MOST_GROUPS: Final = 50

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
    "own_shop_m": Wording("distance to a shop", "m", "{} from a shop", "within {} of a shop", "over {} from a shop",
                          "far from shops", "close to a shop"),
    "competitor_m": Wording("distance to a competitor", "m", "{} from a competitor", "within {} of a competitor",
                            "over {} from a competitor", "far from competitors", "close to a competitor"),
    "lon": Wording("longitude", "°", "at longitude {}", "west of {}", "east of {}", "in the east", "in the west"),
    "lat": Wording("latitude", "°", "at latitude {}", "south of {}", "north of {}", "in the north", "in the south"),
}  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """Which features enter: names for the database, and how each is scaled."""

    read: list[str]
    scaled: list[scaling.Feature]
    located: bool


def check(parameters: Mapping[str, Any]) -> None:
    """Raise Invalid, with a pointer, for parameters that groups do not take."""
    check_names(parameters, {"method", "k", "dial", "features"})
    method = parameters.get("method", "kmeans")
    if method not in clusters.METHODS:
        raise wrong("method", f"expected one of {', '.join(clusters.METHODS)}")
    k = parameters.get("k")
    if k is not None and (isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= MOST_GROUPS):
        raise wrong("k", f"expected a whole number from 1 to {MOST_GROUPS}, or nothing: it is chosen then")
    if k is not None and method == "hdbscan":
        raise wrong("k", "HDBSCAN finds the number of groups by itself")
    number_of(parameters, "dial", 0.3, 0, 1)
    names = parameters.get("features", [])
    if not isinstance(names, list) or not all(isinstance(name, str) and 0 < len(name) <= 200 for name in names):
        raise wrong("features", "expected a list of names of features")
    known = {feature.name for feature in features.FEATURES if feature.kind != "place"} | {"location", *COLUMNS[2:]}
    families = ("channel_share", "category_share", "attributes")
    for name in names:
        family, _, member = name.partition(".")
        if name not in known and not (member and family in families):
            raise wrong("features", f"there is no feature {name[:60]!r}")


def _wanted(reader: Reader, names: Sequence[str]) -> Wanted:
    cutoff = features.get_cutoff(reader.session, reader.cutoff)
    read: list[str] = []
    scaled: list[scaling.Feature] = []
    for name in names:
        if name == "location":
            scaled.append(scaling.Feature("location", "place", "location", ("lon", "lat")))
        elif name in COLUMNS:
            scaled.append(scaling.Feature(name, "place"))
        else:
            found = features.find_features(reader.session, cutoff, [name])
            read += [feature.name for feature in found]
            if name.endswith(".*"):
                if len(found) > 1:  # of one part everybody has the whole
                    columns = tuple(feature.name for feature in found)
                    scaled.append(scaling.Feature(name[:-2], "behaviour", "composition", columns))
            else:
                kind: scaling.Kind = "category" if found[0].dtype == "category" else "number"
                scaled.append(scaling.Feature(found[0].name, "behaviour", kind))
    located = any(feature.block == "place" for feature in scaled)
    return Wanted(list(dict.fromkeys(["recency_days", *read])), scaled, located)


class Groups(Method):
    """Groups by location and behaviour of the customers who ordered before the cutoff.

    Parameters: `method` (kmeans), `k` (chosen by stability where left out), `dial` from behaviour 0 to place 1 (0.3),
    `features` (the usual ones)."""

    name = "groups"
    named = False

    @staticmethod
    def check(parameters: Mapping[str, Any]) -> None:
        check(parameters)

    def parts(self) -> Iterator[Part]:
        dial = number_of(self.parameters, "dial", 0.3, 0, 1)
        names = self.parameters.get("features") or [*BEHAVIOUR, *PLACE]
        self._wanted = _wanted(self.reader, names)
        self._locations = Locations(self.reader.session) if self._wanted.located else None
        self._method = cast(clusters.Method, self.parameters.get("method", "kmeans"))
        sample, self._buyers = self._draw()
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
        for frame in self._frames("assigning"):
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
        notes = [*self._scaling.notes, *self._found.notes]
        if fitted_on < self._buyers:
            notes.append(f"Found on {fitted_on:,} customers drawn at random; all {self._buyers:,} are assigned.")
        results: dict[str, Any] = {
            "k": self._found.k,
            "verdict": self._explanation.verdict,
            "accuracy": self._explanation.accuracy,
            "balanced_accuracy": self._explanation.balanced_accuracy,
            "features": [feature.name for feature in self._wanted.scaled],
            "dropped": [{"feature": one.name, "reason": one.reason} for one in self._scaling.dropped],
            "columns": list(self._scaling.names),
            "words": [
                {"label": w.group, "rule": w.rule, "precision": w.precision, "coverage": w.coverage}
                for w in self._explanation.groups
            ],
            "profile": self._means.table(groups),
            "distinct": _rows(self._explanation.profiles),
            "notes": notes,
        }
        if self._choice is not None:
            results["choice"] = {"k": self._choice.k, "reason": self._choice.reason, "table": _rows(self._choice.table)}
        return Outcome(groups, results, profiles=self._profiles)

    def _frames(self, phase: str) -> Iterator[pd.DataFrame]:
        for frame in self.reader.chunks(self._wanted.read, phase=phase):
            if self._locations is not None:
                places = self._locations.read(frame.index.to_numpy())
                self.reader.saw(places)
                yield frame.join(places)
            else:
                yield frame

    def _usable(self, frame: pd.DataFrame) -> NDArray[np.bool_]:
        """Who is grouped: buyers, and of contiguous groups those with a place."""
        held = frame["recency_days"].notna().to_numpy()
        if self._method == "contiguous":
            if "lon" not in frame:
                raise Invalid("Contiguous groups need the feature location.")
            held &= frame["lon"].notna().to_numpy()
        return cast("NDArray[np.bool_]", held)

    def _draw(self) -> tuple[pd.DataFrame, int]:
        """A sample of those who are grouped, every one with the same chance, in order of id; and how many they are."""
        generator = np.random.default_rng(self.seed)
        kept: list[pd.DataFrame] = []
        keys: list[NDArray[np.float64]] = []
        seen = 0
        for frame in self._frames("reading"):
            part = frame[self._usable(frame)]
            seen += len(part)
            kept.append(part)
            keys.append(generator.random(len(part)))
            if sum(map(len, kept)) > 2 * SAMPLE_ROWS:
                kept, keys = _thin(kept, keys)
        if not seen:
            raise TooLittleData("Groups need customers with an order before the cutoff; there are none.")
        kept, _ = _thin(kept, keys)
        return kept[0], seen

    def _explain(self, sample: pd.DataFrame) -> explain.Explanation:
        if not (self._found.labels >= 0).any():
            nobody = pd.DataFrame()
            return explain.Explanation((), 0.0, 0.0, "There is no group to explain.", nobody)
        columns = [column for feature in self._wanted.scaled for column in feature.source]
        words = {column: _wording(column) for column in columns}
        return explain.explain(sample, self._found.labels, words, seed=self.seed)


def _thin(
    kept: list[pd.DataFrame], keys: list[NDArray[np.float64]]
) -> tuple[list[pd.DataFrame], list[NDArray[np.float64]]]:
    whole, drawn = pd.concat(kept), np.concatenate(keys)
    if len(whole) > SAMPLE_ROWS:
        rows = np.sort(np.argpartition(drawn, SAMPLE_ROWS)[:SAMPLE_ROWS])
        whole, drawn = whole.iloc[rows], drawn[rows]
    return [whole], [drawn]


def _wording(column: str) -> Wording:
    if column in _WORDING:
        return _WORDING[column]
    family, _, member = column.partition(".")
    if family in ("channel_share", "category_share"):
        high = f"buyers of {member}" if family == "category_share" else f"{member} buyers"
        return Wording(f"share of {member}", "share", f"{{}} {member}", high=high, low=f"little {member}")
    if family == "attributes":
        return Wording(member.replace("_", " "))
    found = next(feature for feature in features.FEATURES if feature.name == column)
    if found.dtype == "category":
        return Wording(column.replace("_", " "))
    unit = {"money": "", "ratio": "", "0 or 1": ""}.get(found.unit, found.unit)
    return Wording(column.replace("_", " "), unit)


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table as JSON, what is not a number as null."""
    return [{str(key): _plain(value) for key, value in row.items()} for row in table.to_dict(orient="records")]


def _plain(value: Any) -> Any:
    if isinstance(value, np.bool_ | bool):
        return bool(value)
    if isinstance(value, np.integer | int):
        return int(value)
    if isinstance(value, np.floating | float):
        return float(value) if np.isfinite(value) else None
    return None if value is None or value is pd.NA else str(value)


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
    reader = _Sampled(session, _newest(session), seed)
    given = dict(parameters) | ({} if parameters.get("method") == "hdbscan" else {"k": parameters.get("k") or 5})
    method = Groups(reader, given, seed)
    parts = list(method.parts())
    ids = np.concatenate([part.ids for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    held = labels != NONE
    places = Locations(session).read(ids)
    return Preview(
        sample=int(held.sum()), groups=method._explanation.groups, verdict=method._explanation.verdict,
        notes=(*method._scaling.notes, *method._found.notes), ids=ids[held], labels=labels[held],
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
        self._blocks: list[tuple[int, int]] = [(0, 2**62)]
        if total > 2 * PREVIEW_ROWS:
            width = max(1, round((high - low + 1) / total * PREVIEW_ROWS / PREVIEW_BLOCKS))
            places = np.random.default_rng(seed).choice((high - low) // width + 1, PREVIEW_BLOCKS, replace=False)
            self._blocks = [(low + int(at) * width, low + (int(at) + 1) * width - 1) for at in np.sort(places)]
        self._held: dict[tuple[str, ...], pd.DataFrame] = {}

    def chunks(self, names: list[str], *, phase: str) -> Iterator[pd.DataFrame]:
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
        yield self._held[key]
