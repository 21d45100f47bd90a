"""When a subject entered, left and dwelled in a fence, from fixes that jitter, come late, come twice, or stay away.

Pure: the state machine of one subject and one fence. What it reads of a fix is its time and the probability that the
subject was inside (`fence_index`). Two thresholds lie far apart, and one fix that is not beyond doubt is not enough:

* *entered*: inside with at least 95 % in two fixes one after the other, 5 s or more and at most 15 min apart, with
  nothing less sure between them; or at once with 99.99 %.
* *exited*: inside with at most 0.01 % in two fixes, 5 s or more apart; or at once with 1e-9.
* *dwelled*: once a visit, when the time seen inside reaches the dwell time of the fence. Between two fixes that are
  more than 15 min apart nobody was seen, so that this time does not count.

Who stands on a border is inside with 50 % by the average fix: it takes an error of 1.6 standard deviations twice in a
row to enter, and one of 3.7 twice in a row to leave again. A fix that is not newer than the last one of its subject
changes nothing, so that any order of delivery and any repetition of fixes makes no event twice. A fence that keeps
hours speaks within them only: who is inside when they begin enters with the first fix then; the exit of one who entered
is always told.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from geocrm.campaigns.fence_index import Followed, Standings

Kind = Literal["entered", "exited", "dwelled"]

ENTER: Final = 0.95
ENTER_AT_ONCE: Final = 0.9999
LEAVE: Final = 1e-4
LEAVE_AT_ONCE: Final = 1e-9
APART_S: Final = 5.0
GAP_S: Final = 900.0
SEEN_INSIDE: Final = 0.5


@dataclass(frozen=True, slots=True)
class Presence:
    """Where a subject stands to a fence; none at all is outside, with nothing that says otherwise.

    `inside`: entered and not left. `evidence_since`: time of the first of the fixes that speak for the other state.
    `since`: time it entered. `told`: whether its entering was an event. `seen_s`: seconds seen inside within hours.
    `dwelled`: whether it dwelled, this visit. Times are seconds since 1970, UTC.
    """

    inside: bool
    evidence_since: float | None = None
    since: float = 0.0
    told: bool = False
    seen_s: float = 0.0
    dwelled: bool = False


@dataclass(frozen=True, slots=True)
class Crossing:
    """What happened: `occurred_at`, when it began to be so; `detected_at`, the time of the fix that decided it;
    `entered_at`, when the visit began; `probability` that it is true, by that fix; `border_m`, that fix's metres to the
    border, negative inside (infinite where it is beyond the reach of its accuracy)."""

    subject: int
    fence: int
    kind: Kind
    occurred_at: float
    detected_at: float
    entered_at: float
    probability: float
    border_m: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of a batch: the `crossings`, by time of detection within each subject; the presences that are `changed`, by
    (subject, fence), None where there is none any more; `last_at`, the time of each subject's newest fix; and `fresh`
    (n,), whether a fix was new, neither late nor a double."""

    crossings: list[Crossing]
    changed: dict[tuple[int, int], Presence | None]
    last_at: dict[int, float]
    fresh: NDArray[np.bool_]


def step(
    presence: Presence | None,
    at: float,
    probability: float,
    gap_s: float,
    *,
    dwell_s: float | None = None,
    is_open: bool = True,
) -> tuple[Presence | None, list[tuple[Kind, float, float]]]:
    """One fix: the presence after it, and what happened, as kind, the time it began, and when the visit began.

    `gap_s` are the seconds since the subject's fix before (infinite for the first)."""
    if presence is None or not presence.inside:
        return _outside(presence, at, probability, gap_s, is_open)
    if probability <= LEAVE:
        began = at if presence.evidence_since is None else presence.evidence_since
        if probability <= LEAVE_AT_ONCE or at - began >= APART_S:
            return None, [("exited", began, presence.since)] if presence.told else []
        return (presence if presence.evidence_since == began else replace(presence, evidence_since=began)), []
    after = presence if presence.evidence_since is None else replace(presence, evidence_since=None)
    happened: list[tuple[Kind, float, float]] = []
    if not is_open:
        return after, happened
    if not after.told and probability >= SEEN_INSIDE:
        after = replace(after, told=True)
        happened.append(("entered", at, after.since))
    elif dwell_s is not None and not after.dwelled and gap_s <= GAP_S and probability >= SEEN_INSIDE:
        after = replace(after, seen_s=after.seen_s + gap_s)
    return _dwelled(after, at, dwell_s, happened)


def _outside(
    presence: Presence | None, at: float, probability: float, gap_s: float, is_open: bool
) -> tuple[Presence | None, list[tuple[Kind, float, float]]]:
    if probability < ENTER:
        return None, []
    began = at
    if presence is not None and presence.evidence_since is not None and gap_s <= GAP_S:
        began = presence.evidence_since
    if probability < ENTER_AT_ONCE and at - began < APART_S:
        return Presence(inside=False, evidence_since=began), []
    entered = Presence(inside=True, since=began, told=is_open, seen_s=at - began if is_open else 0.0)
    return entered, [("entered", began, began)] if is_open else []


