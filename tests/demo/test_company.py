"""The generator: same seed, same bytes; the truth shows in what it makes; nothing in it belongs to anybody."""

import hashlib
import re
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
import shapely

from geocrm.demo import company, geography, products, sales, territories
from geocrm.demo.company import Chunk, World
from geocrm.demo.truth import GROUPS

FRAMES = ("customers", "sites", "contacts", "consents", "sales", "lines", "interactions", "truth")
CUSTOMERS = 9_000


@pytest.fixture(scope="module")
def world() -> World:
    return company.build_world(seed=1)


@pytest.fixture(scope="module")
def made(world: World) -> list[Chunk]:
    return list(company.chunks(world, CUSTOMERS, size=3_000))


def together(made: list[Chunk], name: str) -> pd.DataFrame:
    return pd.concat([getattr(chunk, name) for chunk in made], ignore_index=True)


def digest(chunk: Chunk) -> str:
    found = hashlib.sha256()
    for name in FRAMES:
        found.update(getattr(chunk, name).to_csv(index=False).encode())
    return found.hexdigest()


def test_same_seed_same_bytes_another_seed_others(world: World) -> None:
    again, other = company.build_world(seed=1), replace(world, seed=2)
    one, two, three = (digest(company.chunk(w, 3, 400)) for w in (world, again, other))
    assert one == two
    assert one != three


def test_chunks_do_not_depend_on_each_other(world: World, made: list[Chunk]) -> None:
    assert digest(company.chunk(world, 1, 3_000, CUSTOMERS)) == digest(made[1])


def test_memory_is_that_of_a_chunk(world: World) -> None:
    """What is alive after each of many chunks does not grow with their number."""
    import tracemalloc

    company.chunk(world, 0, 300)
    tracemalloc.start()
    held = []
    for chunk in company.chunks(world, 4 * 300, size=300):
        assert len(chunk.customers) == 300
        held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert max(held[1:]) < 1.3 * held[1]


def test_counts_and_keys(made: list[Chunk]) -> None:
    customers, sites = together(made, "customers"), together(made, "sites")
    assert customers["id"].tolist() == list(range(1, CUSTOMERS + 1))
    assert customers["external_id"].is_unique
    assert (sites.groupby("customer_id")["is_primary"].sum() == 1).all()
    assert set(sites["customer_id"]) == set(customers["id"])
    parents = customers.dropna(subset="parent_id")
    assert len(parents) > 30
    assert (parents["parent_id"] != parents["id"]).all()
    assert set(parents["parent_id"]) <= set(customers.loc[customers["kind"] == "organisation", "id"])
    assert not set(parents["parent_id"]) & set(parents["id"])  # no branch of a branch
    assert together(made, "sales")["external_id"].is_unique
    assert together(made, "interactions")["external_id"].is_unique
    assert together(made, "contacts")["email"].dropna().str.contains("@").all()


def test_shares(made: list[Chunk]) -> None:
    customers, sites = together(made, "customers"), together(made, "sites")
    assert 0.11 < (customers["kind"] == "organisation").mean() < 0.13
    stages = customers["stage"].value_counts(normalize=True)
    assert stages["active"] > 0.3
    assert stages["lapsed"] > 0.15
    assert stages["prospect"] > 0.1
    assert stages["lead"] > 0.08
    known = sites["known"].value_counts(normalize=True)
    assert known["given"] > 0.9
    assert set(known.index) == {"given", "postcode", "pending", "flagged"}
    assert 1.04 < len(sites) / len(customers) < 1.2


def test_stage_follows_the_orders(world: World, made: list[Chunk]) -> None:
    customers, orders = together(made, "customers"), together(made, "sales")
    bought = orders[~orders["returned"]].groupby("customer_id")["occurred_at"].max()
    last = customers["id"].map(bought)
    year = pd.Timestamp(world.until) + pd.Timedelta(days=1) - pd.Timedelta(days=365)
    assert (customers.loc[last >= year, "stage"] == "active").all()
    assert (customers.loc[last < year, "stage"] == "lapsed").all()
    assert customers.loc[last.isna(), "stage"].isin(["prospect", "lead", "lapsed"]).all()


