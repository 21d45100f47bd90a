"""Features made ready for methods that measure distances, and the dial between behaviour and place.

Every feature becomes one or several columns whose variances add up to its weight, so that no feature speaks louder for
its unit or for its number of columns. The fitted transform is data: it applies to chunks and is stored as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geocrm.errors import Invalid, TooLittleData

Block = Literal["behaviour", "place"]
Kind = Literal["number", "composition", "category", "location"]
Transform = Literal["auto", "log", "none"]
Function = Literal["log1p", "asinh", "identity", "root", "globe"]
Floats = NDArray[np.float64]

BLOCKS: tuple[Block, Block] = ("behaviour", "place")
EARTH_RADIUS_KM = 6371.0088  # mean radius of GRS 80
REACH = 3.5  # values farther from the median, in robust standard deviations, are drawn in to there
SKEWED = 1.0  # a moment skewness beyond this asks for a logarithm
INDICATED_FROM = 0.05  # share of values not known from which "not known" is a column of its own
MOST_MISSING = 0.5  # share of values not known beyond which a feature is left out
MOST_LEVELS = 20  # of a category; rarer ones count as one
OTHER = "(other)"
SAMPLE_ROWS = 200_000  # the transform is fitted on at most so many rows


@dataclass(frozen=True)
class Feature:
    """How a feature enters: which block, which kind, which columns of the frame.

    `number`: one column. `composition`: shares or amounts of a whole (category mix, channels), one column a part.
    `category`: one column of names. `location`: two columns, longitude and latitude in degrees.
    `transform` "auto" takes logarithms where the skewness asks for it. `weight` is the variance it gets in its block.
    """

    name: str
    block: Block = "behaviour"
    kind: Kind = "number"
    columns: tuple[str, ...] = ()
    transform: Transform = "auto"
    weight: float = 1.0

    @property
    def source(self) -> tuple[str, ...]:
        """The columns of the frame it is made of."""
        return self.columns or (self.name,)


@dataclass(frozen=True)
class Dropped:
    """A feature that was left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Fitted:
    """A feature with the constants of its transform.

    Values are t = f(x / unit), drawn in to `middle` ± `reach`, less `mean`, times `factor`.
    """

    feature: Feature
    function: Function
    unit: float
    middle: tuple[float, ...]
    reach: float | None
    mean: tuple[float, ...]
    factor: float
    indicator: float | None  # mean of the column "not known"; None where there is no such column
    indicator_factor: float
    levels: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns it becomes."""
        if self.function == "globe":
            made = tuple(f"{self.feature.name} {axis}" for axis in "xyz")
        elif self.feature.kind == "category":
            made = tuple(f"{self.feature.name} = {level}" for level in self.levels)
        else:
            made = self.feature.source
        return (*made, f"{self.feature.name} not known") if self.indicator is not None else made


@dataclass(frozen=True)
class Scaling:
    """A fitted transform of a frame into a matrix for distance methods.

    Columns of behaviour come first, those of place follow. Over the rows it was fitted on, each block has a mean
    squared pairwise distance of 1.
    """

    fitted: tuple[Fitted, ...]
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...]
    rows: int

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of the matrix."""
        return tuple(name for fitted in self.fitted for name in fitted.names)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The block of each column of the matrix."""
        return tuple(fitted.feature.block for fitted in self.fitted for _ in fitted.names)

    def apply(self, frame: pd.DataFrame) -> Floats:
        """The matrix (rows × columns) of a frame or a chunk of one, without the dial."""
        made = np.empty((len(frame), len(self.names)))
        at = 0
        for fitted in self.fitted:
            width = len(fitted.names)
            _fill(made[:, at : at + width], fitted, _raw(frame, fitted))
            at += width
        return made

    def turn(self, matrix: Floats, dial: float) -> Floats:
        """The matrix with the dial set: 0 is behaviour alone, 1 place alone.

        Behaviour is multiplied by √(1 − dial), place by √dial. As each block has a mean squared pairwise distance
        of 1, so has the whole, and the dial is the share of it that comes from place. Columns of weight 0 are left out.
        Raises Invalid for a dial outside [0, 1], or one that asks for a block without features.
        """
        if not 0.0 <= dial <= 1.0:
            raise Invalid(f"The dial between behaviour (0) and place (1) is {dial:g}; it must lie in [0, 1].")
        weights = {"behaviour": 1.0 - dial, "place": dial}
        present = set(self.blocks)
        for block, end in (("behaviour", 1), ("place", 0)):
            if weights[block] > 0 and block not in present:
                raise Invalid(
                    f"There is no usable feature of {block}, but the dial stands at {dial:g}: "
                    f"turn it to {end} or give such features."
                )
        taken = np.array([weights[block] for block in self.blocks])
        kept = taken > 0
        return matrix[:, kept] * np.sqrt(taken[kept])

    def turned_names(self, dial: float) -> tuple[str, ...]:
        """Names of the columns that `turn` leaves."""
        left_out = {0.0: "place", 1.0: "behaviour"}.get(dial)
        return tuple(name for name, block in zip(self.names, self.blocks, strict=True) if block != left_out)

    def to_json(self) -> dict[str, Any]:
        """The transform as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Scaling:
        """The transform that `to_json` gave."""
        return cls(
            fitted=tuple(
                Fitted(
                    **{
                        **row,
                        "feature": Feature(**{**row["feature"], "columns": tuple(row["feature"]["columns"])}),
                        "middle": tuple(row["middle"]),
                        "mean": tuple(row["mean"]),
                        "levels": tuple(row["levels"]),
                    }
                )
                for row in stored["fitted"]
            ),
            dropped=tuple(Dropped(**row) for row in stored["dropped"]),
            notes=tuple(stored["notes"]),
            rows=stored["rows"],
        )


