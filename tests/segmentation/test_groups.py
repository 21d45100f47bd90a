"""Groups as a method of runs: features of place in their block, coarse points told, the preview on a sample."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm.db.engine import Database
from geocrm.errors import Invalid, TooLittleData
from geocrm.segmentation import groups, statistics
from geocrm.segmentation.methods import NONE, Reader
from geocrm.segmentation.surroundings import Surroundings
from tests.makers import make_customer, make_place, make_sale, square
from tests.segmentation.test_place_features import publish_areas

CUTOFF = datetime(2026, 1, 1, tzinfo=UTC)
TOWNS = ((-105.0, 39.7), (-107.9, 37.3))
COARSE = 9


def fill(session: Session) -> list[int]:
    """Two towns, a shop in the first; behaviour is alike. A twelfth is known by its postal code alone."""
    dice = np.random.default_rng(5)
    make_place(session, *TOWNS[0])
    make_place(session, *TOWNS[1], kind="competitor")
    made = []
    for number in range(12 * COARSE):
        lon, lat = TOWNS[number % 2]
        coarse = number % 12 == 0
        site = {"location_precision": "postcode", "precision_m": 4_000.0} if coarse else {}
        customer = make_customer(session, lon + dice.normal(0, 0.02), lat + dice.normal(0, 0.02), site=site)
        made.append(customer.id)
        for _ in range(1 + int(dice.poisson(2))):
            bought = CUTOFF - timedelta(days=float(dice.uniform(1, 700)))
            make_sale(session, customer, f"{dice.gamma(2, 40):.2f}", occurred_at=bought)
    session.flush()
    return made


@pytest.fixture(scope="module")
def towns(new_database: Callable[[], Database]) -> tuple[Database, list[int]]:
    database = new_database()
    with database.writing() as session:
        made = fill(session)
        publish_areas(
            session, "counties", [(square(*TOWNS[0]), {"income": 60_000}), (square(*TOWNS[1]), {"income": 30_000})],
            CUTOFF - timedelta(days=900),
        )  # fmt: skip
    with database.writing() as session:
        statistics.refresh(session, CUTOFF)
    return database, made


def work(database: Database, parameters: dict[str, Any], **more: Any) -> tuple[groups.Groups, dict[int, int]]:
    with database.writing() as session:
        reader = Reader(session, CUTOFF, tell=lambda phase, done, total: None, **more)
        method = groups.Groups(reader, parameters, 1)
        parts = list(method.parts())
        method.found = method.outcome()  # type: ignore[attr-defined]
    labels = {int(i): int(label) for part in parts for i, label in zip(part.ids, part.labels, strict=True)}
    return method, labels


def test_features_of_place_are_the_block_of_place(towns: tuple[Database, list[int]]) -> None:
    """At a dial of 1 they alone tell: the two towns come apart, by any of them; at 0 nothing of them is left."""
    database, made = towns
    town = {customer: number % 2 for number, customer in enumerate(made)}
    names = ["frequency", "own_shop_m", "competitor_m", "urbanity", "neighbours_sales_365", "area.income", "location"]
    method, labels = work(database, {"k": 2, "dial": 1.0, "features": names})
    blocks = {fitted.feature.name: fitted.feature.block for fitted in method._scaling.fitted}
    assert blocks == {"frequency": "behaviour"} | dict.fromkeys(names[1:], "place")
    sharp = [customer for number, customer in enumerate(made) if number % 12]
    assert len({(town[customer], labels[customer]) for customer in sharp}) == 2
    _, by_behaviour = work(database, {"k": 2, "dial": 0.0, "features": names})
    assert len({(town[customer], by_behaviour[customer]) for customer in sharp}) == 4
    said = " ".join(group.sentence for group in method.found.groups)  # type: ignore[attr-defined]
    assert "shop" in said or "competitor" in said or "income" in said, said


def test_the_usual_features_know_the_place(towns: tuple[Database, list[int]]) -> None:
    """Chunks make no difference."""
    database, _ = towns
    method, labels = work(database, {"k": 2, "dial": 0.6})
    used = {fitted.feature.name for fitted in method._scaling.fitted if fitted.feature.block == "place"}
    assert used == {"location", "own_shop_m", "competitor_m", "urbanity"}
    assert work(database, {"k": 2, "dial": 0.6}, chunk_rows=17)[1] == labels
    judged = method.found.results["place"]  # type: ignore[attr-defined]
    assert judged["verdict"] in ("does not help", "cannot tell"), "both towns behave alike"
    assert judged["sentence"].startswith(("Place does not help", "Whether place helps"))
    assert work(database, {"k": 2, "dial": 0.0})[0].outcome().results["place"] is None


def test_points_of_postal_codes_are_not_known(towns: tuple[Database, list[int]]) -> None:
    """They are grouped by what else is known, are in no contiguous group, and it is said."""
    database, made = towns
    coarse = set(made[::12])
    with database.writing() as session:
        places = Surroundings(session, CUTOFF, ["own_shop_m"], points=True).read(np.array(made))
    assert set(places.index[places["lon"].isna()]) == coarse == set(places.index[places["own_shop_m"].isna()])
    method, labels = work(database, {"k": 2, "dial": 0.5})
    assert all(labels[customer] != NONE for customer in coarse)
    notes = " ".join(method.found.results["notes"])  # type: ignore[attr-defined]
    assert f"{COARSE} of {len(made)} customers have no point" in notes
    assert "grouped by what else" in notes
    method, labels = work(database, {"k": 2, "dial": 0.9, "method": "contiguous"})
    assert {customer for customer, label in labels.items() if label == NONE} == coarse
    assert f"{COARSE} of {len(made)}" in " ".join(method.found.results["notes"])  # type: ignore[attr-defined]
    with pytest.raises(Invalid, match="features"):
        groups.check({"method": "contiguous", "features": ["frequency"]})


def test_places_are_those_of_the_cutoff(new_database: Callable[[], Database]) -> None:
    """A shop opened later and a site moved later change nothing."""
    database = new_database()
    with database.writing() as session:
        made = fill(session)
    with database.writing() as session:
        statistics.refresh(session, CUTOFF)
    parameters = {"k": 2, "dial": 1.0, "features": ["frequency", "own_shop_m"]}
    before = work(database, parameters)[0].reader.digest()
    with database.writing() as session:
        make_place(session, *TOWNS[1], attributes={"opened_on": "2026-02-01"})
    assert work(database, parameters)[0].reader.digest() == before
    with database.writing() as session:
        make_place(session, *TOWNS[1], attributes={"opened_on": "2025-02-01"})
    assert work(database, parameters)[0].reader.digest() != before
    with database.writing() as session:
        session.execute(text("UPDATE sites SET placement = 'pending', location = NULL"))
    with pytest.raises(TooLittleData, match="point"):
        work(database, {"k": 2, "method": "contiguous"})
    assert len(made) == 12 * COARSE


def test_preview_shows_who_has_a_point(towns: tuple[Database, list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    database, made = towns
    parameters = {"k": 2, "dial": 1.0, "features": ["frequency", "own_shop_m", "neighbours_sales_365"]}
    with database.writing() as session:
        found = groups.preview(session, parameters, seed=1)
        monkeypatch.setattr(groups, "PREVIEW_BUYERS", 10)
        large = groups.preview(session, parameters, seed=1)
    unknown = set(found.ids[np.isnan(found.lon)])
    assert unknown == set(made[::12])
    assert found.sample == len(made)
    assert not any("Left out" in note for note in found.notes)
    assert any("neighbours_sales_365; they take all customers" in note for note in large.notes)
    assert pd.Series(found.labels).nunique() == 2