def test_money_adds_up(made: list[Chunk]) -> None:
    orders, lines = together(made, "sales"), together(made, "lines")
    assert (lines["amount"] == lines["quantity"] * lines["unit_price"] - lines["discount"]).all()
    assert lines["amount"].sum() == orders["amount"].sum()
    assert lines["cost"].sum() == orders["cost"].sum()
    assert (orders.loc[orders["returned"], "amount"] < 0).all()
    assert (orders.loc[~orders["returned"], "amount"] > 0).all()
    assert 0.3 < 1 - orders["cost"].sum() / orders["amount"].sum() < 0.55
    for chunk in made:
        keys = chunk.lines[["sale_no", "line_no"]]
        assert not keys.duplicated().any()
        assert set(keys["sale_no"]) == set(chunk.sales["sale_no"])


def test_everything_happens_in_the_books(world: World, made: list[Chunk]) -> None:
    end = pd.Timestamp(world.until) + pd.Timedelta(days=2)  # the last evening, in UTC
    for name in ("sales", "interactions"):
        moments = together(made, name)["occurred_at"]
        assert moments.min() >= pd.Timestamp(world.start), name
        assert moments.max() <= end, name
    since = together(made, "customers").set_index("id")["created_at"]
    first = together(made, "sales").groupby("customer_id")["occurred_at"].min()
    assert (first >= since.loc[first.index]).all()
    consents = together(made, "consents").dropna(subset="withdrawn_at")
    assert (consents["withdrawn_at"] >= consents["granted_at"]).all()


def test_names_belong_to_nobody(made: list[Chunk]) -> None:
    contacts = together(made, "contacts")
    assert contacts["phone"].dropna().str.fullmatch(r"\+1 \d{3} 555-01\d\d").all()
    assert contacts["email"].dropna().str.fullmatch(r"[a-z0-9.]+@([a-z0-9-]+\.example|example\.(com|org|net))").all()
    words = pd.concat(
        [together(made, "customers")["name"], *(together(made, "interactions")[c] for c in ("subject", "body"))]
    )
    assert (
        not words.dropna()
        .str.contains(r"lorem|ipsum|dolor sit|\bfoo\b|\bTODO\b|[{}]", flags=re.IGNORECASE, regex=True)
        .any()
    )
    assert together(made, "interactions")["body"].nunique() > 1000


def test_customers_live_in_their_counties(world: World, made: list[Chunk]) -> None:
    sites = together(made, "sites")
    shapes = world.counties.geometry.to_numpy()[sites["county_index"].to_numpy()]
    inside = shapely.intersects(shapes, shapely.points(sites["true_lon"], sites["true_lat"]))
    assert inside.mean() > 0.97
    region = world.counties["region"].to_numpy()[sites["county_index"].to_numpy()]
    assert (region == sites["region"].to_numpy()).mean() > 0.98
    d = geography.distance_km(*(sites[c].to_numpy() for c in ("true_lon", "true_lat", "zip_lon", "zip_lat")))
    assert np.quantile(d, 0.99) < 20


def test_territories_cover_each_county_once_and_hang_together(world: World) -> None:
    force = world.sales_force
    drawn = force.territories.dropna(subset="geometry")
    assert (force.territory_of_county >= 0).all()
    assert sum(map(len, drawn["counties"])) == len(world.counties) == 149
    assert set(drawn.geometry.geom_type) == {"Polygon"}
    assert np.isclose(
        shapely.area(drawn.geometry.to_numpy()).sum(), shapely.area(world.counties.geometry.to_numpy()).sum()
    )
    assert set(force.users["role"]) == {"administrator", "manager", "rep", "marketer", "analyst"}
    assert force.users["login"].is_unique
    demo = force.territories[force.territories["login"] == "rep@demo.example"]
    assert demo["name"].tolist() == [territories.DEMO_TERRITORY]
    ceded = [code for codes in territories.CEDED_POSTCODES.values() for code in codes]
    assert set(ceded) <= set(world.zips["postal_code"])