def fit_scaling(
    frame: pd.DataFrame, features: Sequence[Feature], *, seed: int, most_missing: float = MOST_MISSING
) -> Scaling:
    """Fit the transform on a frame of one row a customer (on a sample of 200,000 rows where there are more).

    * A number that is never negative and has a skewness over 1 becomes log(1 + x/u), one that may be negative
      asinh(x/u), where that lowers the skewness; u is the median of its non-zero magnitudes: units do not matter.
    * Values beyond the median ± 3.5 robust standard deviations (interquartile range / 1.349) are drawn in to there
      (winsorised; Tukey 1962), and the result is divided by its standard deviation. Of a location it is the distance
      from the middle that is drawn in.
    * A composition becomes the square roots of its shares (Hellinger; Rao 1995, Legendre and Gallagher 2001): customers
      who never buy from most categories are the rule, zeros have no logarithm, and log-ratios would hang on what
      replaces them. A category is the composition of one part. A location becomes its point on the globe, in
      kilometres: straight lines through the earth, no seam at ±180°, 0.1 % short of the arc at 1,000 km.
    * Infinite counts as not known. What is not known becomes the median (the mean of a composition, the middle of all
      places); from 5 % on a column says so as well; beyond `most_missing` the feature is left out; constant ones too.

    Raises Invalid where columns are missing from the frame or a feature is declared wrongly, TooLittleData with fewer
    than two rows, or where no feature is left.
    """
    _check(frame, features)
    if len(frame) < 2:
        raise TooLittleData(f"Scaling features needs at least 2 customers; there {_are(len(frame))}.")
    if len(frame) > SAMPLE_ROWS:
        drawn = np.random.default_rng(seed).choice(len(frame), SAMPLE_ROWS, replace=False)
        frame = frame.iloc[np.sort(drawn)]
    kept: list[Fitted] = []
    dropped: list[Dropped] = []
    notes: list[str] = []
    for feature in sorted(features, key=lambda each: BLOCKS.index(each.block)):
        made, said = _fit_one(frame, feature, most_missing)
        if isinstance(made, Dropped):
            dropped.append(made)
        else:
            kept.append(made)
        notes += said
    if not kept:
        reasons = "; ".join(f"{each.name}: {each.reason}" for each in dropped)
        raise TooLittleData(f"No feature tells the customers apart ({reasons}). Groups need at least one that does.")
    totals = {block: sum(each.feature.weight for each in kept if each.feature.block == block) for block in BLOCKS}
    scaled = tuple(
        _times(each, float(np.sqrt(each.feature.weight / (2 * totals[each.feature.block])))) for each in kept
    )
    return Scaling(scaled, tuple(dropped), tuple(notes), len(frame))


def mean_squared_distance(matrix: Floats) -> float:
    """The mean squared Euclidean distance over all pairs of rows: twice the sum of the columns' variances."""
    return float(2.0 * np.var(matrix, axis=0, ddof=1).sum())


def globe_km(lon: Floats, lat: Floats) -> Floats:
    """Points on the sphere (n × 3), in kilometres from the earth's middle; NaN where a coordinate is not known."""
    across, up = np.radians(lon), np.radians(lat)
    flat = np.cos(up)
    return EARTH_RADIUS_KM * np.column_stack([flat * np.cos(across), flat * np.sin(across), np.sin(up)])


def _are(number: int) -> str:
    return "is 1" if number == 1 else f"are {number}"


