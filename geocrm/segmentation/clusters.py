"""Groups of customers: k-means, Gaussian mixture, density (HDBSCAN) and contiguous groups, behind one interface.

`fit` takes the matrix of `geocrm.segmentation.scaling` with the dial set and gives labels and a model; the model
assigns chunks of further customers, and is stored as JSON.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from sklearn.cluster import HDBSCAN
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from geocrm.errors import Invalid, TooLittleData
from geocrm.segmentation import kmeans, regions
from geocrm.segmentation.kmeans import Chunks, Floats, Labels
from geocrm.segmentation.scaling import globe_km

Method = Literal["kmeans", "mixture", "hdbscan", "contiguous"]
METHODS: tuple[Method, ...] = ("kmeans", "mixture", "hdbscan", "contiguous")

NOISE = -1
PER_GROUP = 5  # fewer customers than this to a group, and groups are an invention
MIXTURE_ROWS = 50_000  # a mixture is fitted on at most so many rows
DENSE_ROWS = 10_000  # HDBSCAN likewise; they stay in the model as its references
MOST_STEPS = 500


@dataclass(frozen=True, eq=False)
class Model:
    """What assigns customers to groups 0 … k − 1, the largest first.

    Arrays by method: kmeans `centres` (k × columns); mixture `weights` (k), `means` (k × columns), `roots` (k ×
    columns × columns, upper triangular R with R Rᵀ = the inverse of the covariance); hdbscan `references` (rows ×
    columns), `labels`, `reach` (rows); contiguous `lonlat` (units × 2), `labels`, `centres`.
    """

    method: Method
    k: int
    columns: int
    arrays: Mapping[str, NDArray[Any]]

    def assign(self, chunk: Floats, lonlat: Floats | None = None) -> Labels:
        """The group of each row, −1 for noise (HDBSCAN alone); contiguous groups ask for `lonlat` (n × 2, degrees).

        k-means: the nearest centre. Mixture: the likeliest component. HDBSCAN: the group of the nearest reference, if
        that is no farther than the reference's core distance, else noise. Contiguous: the group of the nearest unit.
        """
        if self.k == 1 and self.method != "hdbscan":
            return np.zeros(len(chunk), dtype=np.int32)
        if self.method == "contiguous":
            return self._by_place(chunk, lonlat)
        self._check(chunk)
        if self.method == "kmeans":
            return kmeans.nearest(chunk, self.arrays["centres"])[0]
        if self.method == "mixture":
            return self._log_densities(chunk).argmax(axis=1).astype(np.int32)
        distance, closest = cKDTree(self.arrays["references"]).query(chunk)
        near = distance <= self.arrays["reach"][closest]
        return cast(Labels, np.where(near, self.arrays["labels"][closest], NOISE).astype(np.int32))

    def memberships(self, chunk: Floats) -> Floats:
        """Probabilities of the groups (n × k) under a mixture. Raises Invalid for other methods: they give none."""
        if self.method != "mixture":
            raise Invalid(f"{self.method} gives no probabilities of membership; a mixture does.")
        self._check(chunk)
        logs = self._log_densities(chunk)
        logs -= logs.max(axis=1, keepdims=True)
        made = np.exp(logs, out=logs)
        return made / made.sum(axis=1, keepdims=True)

    def to_json(self) -> dict[str, Any]:
        """The model as JSON values."""
        arrays = {name: array.tolist() for name, array in self.arrays.items()}
        return {"method": self.method, "k": self.k, "columns": self.columns, "arrays": arrays}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Model:
        """The model that `to_json` gave."""
        arrays = {
            name: np.array(held, dtype=np.int32 if name == "labels" else np.float64)
            for name, held in stored["arrays"].items()
        }
        return cls(stored["method"], stored["k"], stored["columns"], arrays)

    def _check(self, chunk: Floats) -> None:
        if chunk.ndim != 2 or chunk.shape[1] != self.columns:
            raise Invalid(f"These groups were made of {self.columns} columns; there are {chunk.shape[-1]}.")

    def _by_place(self, chunk: Floats, lonlat: Floats | None) -> Labels:
        if "lonlat" not in self.arrays:
            raise Invalid("These contiguous groups are made of areas: look a customer's area up.")
        if lonlat is None or len(lonlat) != len(chunk):
            raise Invalid("Contiguous groups are assigned by longitude and latitude; give one pair a row.")
        if not np.isfinite(lonlat).all():
            raise Invalid("Contiguous groups need a place for each customer; some have none.")
        units = self.arrays["lonlat"]
        _, closest = cKDTree(globe_km(units[:, 0], units[:, 1])).query(globe_km(lonlat[:, 0], lonlat[:, 1]))
        return cast(Labels, self.arrays["labels"][closest])

    def _log_densities(self, chunk: Floats) -> Floats:
        """log(weight · density) of each component (n × k), without the constant that all share.

        Element by element, so that a row's numbers do not depend on the rows beside it.
        """
        made = np.empty((len(chunk), self.k))
        for start in range(0, len(chunk), kmeans.SLICE_ROWS):
            part = np.ascontiguousarray(chunk[start : start + kmeans.SLICE_ROWS].T)
            for group in range(self.k):
                root, mean = self.arrays["roots"][group], self.arrays["means"][group]
                turned = np.zeros_like(part)
                for column in range(self.columns):
                    turned += root[column][:, None] * (part[column] - mean[column])
                fixed = float(np.log(np.diag(root)).sum() + np.log(self.arrays["weights"][group]))
                distance = np.zeros(part.shape[1])
                for row in turned:
                    distance += row * row
                made[start : start + part.shape[1], group] = fixed - 0.5 * distance
        return made


@dataclass(frozen=True, eq=False)
class Clustering:
    """Groups of the rows that were fitted: labels (n; −1 noise), sizes, and what was remarkable.

    `inertia` is the sum of squared distances to the mean of one's group (noise left out).
    """

    model: Model
    labels: Labels
    sizes: tuple[int, ...]
    inertia: float
    seed: int
    notes: tuple[str, ...]

    @property
    def k(self) -> int:
        """How many groups."""
        return self.model.k

    @property
    def noise(self) -> int:
        """How many rows are in no group."""
        return len(self.labels) - sum(self.sizes)


def fit(
    matrix: Floats,
    method: Method = "kmeans",
    k: int | None = None,
    *,
    seed: int,
    lonlat: Floats | None = None,
    neighbours: NDArray[np.int64] | None = None,
    weights: Floats | None = None,
    covariance: Literal["full", "diag"] = "full",
    smallest: int | None = None,
    starts: int = 10,
) -> Clustering:
    """Group the rows of a matrix (n × columns) into k groups; the same seed gives the same bits.

    * kmeans: `kmeans.fit_centres`; over 200,000 rows it settles on a sample first.
    * mixture: Gaussian components with `covariance` full or diag, by expectation–maximisation (Dempster, Laird and
      Rubin 1977; scikit-learn) from the centres of k-means, on at most 50,000 rows drawn at random.
    * hdbscan: density (Campello, Moulavi and Sander 2013; scikit-learn) on at most 10,000 rows; finds the number of
      groups itself, of at least `smallest` rows each (default: the larger of 10 and 1 %); what belongs nowhere is
      noise.
    * contiguous: Ward's method where only neighbours merge (`regions.merge_neighbours`). Either the rows are
      customers with `lonlat` (n × 2), gathered into at most 4,000 places or cells, or they are areas with
      `neighbours` (m × 2 row numbers) and `weights` (customers in each).

    Raises TooLittleData with fewer than five customers a group, fewer different ones than groups, or more pieces than
    groups; Invalid for values not known, a method that there is not, or what the method does not take.
    """
    _check_input(matrix, method, k, weights)
    if method == "hdbscan":
        model, notes = _fit_dense(matrix, smallest, seed)
        return _finish(model, matrix, model.assign(matrix), seed, notes)
    groups = cast(int, k)
    if method == "contiguous":
        return _fit_contiguous(matrix, groups, seed, lonlat, neighbours, weights)
    if groups == 1:
        model = _single(method, matrix)
        return _finish(model, matrix, np.zeros(len(matrix), dtype=np.int32), seed, ())
    if method == "kmeans":
        model = fit_chunks(lambda: [matrix], len(matrix), groups, seed=seed, starts=starts)
        return _finish(model, matrix, model.assign(matrix), seed, ())
    model, notes = _fit_mixture(matrix, groups, seed, covariance, starts)
    return _finish(model, matrix, model.assign(matrix), seed, notes)


def fit_chunks(chunks: Chunks, rows: int, k: int, *, seed: int, starts: int = 10) -> Model:
    """k-means over more rows than fit into memory: `chunks()` yields the matrix in parts, in the same order each time.

    The result does not depend on the size of the chunks, and is that of `fit` on the whole. Raises as `fit` does.
    """
    _enough(rows, k, "kmeans")
    found = kmeans.fit_centres(chunks, rows, k, seed=seed, starts=starts)
    return Model("kmeans", k, found.centres.shape[1], {"centres": found.centres})


def _are(number: int) -> str:
    return "is 1" if number == 1 else f"are {number}"


def _enough(rows: float, k: int, method: str) -> None:
    if k > 1 and rows < k * PER_GROUP:
        most = int(rows // PER_GROUP)
        mend = f"Ask for at most {most} groups." if most > 1 else "With so few, all of them are one group."
        raise TooLittleData(
            f"{k} groups by {method} need at least {k * PER_GROUP} customers ({PER_GROUP} a group); "
            f"there {_are(int(rows))}. {mend}"
        )


def _check_input(matrix: Floats, method: Method, k: int | None, weights: Floats | None) -> None:
    if method not in METHODS:
        raise Invalid(f"There is no method {method!r}; there are {', '.join(METHODS)}.")
    if matrix.ndim != 2 or not matrix.shape[1]:
        raise Invalid("Groups are made of a matrix of rows and at least one column.")
    if not len(matrix):
        raise TooLittleData("There are no customers to group.")
    if not np.isfinite(matrix).all():
        raise Invalid("The matrix holds values that are not known; `fit_scaling(…).apply` fills them in.")
    if method == "hdbscan":
        if k is not None:
            raise Invalid("HDBSCAN finds the number of groups by itself; leave k out and say `smallest`.")
        return
    if k is None or k < 1:
        raise Invalid(f"{method} needs the number of groups, at least 1; `stability.choose_groups` proposes one.")
    _enough(len(matrix) if weights is None else float(weights.sum()), k, method)


def _single(method: Method, matrix: Floats) -> Model:
    mean = matrix.mean(axis=0, keepdims=True)
    if method == "kmeans":
        return Model(method, 1, matrix.shape[1], {"centres": mean})
    variance = np.maximum(matrix.var(axis=0), 1e-12)
    arrays = {"weights": np.ones(1), "means": mean, "roots": np.diag(1.0 / np.sqrt(variance))[None]}
    return Model(method, 1, matrix.shape[1], arrays)


def _finish(model: Model, matrix: Floats, labels: Labels, seed: int, notes: tuple[str, ...]) -> Clustering:
    sizes = np.bincount(labels[labels >= 0], minlength=model.k)
    if model.method != "hdbscan" and (empty := int((sizes == 0).sum())):
        notes = (*notes, f"{empty} of {model.k} groups have no customer: ask for fewer")
    inertia = 0.0
    for group in range(model.k):
        held = matrix[labels == group]
        if len(held):
            inertia += float(((held - held.mean(axis=0)) ** 2).sum())
    return Clustering(model, labels, tuple(map(int, sizes)), inertia, seed, notes)


def _fit_mixture(matrix: Floats, k: int, seed: int, covariance: str, starts: int) -> tuple[Model, tuple[str, ...]]:
    generator = np.random.default_rng(seed)
    rows = kmeans.draw(lambda: [matrix], len(matrix), MIXTURE_ROWS, generator)
    start = kmeans.fit_centres(lambda: [rows], len(rows), k, seed=seed, starts=starts)
    floor = 1e-3 * float(rows.var(axis=0).mean())  # a component may not shrink to a point
    if not floor > 0:
        raise TooLittleData("All customers are the same in every feature: there is one group.")
    notes: tuple[str, ...] = ()
    with kmeans.one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = GaussianMixture(
            k, covariance_type=covariance, means_init=start.centres, reg_covar=floor, max_iter=MOST_STEPS, tol=1e-4,
            random_state=int(generator.integers(2**31)),
        ).fit(rows)  # fmt: skip
    if not fitted.converged_:
        notes = (f"the mixture was still changing after {MOST_STEPS} steps: try fewer groups or covariance diag",)
    if len(rows) < len(matrix):
        notes = (*notes, f"fitted on {len(rows)} customers drawn at random, all {len(matrix)} assigned")
    roots = np.asarray(fitted.precisions_cholesky_)
    if covariance == "diag":
        roots = np.stack([np.diag(row) for row in roots])
    order = sorted(range(k), key=lambda group: (-fitted.weights_[group], tuple(fitted.means_[group])))
    arrays = {"weights": fitted.weights_[order], "means": fitted.means_[order], "roots": roots[order]}
    return Model("mixture", k, matrix.shape[1], arrays), notes


def _fit_dense(matrix: Floats, smallest: int | None, seed: int) -> tuple[Model, tuple[str, ...]]:
    rows = kmeans.draw(lambda: [matrix], len(matrix), DENSE_ROWS, np.random.default_rng(seed))
    least = max(10, round(0.01 * len(rows))) if smallest is None else smallest
    if least < 2:
        raise Invalid("The smallest group HDBSCAN may find has at least 2 customers.")
    if len(rows) < 2 * least:
        raise TooLittleData(
            f"HDBSCAN looks for groups of at least {least} customers and needs {2 * least}; there {_are(len(rows))}."
        )
    with kmeans.one_thread():
        found = HDBSCAN(min_cluster_size=least, copy=True).fit(rows).labels_.astype(np.int32)
    count = int(found.max()) + 1
    sizes = np.bincount(found[found >= 0], minlength=count)
    rank = np.empty(count + 1, dtype=np.int32)
    rank[np.lexsort((np.arange(count), -sizes))] = np.arange(count)
    rank[count] = NOISE  # what −1 points to
    labels = rank[found]
    # the distance at which a reference has `least` rows around it, itself counted
    reach = cKDTree(rows).query(rows, k=[least])[0][:, 0]
    notes: tuple[str, ...] = ()
    if not count:
        notes = ("no region is denser than its surroundings: there are no groups, only noise",)
    if len(rows) < len(matrix):
        notes = (*notes, f"found on {len(rows)} customers drawn at random, all {len(matrix)} assigned by the nearest")
    return Model("hdbscan", count, matrix.shape[1], {"references": rows, "labels": labels, "reach": reach}), notes


def _fit_contiguous(
    matrix: Floats, k: int, seed: int, lonlat: Floats | None, neighbours: NDArray[np.int64] | None,
    weights: Floats | None,
) -> Clustering:  # fmt: skip
    if (lonlat is None) == (neighbours is None):
        raise Invalid("Contiguous groups need either longitude and latitude of each row, or which rows are neighbours.")
    if lonlat is not None:
        if len(lonlat) != len(matrix):
            raise Invalid("Give one longitude and latitude a row.")
        units = regions.make_units(matrix, lonlat)
        found, _ = regions.merge_neighbours(units.matrix, units.weights, units.edges, k)
        notes = (f"{len(units.weights)} places or cells stand for {len(matrix)} customers",)
        of_unit, centres = _ordered(found, units.matrix, units.weights, k)
        model = Model("contiguous", k, matrix.shape[1], {"lonlat": units.lonlat, "labels": of_unit, "centres": centres})
        return _finish(model, matrix, of_unit[units.of_row], seed, notes)
    edges = cast("NDArray[np.int64]", neighbours)
    masses = np.ones(len(matrix)) if weights is None else weights
    if edges.ndim != 2 or edges.shape[1] != 2 or (len(edges) and not 0 <= edges.min() <= edges.max() < len(matrix)):
        raise Invalid("Neighbours are pairs of row numbers.")
    if len(masses) != len(matrix) or not (masses > 0).all():
        raise Invalid("Weights are positive, one a row.")
    found, _ = regions.merge_neighbours(matrix, masses, edges, k)
    of_unit, centres = _ordered(found, matrix, masses, k)
    model = Model("contiguous", k, matrix.shape[1], {"labels": of_unit, "centres": centres})
    return _finish(model, matrix, of_unit, seed, ())


def _ordered(labels: Labels, matrix: Floats, weights: Floats, k: int) -> tuple[Labels, Floats]:
    """Groups by falling weight, and their means."""
    masses = np.bincount(labels, weights=weights, minlength=k)
    means = np.column_stack(
        [np.bincount(labels, weights=weights * column, minlength=k) / masses for column in matrix.T]
    )
    order = np.lexsort((np.arange(k), -masses))
    rank = np.empty(k, dtype=np.int32)
    rank[order] = np.arange(k)
    return rank[labels], means[order]