def test_the_rep_has_a_sensible_number_of_customers(world: World) -> None:
    whole = company.chunk(world, 0, 10_000)
    rep = world.sales_force.users.index[world.sales_force.users["login"] == "rep@demo.example"][0]
    assert 30 < (whole.customers["owner"] == rep).sum() < 120  # of 10,000: 150 to 600 of 50,000


def test_groups_behave_as_the_truth_says(made: list[Chunk]) -> None:
    truth = together(made, "truth")
    people = truth["size"] == 0
    for kind, rows in (("person", people), ("organisation", ~people)):
        share = truth[rows]["group"].value_counts(normalize=True)
        for group in GROUPS:
            if group.kind == kind:
                assert abs(share[group.name] - group.share) < 0.06, group.name
    buyers = truth[~truth["potential"]]
    mean = buyers.groupby("group")["orders"].mean()
    assert mean["climbers"] > 2 * mean["weekend hikers"] > 2 * mean["gift givers"] * 0.9
    assert (truth.loc[truth["potential"], "orders"] == 0).all()


def test_orders_are_more_dispersed_than_a_gamma_mixture_of_one_rate_allows(made: list[Chunk]) -> None:
    """Misspecified on purpose: several groups, clumps and seasons, so the spread is far from Poisson's."""
    orders = together(made, "truth").query("not potential")["orders"]
    assert orders.var() > 4 * orders.mean()


def test_churn_has_a_season(made: list[Chunk]) -> None:
    truth = together(made, "truth")
    left = truth[(truth["group"] == "ski families") & truth["left_at"].notna()]
    months = left["left_at"].dt.month
    assert months.isin([4, 5]).mean() > 0.35
    assert months.isin([10, 11, 12]).mean() < 0.2


def test_shops_pull(world: World, made: list[Chunk]) -> None:
    orders, sites = together(made, "sales"), together(made, "sites")
    home = sites[sites["is_primary"]].set_index("customer_id")
    shop = orders[(orders["channel"] == "shop") & ~orders["returned"]]
    place = world.places.iloc[shop["place_row"].to_numpy()]
    assert set(place["kind"]) == {"own"}
    at = home.loc[shop["customer_id"]]
    d = geography.distance_km(*(a.to_numpy() for a in (at["true_lon"], at["true_lat"], place["lon"], place["lat"])))
    assert np.median(d) < 20
    # but not everybody takes the nearest
    own = world.places[world.places["kind"] == "own"]
    to_all = geography.distance_km(
        at["true_lon"].to_numpy()[:, None],
        at["true_lat"].to_numpy()[:, None],
        own["lon"].to_numpy()[None],
        own["lat"].to_numpy()[None],
    )
    nearest = np.isclose(to_all.min(axis=1), d)
    assert 0.3 < nearest.mean() < 0.9
    truth = together(made, "truth").query("not potential")
    high = truth["access"] > truth["access"].quantile(0.8)
    low = truth["access"] < truth["access"].quantile(0.2)
    assert truth[high]["rate_per_year"].median() > 1.2 * truth[low]["rate_per_year"].median()


def test_the_campaign_brought_orders_where_it_ran(world: World, made: list[Chunk]) -> None:
    truth = together(made, "truth").query("not potential")
    inside, outside = truth[truth["treated"]], truth[~truth["treated"]]
    assert 0.1 < truth["treated"].mean() < 0.3
    assert inside["campaign_orders"].sum() > 3 * outside["campaign_orders"].sum()
    assert (outside["lift"] > 0).any()  # it spilled over the border
    start, end = sales.campaign_weeks(world)
    assert pd.Timestamp(world.start) + pd.Timedelta(days=365) < pd.Timestamp(start) < pd.Timestamp(end)
    key = set(world.counties["name"] + " " + world.counties["region"])
    assert set(world.truth.campaign.counties) <= key


def test_the_catalogue_has_six_categories() -> None:
    goods = products.catalogue()
    assert goods["category"].nunique() == 6
    assert goods["sku"].is_unique
    assert goods["name"].is_unique
    assert (goods["cost"] < goods["price"]).all()


def test_the_truth_can_be_written_down(world: World) -> None:
    written = world.truth.to_json()
    assert set(written) == {field.name for field in fields(world.truth)}
    assert len(written["groups"]) == len(GROUPS)