def _times(fitted: Fitted, factor: float) -> Fitted:
    return replace(fitted, factor=fitted.factor * factor, indicator_factor=fitted.indicator_factor * factor)


def _check(frame: pd.DataFrame, features: Sequence[Feature]) -> None:
    if not features:
        raise Invalid("Name at least one feature.")
    names = [feature.name for feature in features]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Invalid(f"Features named twice: {', '.join(twice)}.")
    if lost := sorted({column for feature in features for column in feature.source} - set(frame.columns)):
        raise Invalid(f"The frame lacks the columns {', '.join(lost)}.")
    for feature in features:
        wanted = {"number": "one column", "category": "one column", "location": "longitude and latitude"}
        counts = {"number": 1, "category": 1, "location": 2}
        if feature.kind in counts and len(feature.source) != counts[feature.kind]:
            raise Invalid(f"{feature.name}: a {feature.kind} is made of {wanted[feature.kind]}.")
        if feature.kind == "composition" and len(feature.source) < 2:
            raise Invalid(f"{feature.name}: a composition has at least two parts.")
        if not (np.isfinite(feature.weight) and feature.weight > 0):
            raise Invalid(f"{feature.name}: the weight must be a positive number.")


def _numbers(frame: pd.DataFrame, column: str) -> Floats:
    """A column as floats, NaN where not known or infinite."""
    values = frame[column].to_numpy(dtype=np.float64, na_value=np.nan)
    if not np.isfinite(values).all():
        values = np.where(np.isfinite(values), values, np.nan)
    return cast(Floats, values)


def _codes(frame: pd.DataFrame, column: str, levels: Sequence[str]) -> NDArray[np.int64]:
    """Which level each row has: −1 where not known, the last one (other) where it is none of the rest."""
    names, held = pd.factorize(frame[column])
    position = {level: number for number, level in enumerate(levels)}
    rest = position.get(OTHER, -1)
    lookup = np.array([position.get(str(each), rest) for each in held] + [-1], dtype=np.int64)
    return cast("NDArray[np.int64]", lookup[names])


def _raw(frame: pd.DataFrame, fitted: Fitted) -> Floats:
    """t = f(x / unit) before anything is filled in or drawn in (n × columns without the indicator)."""
    feature = fitted.feature
    if feature.kind == "number":
        values = _numbers(frame, feature.source[0])
        if fitted.function == "identity":
            return values[:, None]
        scaled = values / fitted.unit
        if fitted.function == "log1p":
            return np.log1p(np.maximum(scaled, 0.0, out=scaled), out=scaled)[:, None]
        return np.arcsinh(scaled, out=scaled)[:, None]
    if feature.kind == "location":
        return globe_km(_numbers(frame, feature.source[0]), _numbers(frame, feature.source[1]))
    if feature.kind == "category":
        codes = _codes(frame, feature.source[0], fitted.levels)
        made = (codes[:, None] == np.arange(len(fitted.levels))).astype(np.float64)
        made[codes < 0] = np.nan
        return cast(Floats, made)
    return _roots(frame, feature)


def _roots(frame: pd.DataFrame, feature: Feature) -> Floats:
    """Square roots of the shares; negative parts (more returned than bought) count as nothing."""
    parts = np.column_stack([_numbers(frame, column) for column in feature.source])
    parts = np.maximum(parts, 0.0)
    whole = parts.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return cast(Floats, np.sqrt(np.where(whole > 0, parts / whole, np.nan)))


def _fill(into: Floats, fitted: Fitted, raw: Floats) -> None:
    """Write the columns of one feature."""
    width = raw.shape[1]
    unknown = np.isnan(raw[:, 0])
    if width > 1:
        unknown = np.isnan(raw).any(axis=1)
    drawn = _drawn_in(raw, fitted.middle, fitted.reach)
    if unknown.any():
        drawn[unknown] = fitted.middle
    drawn -= fitted.mean
    np.multiply(drawn, fitted.factor, out=into[:, :width])
    if fitted.indicator is not None:
        into[:, width] = (unknown - fitted.indicator) * fitted.indicator_factor


def _drawn_in(raw: Floats, middle: tuple[float, ...], reach: float | None) -> Floats:
    """Values no farther than `reach` from the middle: each number by itself, a location along its ray."""
    if reach is None:
        return raw.copy()
    if raw.shape[1] == 1:
        return np.clip(raw, middle[0] - reach, middle[0] + reach)
    away = raw - middle
    distance = np.sqrt((away**2).sum(axis=1, keepdims=True))
    with np.errstate(divide="ignore"):
        return middle + away * np.minimum(1.0, reach / distance)