def _dwelled(
    presence: Presence, at: float, dwell_s: float | None, happened: list[tuple[Kind, float, float]]
) -> tuple[Presence, list[tuple[Kind, float, float]]]:
    if dwell_s is None or presence.dwelled or not presence.told or presence.seen_s < dwell_s:
        return presence, happened
    return replace(presence, dwelled=True), [*happened, ("dwelled", at, presence.since)]


def followed(
    subjects: NDArray[np.int64], presences: Mapping[tuple[int, int], Presence], fence_ids: Sequence[int]
) -> Followed:
    """Whose fixes these are, for the index to find what `follow` needs of them and no more: the subjects (n,), their
    `presences` by (subject, fence id), and all fence ids, ascending."""
    return Followed(
        subjects,
        np.array([subject for subject, _ in presences], dtype=np.int64),
        np.array([bisect_left(fence_ids, fence) for _, fence in presences], dtype=np.int64),
        ENTER,
    )


def follow(
    subjects: NDArray[np.int64],
    times: NDArray[np.float64],
    standings: Standings,
    fence_ids: Sequence[int],
    *,
    presences: Mapping[tuple[int, int], Presence],
    last_at: Mapping[int, float],
    dwell_s: Mapping[int, float],
    is_open: Callable[[int, float], bool] = lambda fence, at: True,
) -> Outcome:
    """Fixes of many subjects, in any order: subjects and times (n,), how they stand to fences (by the place of the fix
    and of the fence in `fence_ids`; those that matter to who is `followed` are enough), the `presences` of these
    subjects by (subject, fence id), the time `last_at` of the newest fix of each subject that is known, the dwell times
    of the fences that have one, and whether a fence is open at a time."""
    order, fresh = _in_order(subjects, times, last_at)
    likely: dict[int, list[tuple[int, float, float]]] = {}
    for row, place, probability, border in zip(
        standings.position.tolist(), standings.fence.tolist(), standings.probability.tolist(),
        standings.border_m.tolist(), strict=True,
    ):  # fmt: skip
        likely.setdefault(row, []).append((fence_ids[place], probability, border))
    standing: dict[int, dict[int, Presence]] = {}
    for (subject, fence), presence in presences.items():
        standing.setdefault(subject, {})[fence] = presence
    newest = dict(last_at)
    touched: dict[tuple[int, int], Presence | None] = {}
    crossings: list[Crossing] = []
    for row, subject, at in zip(
        order.tolist(), subjects[order].tolist(), times[order].tolist(), strict=True
    ):  # by subject, then time
        gap_s = at - newest.get(subject, -np.inf)
        newest[subject] = at
        held = standing.get(subject)
        here = likely.get(row, ())
        if not held and not here:
            continue
        held = standing.setdefault(subject, {}) if held is None else held
        for fence, probability, border in _those_that_matter(held, here):
            before = held.get(fence)
            after, happened = step(
                before, at, probability, gap_s, dwell_s=dwell_s.get(fence), is_open=is_open(fence, at)
            )
            for kind, began, since in happened:
                sure = 1 - probability if kind == "exited" else probability
                crossings.append(Crossing(subject, fence, kind, began, at, since, sure, border))
            if after is before:
                continue
            touched[subject, fence] = after
            if after is None:
                held.pop(fence, None)
            else:
                held[fence] = after
    changed = {key: after for key, after in touched.items() if after != presences.get(key)}
    return Outcome(crossings, changed, {s: t for s, t in newest.items() if t != last_at.get(s)}, fresh)


def _in_order(
    subjects: NDArray[np.int64], times: NDArray[np.float64], last_at: Mapping[int, float]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The fixes that are new, by subject and time, and which of all (n,) those are. Of doubles the first stays."""
    order = np.lexsort((times, subjects))
    s, t = subjects[order], times[order]
    known = np.array([last_at.get(subject, -np.inf) for subject in s.tolist()])
    good = t > known
    good[1:] &= (s[1:] != s[:-1]) | (t[1:] != t[:-1])
    fresh = np.zeros(len(order), dtype=bool)
    fresh[order[good]] = True
    return order[good], fresh


def _those_that_matter(
    held: Mapping[int, Presence], here: Sequence[tuple[int, float, float]]
) -> Iterator[tuple[int, float, float]]:
    """Fences that a subject is in, or may be entering, by id, with this fix's probability and metres to the border."""
    found = {fence: (probability, border) for fence, probability, border in here}
    for fence in sorted(held.keys() | {fence for fence, (probability, _) in found.items() if probability >= ENTER}):
        probability, border = found.get(fence, (0.0, float("inf")))
        yield fence, probability, border
