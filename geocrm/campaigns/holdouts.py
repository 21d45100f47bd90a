"""Who is held out of an offer: decided by a hash, so that it needs no list, never moves and can be checked by anybody.

The hash of a key and a unit is read as a fraction of 1: the first 48 bits of SHA-256 over the bytes of `key:unit`,
divided by 2⁴⁸. Units whose fraction is below the share are held out. Fractions are uniform and those of one unit under
two keys are independent, so who is held out of one campaign says nothing of another; and raising a share adds units to
those that were held out before. `geocrm_fraction` in SQL is the same.
"""

from collections.abc import Sequence
from hashlib import sha256

import numpy as np
import numpy.typing as npt

BITS = 48
LARGEST_SHARE = 0.9


def fraction(key: str, unit: str) -> float:
    """A number in [0, 1) that key and unit alone decide."""
    return int.from_bytes(sha256(f"{key}:{unit}".encode()).digest()[: BITS // 8]) / 2**BITS


def is_held_out(key: str, unit: str, share: float) -> bool:
    """Whether a unit is held out of what `key` names, where `share` of all units are."""
    return fraction(key, unit) < share


def fractions(key: str, units: Sequence[str]) -> npt.NDArray[np.float64]:
    """The same for many units, (n,)."""
    return np.array([fraction(key, unit) for unit in units], dtype=np.float64)
