"""The hash of hold-outs: what it is, that it is uniform, that keys are independent."""

import hashlib

import numpy as np
from scipy import stats
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm.campaigns import holdouts

FIXED = 0.172109031464
UNITS = [f"cus_{number}" for number in range(1, 50_001)]


def test_it_is_the_documented_part_of_sha_256() -> None:
    digest = hashlib.sha256(b"off_3:cus_42").hexdigest()
    assert holdouts.fraction("off_3", "cus_42") == int(digest[:12], 16) / 16**12
    # fixed for ever: who is held out must not change with a release
    assert round(holdouts.fraction("off_3", "cus_42"), 12) == FIXED
    assert holdouts.is_held_out("off_3", "cus_42", FIXED + 1e-9)
    assert not holdouts.is_held_out("off_3", "cus_42", FIXED - 1e-9)


def test_fractions_are_uniform() -> None:
    for key in ("off_1", "off_2", "cam_7"):
        drawn = holdouts.fractions(key, UNITS)
        assert drawn.min() >= 0
        assert drawn.max() < 1
        counts, _ = np.histogram(drawn, bins=100, range=(0, 1))
        assert stats.chisquare(counts).pvalue > 0.001, key
        assert stats.kstest(drawn, "uniform").pvalue > 0.001, key


def test_keys_are_independent_and_neighbours_too() -> None:
    first, second = holdouts.fractions("off_1", UNITS), holdouts.fractions("off_11", UNITS)
    for a, b in ((first, second), (first[:-1], first[1:])):
        table, _, _ = np.histogram2d(a, b, bins=10, range=((0, 1), (0, 1)))
        assert stats.chi2_contingency(table).pvalue > 0.001


def test_the_database_says_the_same(session: Session) -> None:
    rows = session.execute(
        text("SELECT unit, geocrm_fraction('off_3', unit) AS f FROM unnest(CAST(:units AS text[])) AS unit"),
        {"units": [*UNITS[:500], "Zürich", ""]},
    ).all()
    assert all(row.f == holdouts.fraction("off_3", row.unit) for row in rows)
    assert len(rows) == 502
