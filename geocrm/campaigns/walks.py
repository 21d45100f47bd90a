"""A walk that nobody took: which events its positions would make, with the fences as they are now.

Pure but for the fences that are handed in: the same index and the same state machine that positions of phones go
through. Nothing is stored, and no customer is in it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from geocrm.campaigns import crossings
from geocrm.campaigns.crossings import Crossing
from geocrm.campaigns.geofences import Fences

MOST: Final = 2_000
_SURE: Final = 0.99
_WALKER: Final = 0


@dataclass(frozen=True, slots=True)
class Walk:
    """Positions: degrees, metres (radius of 68 %) and seconds since 1970, in any order, all (n,)."""

    lon: NDArray[np.float64]
    lat: NDArray[np.float64]
    accuracy_m: NDArray[np.float64]
    times: NDArray[np.float64]

    @classmethod
    def of(cls, rows: Iterable[tuple[float, float, float, datetime]]) -> Walk:
        """From lon, lat, metres and time of each."""
        lon, lat, accuracy_m, moments = zip(*rows, strict=True)
        return cls(
            np.array(lon, dtype=np.float64),
            np.array(lat, dtype=np.float64),
            np.array(accuracy_m, dtype=np.float64),
            np.array([moment.timestamp() for moment in moments]),
        )


@dataclass(frozen=True, slots=True)
class Replayed:
    """The `events` by the time they were detected; which positions were `ignored` for their accuracy, by place."""

    events: list[dict[str, Any]]
    ignored: list[int]


def replay(fences: Fences, walk: Walk, *, tags: Collection[str] = (), max_accuracy_m: float = 1000.0) -> Replayed:
    """What a phone that was in no fence before would cause by these positions, in fences of any of the `tags` (none:
    all). A position coarser than `max_accuracy_m` is ignored, as it is of phones."""
    kept = np.flatnonzero(walk.accuracy_m <= max_accuracy_m)
    ignored = np.flatnonzero(walk.accuracy_m > max_accuracy_m).tolist()
    times, walker = walk.times[kept], np.full(len(kept), _WALKER, dtype=np.int64)
    of = crossings.followed(walker, {}, fences.fence_ids)
    outcome = crossings.follow(
        walker,
        times,
        fences.index.standings(walk.lon[kept], walk.lat[kept], walk.accuracy_m[kept], of=of),
        fences.fence_ids,
        presences={},
        last_at={},
        dwell_s=fences.dwell_s,
        is_open=lambda fence, moment: fence not in fences.keeping_hours or fences.held[fence].is_open(moment),
    )
    place_at: dict[float, int] = {}  # of doubles the first counts
    for at, place in zip(times.tolist(), kept.tolist(), strict=True):
        place_at.setdefault(at, place)
    wanted = frozenset(tags)
    return Replayed(
        [
            _event(crossing, fences, place_at[crossing.detected_at])
            for crossing in outcome.crossings
            if not wanted or fences.held[crossing.fence].tag in wanted
        ],
        ignored,
    )


def _event(crossing: Crossing, fences: Fences, position: int) -> dict[str, Any]:
    border = crossing.border_m
    return {
        "type": f"geofence.{crossing.kind}",
        "geofence": fences.held[crossing.fence].reference(),
        "position": position,
        "occurred_at": datetime.fromtimestamp(crossing.occurred_at, UTC),
        "detected_at": datetime.fromtimestamp(crossing.detected_at, UTC),
        "entered_at": datetime.fromtimestamp(crossing.entered_at, UTC),
        "confidence": "high" if crossing.probability >= _SURE else "medium",
        "probability": round(crossing.probability, 4),
        "distance_to_border_m": round(abs(border), 1) if np.isfinite(border) else None,
    }
