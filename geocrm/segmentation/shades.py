"""Shades of a score: where a map that is coloured by it draws the lines between lower and higher.

Pure. Of a few different values each is a shade of its own. Else about a fifth of the customers is in each, by quantiles
of a sample, rounded to the two digits (more where these would make two lines one) that people remember. Where a fifth
or more have the lowest score, as many have no order, that is a shade, and about a quarter of the others is in each of
the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

SHADES: Final = 5
DIGITS: Final = (2, 3, 4)


@dataclass(frozen=True)
class Shades:
    """The first score of each shade but the lowest, ascending, and how these were found: each `value` is a shade, by
    `quantile`, or by quantile of all but those with the `lowest` score. `fewest` of the sample are in a shade. `values`
    are the scores of the shades where there are no others."""

    cuts: tuple[float, ...]
    by: Literal["value", "quantile", "lowest"]
    fewest: int
    values: tuple[float, ...] = ()


def shades_of(scores: NDArray[np.float32]) -> Shades | None:
    """At most five shades of a sample of scores (n,), NaN for none; None where there is no score."""
    known = scores[np.isfinite(scores)]
    if not len(known):
        return None
    values, often = np.unique(known, return_counts=True)
    if len(values) <= SHADES:
        told = tuple(map(_plain, values))
        return Shades(told[1:], "value", int(often.min()), told)
    alone = often[0] * SHADES >= len(known)
    spread = (known[known > values[0]] if alone else known).astype(np.float64)
    parts = np.arange(SHADES - 1) / (SHADES - 1) if alone else np.arange(1, SHADES) / SHADES
    wanted = np.unique(np.quantile(spread, parts))
    for digits in DIGITS:
        lines = np.unique([float(f"{line:.{digits - 1}e}") for line in wanted])
        if len(lines) == len(wanted):
            break
    # what nobody is in between two lines is no shade
    shade = np.searchsorted(lines.astype(np.float32), known, side="right")
    held, n = np.unique(shade, return_counts=True)
    return Shades(tuple(float(lines[i - 1]) for i in held[1:]), "lowest" if alone else "quantile", int(n.min()))


def _plain(number: np.float32) -> float:
    """The shortest number that is this one in single precision: 0.1, not 0.10000000149."""
    return float(str(number))