def _fit_one(frame: pd.DataFrame, feature: Feature, most_missing: float) -> tuple[Fitted | Dropped, list[str]]:
    """The fitted transform of one feature with total variance 1, or why it is left out."""
    start = _start(frame, feature)
    if feature.kind == "category" and not start.levels:
        return Dropped(feature.name, "not known of any customer"), []
    raw = _raw(frame, start)
    unknown = np.isnan(raw).any(axis=1)
    share = float(unknown.mean())
    if share == 1.0:
        return Dropped(feature.name, "not known of any customer"), []
    if share > most_missing:
        return Dropped(feature.name, f"not known of {100 * share:.0f} % of the customers"), []
    known = raw[~unknown]
    if np.ptp(known, axis=0).max() == 0 and share < INDICATED_FROM:
        return Dropped(feature.name, "the same for all customers"), []
    middle, reach = _middle_and_reach(known, feature.kind)
    drawn = _drawn_in(raw, middle, reach)
    drawn[unknown] = middle
    variance = float(np.var(drawn, axis=0, ddof=1).sum())
    if not unknown.any():
        notes = []
    else:
        stand_in = {"location": "the middle of all", "number": "the median"}.get(feature.kind, "the mean composition")
        notes = [f"{feature.name}: not known of {int(unknown.sum())} of {len(unknown)} customers, set to {stand_in}"]
    indicator, beside, spread = None, 0.0, float(np.sqrt(variance))
    if share >= INDICATED_FROM:  # one step of "not known" weighs as one standard deviation of what is known
        inner = float(np.sqrt(np.var(drawn[~unknown], axis=0, ddof=1).sum())) or 1.0
        root = float(np.sqrt(variance / inner**2 + np.var(unknown, ddof=1)))
        indicator, beside, spread = share, 1.0 / root, inner * root
    mean = tuple(map(float, drawn.mean(axis=0)))
    return replace(
        start, middle=middle, reach=reach, mean=mean, factor=1.0 / spread, indicator=indicator, indicator_factor=beside
    ), notes


def _start(frame: pd.DataFrame, feature: Feature) -> Fitted:
    """Function, unit and levels; the rest is still to be fitted."""
    function: Function = "identity"
    unit = 1.0
    levels: tuple[str, ...] = ()
    if feature.kind == "number":
        function, unit = _choose_function(_numbers(frame, feature.source[0]), feature.transform)
    elif feature.kind == "location":
        function = "globe"
    elif feature.kind == "composition":
        function = "root"
    else:
        levels = _levels(frame[feature.source[0]])
    return Fitted(feature, function, unit, (), None, (), 1.0, None, 0.0, levels)


def _choose_function(values: Floats, transform: Transform) -> tuple[Function, float]:
    """Whether a logarithm is taken, and the unit in it."""
    known = values[~np.isnan(values)]
    magnitudes = np.abs(known[known != 0])
    if transform == "none" or not len(magnitudes):
        return "identity", 1.0
    unit = float(np.median(magnitudes))
    function: Function = "log1p" if known.min() >= 0 else "asinh"
    if transform == "log":
        return function, unit
    after = np.log1p(known / unit) if function == "log1p" else np.arcsinh(known / unit)
    before = abs(_skewness(known))
    return (function, unit) if before > SKEWED and abs(_skewness(after)) < before else ("identity", 1.0)


def _skewness(values: Floats) -> float:
    """Third standardised moment; 0 where all values are equal."""
    away = values - values.mean()
    spread = float(np.sqrt((away**2).mean()))
    return float((away**3).mean()) / spread**3 if spread > 0 else 0.0


def _levels(column: pd.Series) -> tuple[str, ...]:
    """Names of a category, the most frequent first (ties by name), at most 20; rarer ones count as one."""
    counts = column.dropna().astype(str).value_counts()
    ordered = sorted(counts.index, key=lambda level: (-counts[level], level))
    return tuple(ordered) if len(ordered) <= MOST_LEVELS else (*ordered[: MOST_LEVELS - 1], OTHER)


def _middle_and_reach(known: Floats, kind: Kind) -> tuple[tuple[float, ...], float | None]:
    """Where values are drawn in from, and how far from it they may lie."""
    if kind in ("composition", "category"):
        return tuple(map(float, known.mean(axis=0))), None
    middle = np.median(known, axis=0)
    if kind == "location":
        distance = np.sqrt(((known - middle) ** 2).sum(axis=1))
        spread = float(np.median(distance)) or float(np.sqrt((distance**2).mean()))
    else:
        low, high = np.quantile(known, (0.25, 0.75))
        spread = float(high - low) / 1.349 or float(known.std())
    return tuple(map(float, middle)), REACH * spread if spread > 0 else None
