"""Groups from run to run: which new group is which old one, who moved where, and how much it all shifted.

A group keeps its identity (and so its name, colour and history) as long as most of its members stay together, or, where
the members are others, as long as it is the same kind of customer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from geocrm.errors import Invalid

Integers = NDArray[np.integer]
Floats = NDArray[np.float64]
Kind = Literal["same", "split", "merged", "new"]

NOBODY = -1  # in no group: noise
ABSENT = -2  # not in the run
SAME_OVERLAP = 0.5  # Jaccard index beyond which a group is the same: at most one can be
TURNED_OVER = 0.5  # a group fewer of whose members than this were in the other run is compared by profile
SAME_PROFILE = 0.35  # root mean square difference of the profiles, in standard deviations
PIECE = 0.25  # of an old group's members: a smaller piece is no piece of a split
ORIGIN = 0.5  # of a new group's members: from where fewer come, it does not stem
STEADY, SHIFTED = 0.1, 0.25  # population stability index (Siddiqi 2006)


@dataclass(frozen=True)
class Lineage:
    """Where a new group comes from.

    `identity` is the old one's if the group is the same, else a number never used. `kind`: same; split (a piece of an
    old group that was divided); merged (of several old groups); new. `from_identities` are the old groups that it stems
    from, `overlap` the Jaccard index with the one whose identity it keeps (0 without), `by_profile` whether it was the
    profile that decided.
    """

    label: int
    identity: int
    kind: Kind
    from_identities: tuple[int, ...]
    overlap: float
    by_profile: bool


@dataclass(frozen=True, eq=False)
class Drift:
    """What became of the groups.

    `moves` counts customers by old identity (rows; "nobody": in no group, "arrived": not in the old run) and new
    identity (columns; "nobody", "left": not in the new run). `moved` is the share of customers of both runs whose
    identity changed. `stability_index` is the population stability index of the shares of the identities, `verdict`
    its usual reading.
    """

    lineages: tuple[Lineage, ...]
    gone: tuple[int, ...]
    next_identity: int
    moves: pd.DataFrame
    moved: float
    stability_index: float
    verdict: str

    def identities(self, labels: Integers) -> NDArray[np.int64]:
        """The identity of each label of the new run; −1 stays −1."""
        names = {lineage.label: lineage.identity for lineage in self.lineages} | {NOBODY: NOBODY}
        found, place = np.unique(labels, return_inverse=True)
        return np.array([names[int(label)] for label in found], dtype=np.int64)[place]


def follow(
    old_members: Integers,
    old_identities: Integers,
    new_members: Integers,
    new_labels: Integers,
    *,
    next_identity: int | None = None,
    old_profiles: Mapping[int, Sequence[float]] | None = None,
    new_profiles: Mapping[int, Sequence[float]] | None = None,
) -> Drift:
    """Give the groups of a new run the identities of those of an old one.

    `old_members` and `new_members` are customer ids, each once; `old_identities` and `new_labels` their groups (−1:
    none). Profiles are means in standard deviations over the same features in the same order, by identity and by
    label.

    1. Overlap is the Jaccard index of the members known to both runs. The Hungarian method (Kuhn 1955) matches groups
    one
       to one with the largest sum; a match over ½ keeps the identity.
    2. Of the rest, a group of whom fewer than half were in the other run is matched by profile, again with the smallest
       sum, if the root mean square difference is at most 0.35.
    3. What is left gets a new identity. A new group stems from the old groups that gave at least half of its members
       together, each at least a quarter of its own; one of them whose members went to several such groups was split.
       Old groups without successor in identity are gone.

    `next_identity` is the first number never used (default: one over the largest of the old ones); numbers of groups
    that are gone are not used again. Raises Invalid where ids repeat or lengths differ.
    """
    _check(old_members, old_identities, new_members, new_labels)
    former = [int(each) for each in np.unique(old_identities) if each != NOBODY]
    present = [int(each) for each in np.unique(new_labels) if each != NOBODY]
    fresh = max(former, default=0) + 1 if next_identity is None else next_identity
    if fresh <= max(former, default=-1):
        raise Invalid(f"The next identity {fresh} is used already.")
    _, in_old, in_new = np.intersect1d(old_members, new_members, assume_unique=True, return_indices=True)
    counts = _count(old_identities[in_old], new_labels[in_new], former, present)
    overlap = _jaccard(counts, _count_of(old_identities[in_old], former), _count_of(new_labels[in_new], present))
    kept: dict[int, tuple[int, bool]] = {}  # new → (old, by profile), as positions
    if overlap.size:
        for one, other in zip(*linear_sum_assignment(overlap, maximize=True), strict=True):
            if overlap[one, other] > SAME_OVERLAP:
                kept[int(other)] = (int(one), False)
    if old_profiles is not None and new_profiles is not None:
        known_old = _count_of(old_identities[in_old], former) / np.maximum(_count_of(old_identities, former), 1)
        known_new = _count_of(new_labels[in_new], present) / np.maximum(_count_of(new_labels, present), 1)
        rows = [one for one in range(len(former)) if one not in {old for old, _ in kept.values()}]
        columns = [other for other in range(len(present)) if other not in kept]
        kept |= _by_profile(former, present, rows, columns, known_old, known_new, old_profiles, new_profiles)
    lineages = []
    stems = _stems(counts)
    for position, label in enumerate(present):
        from_positions = stems[position]
        match = kept.get(position)
        identity = former[match[0]] if match else fresh
        fresh += 0 if match else 1
        lineages.append(
            Lineage(
                label,
                identity,
                _kind(match is not None, from_positions, stems),
                tuple(former[one] for one in from_positions),
                float(overlap[match[0], position]) if match else 0.0,
                bool(match and match[1]),
            )
        )
    kept_identities = {lineage.identity for lineage in lineages}
    gone = tuple(identity for identity in former if identity not in kept_identities)
    named = {lineage.label: lineage.identity for lineage in lineages}
    moves = _moves(old_members, old_identities, new_members, new_labels, named)
    renamed = np.array([named.get(int(label), NOBODY) for label in new_labels[in_new]], dtype=np.int64)
    moved = float((renamed != old_identities[in_old]).mean()) if len(in_old) else 0.0
    index = stability_index(
        old_identities, np.array([named.get(int(label), NOBODY) for label in new_labels], dtype=np.int64)
    )
    return Drift(tuple(lineages), gone, fresh, moves, moved, index, verdict(index))


def stability_index(old: Integers, new: Integers) -> float:
    """Population stability index Σ (q − p) ln(q / p) over the groups of either run, p and q their old and new shares.

    Half a customer is added to each count, so that a group that is gone or new does not make it infinite. 0 where a run
    has no customers.
    """
    if not len(old) or not len(new):
        return 0.0
    groups = np.union1d(old, new)
    before = np.array([(old == group).sum() for group in groups]) + 0.5
    after = np.array([(new == group).sum() for group in groups]) + 0.5
    p, q = before / before.sum(), after / after.sum()
    return float(((q - p) * np.log(q / p)).sum())


def _check(old_members: Integers, old_identities: Integers, new_members: Integers, new_labels: Integers) -> None:
    for members, groups, run in ((old_members, old_identities, "old"), (new_members, new_labels, "new")):
        if len(members) != len(groups):
            raise Invalid(f"Give one group a customer of the {run} run.")
        if len(np.unique(members)) != len(members):
            raise Invalid(f"A customer stands twice in the {run} run.")


def _count_of(groups: Integers, names: Sequence[int]) -> Floats:
    return np.array([(groups == name).sum() for name in names], dtype=np.float64)


def _count(old: Integers, new: Integers, former: Sequence[int], present: Sequence[int]) -> Floats:
    """Customers of both runs by old and new group (old × new)."""
    counts = np.zeros((len(former), len(present)))
    both = (old != NOBODY) & (new != NOBODY)
    if both.any():
        rows, columns = np.searchsorted(former, old[both]), np.searchsorted(present, new[both])
        flat = np.bincount(rows * len(present) + columns, minlength=counts.size)
        counts = flat.reshape(counts.shape).astype(np.float64)
    return counts


def _jaccard(counts: Floats, old_sizes: Floats, new_sizes: Floats) -> Floats:
    either = old_sizes[:, None] + new_sizes[None, :] - counts
    return counts / np.maximum(either, 1.0)


def _by_profile(
    former: Sequence[int], present: Sequence[int], rows: Sequence[int], columns: Sequence[int], known_old: Floats,
    known_new: Floats, old_profiles: Mapping[int, Sequence[float]], new_profiles: Mapping[int, Sequence[float]],
) -> dict[int, tuple[int, bool]]:  # fmt: skip
    """Matches by profile, of groups that have mostly other members than in the other run."""
    distance = np.full((len(rows), len(columns)), np.inf)
    for i, one in enumerate(rows):
        for j, other in enumerate(columns):
            if min(known_old[one], known_new[other]) >= TURNED_OVER:
                continue
            before, after = old_profiles.get(former[one]), new_profiles.get(present[other])
            if before is None or after is None:
                continue
            if len(before) != len(after):
                raise Invalid("Profiles of both runs must hold the same features in the same order.")
            distance[i, j] = float(np.sqrt(np.mean((np.asarray(before) - np.asarray(after)) ** 2)))
    if not distance.size:
        return {}
    matched = linear_sum_assignment(np.minimum(distance, 1e6))
    return {columns[j]: (rows[i], True) for i, j in zip(*matched, strict=True) if distance[i, j] <= SAME_PROFILE}


def _stems(counts: Floats) -> list[tuple[int, ...]]:
    """For each new group the old ones that it stems from."""
    given = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    taken = counts / np.maximum(counts.sum(axis=0, keepdims=True), 1.0)
    stems = []
    for column in range(counts.shape[1]):
        origins = [row for row in range(counts.shape[0]) if given[row, column] >= PIECE and counts[row, column] > 0]
        stems.append(tuple(origins) if taken[origins, column].sum() >= ORIGIN else ())
    return stems


def _kind(same: bool, origins: tuple[int, ...], stems: Sequence[tuple[int, ...]]) -> Kind:
    if same:
        return "same"
    if not origins:
        return "new"
    if len(origins) > 1:
        return "merged"
    return "split" if sum(origins[0] in others for others in stems) > 1 else "new"


def _moves(
    old_members: Integers, old_identities: Integers, new_members: Integers, new_labels: Integers,
    named: Mapping[int, int],
) -> pd.DataFrame:  # fmt: skip
    before = pd.Series(old_identities, index=old_members, name="old")
    after = pd.Series(
        [named.get(int(label), NOBODY) for label in new_labels], index=new_members, name="new", dtype="int64"
    )
    both = pd.concat([before, after], axis=1).fillna(ABSENT).astype("int64")
    table = pd.crosstab(both["old"], both["new"])
    table = table.rename(index={NOBODY: "nobody", ABSENT: "arrived"}, columns={NOBODY: "nobody", ABSENT: "left"})
    table.index, table.columns = table.index.map(str).rename("old"), table.columns.map(str).rename("new")
    rows = [*map(str, sorted({int(each) for each in old_identities if each != NOBODY})), "nobody", "arrived"]
    columns = [*map(str, sorted(set(named.values()))), "nobody", "left"]
    return table.reindex(index=rows, columns=columns, fill_value=0)


def verdict(index: float) -> str:
    """What a population stability index says, in a sentence (Siddiqi 2006)."""
    if index < STEADY:
        return "The shares of the groups are steady."
    if index < SHIFTED:
        return "The shares of the groups shifted somewhat."
    return "The shares of the groups shifted much: look at what changed before comparing runs."
