"""The customers of one chunk: who they are, where, how they behave (hidden), whom to talk to, what they allowed."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from geocrm.demo import names
from geocrm.demo.geography import FloatArray, IntArray, distance_km, random
from geocrm.demo.truth import GROUPS

if TYPE_CHECKING:
    from geocrm.demo.company import World

SECONDS_A_DAY = 86_400
CHAINS = ["corporate", "lodging", "reseller", "guiding", "climbing gym"]  # industries whose firms have branches


def draw(world: World, first_id: int, n: int, chunk: int) -> dict[str, pd.DataFrame]:
    """Customers `first_id` … `first_id + n - 1`: frames customers, sites, contacts, consents and traits (hidden).

    The stage in `customers` is not settled yet: it follows from the sales (`settle_stages`).
    """
    rng = random(world.seed, 10, chunk)
    ids = np.arange(first_id, first_id + n, dtype=np.int64)
    organisation = rng.random(n) < world.truth.organisations
    kind = np.where(organisation, "organisation", "person").astype(object)
    street = _streets(world, rng, organisation)
    spots = _houses(world, rng, street)
    industry, size_class, size = _firms(rng, organisation)
    zip_index = world.streets.zip_index[street]
    city = world.zips["city"].to_numpy(dtype=object)[zip_index]
    county = world.counties["name"].to_numpy(dtype=object)[world.streets.county[street]]

    first, last = names.pick(rng, names.FIRST_NAMES, n), names.pick(rng, names.LAST_NAMES, n, skew=0.35)
    name = first + " " + last
    name[organisation] = names.tell_apart(
        names.organisation_names(rng, industry[organisation], city[organisation], county[organisation]),
        city[organisation],
    )
    state = world.zips["region"].to_numpy(dtype=object)[zip_index]
    parent = _parents(rng, ids, organisation & np.isin(industry, CHAINS), size, state)
    has_parent = parent >= 0
    name[has_parent] = name[parent[has_parent] - first_id] + " – " + city[has_parent]
    industry[has_parent] = industry[parent[has_parent] - first_id]

    traits = _traits(world, rng, kind, spots, size)
    traits.insert(0, "customer_id", ids)
    customers = pd.DataFrame(
        {
            "id": ids,
            "kind": kind,
            "name": name,
            "parent_id": pd.array(np.where(has_parent, parent, 0), dtype="Int64"),
            "industry": names.only(organisation, industry),
            "size_class": names.only(organisation, size_class),
            "preferred_channel": np.array(["email", "phone", "post", "app"], dtype=object)[
                rng.choice(4, n, p=[0.58, 0.23, 0.06, 0.13])
            ],
            "attributes": _attributes(rng, organisation, size, name, traits),
            "created_at": traits["since"].to_numpy(),
            "external_id": np.char.add("C-", np.char.zfill(ids.astype(str), 7)).astype(object),
        }
    )
    customers.loc[~has_parent, "parent_id"] = pd.NA
    # whose it is: the rep of the county; some people and a few firms have nobody yet
    owned = rng.random(n) < np.where(organisation, 0.97, 0.86)
    customers["owner"] = np.where(owned, world.owner_of_county[world.streets.county[street]], -1)
    sites = _sites(world, rng, ids, organisation, street, spots, size)
    contacts = _contacts(world, rng, customers, organisation, first, last, zip_index)
    consents = _consents(world, rng, ids, organisation, traits["since"].to_numpy())
    return {"customers": customers, "sites": sites, "contacts": contacts, "consents": consents, "traits": traits}


def settle_stages(world: World, customers: pd.DataFrame, traits: pd.DataFrame, last_sale: FloatArray) -> pd.DataFrame:
    """Give each customer its stage. `last_sale`: days before the end of the books, NaN without any sale.

    Bought within a year: active. Bought before: lapsed. Never bought: prospect or lead; customers of old whose last
    order lies before the books begin are lapsed too.
    """
    rng = random(world.seed, 11, int(customers["id"].iloc[0]))
    never = np.isnan(last_sale)
    new_to_us = traits["potential"].to_numpy() | (traits["since"].to_numpy() >= np.datetime64(world.start))
    waiting = np.where(rng.random(len(customers)) < 0.62, "prospect", "lead")
    stage = np.where(never, np.where(new_to_us, waiting, "lapsed"), np.where(last_sale <= 365, "active", "lapsed"))
    return customers.assign(stage=stage.astype(object))


def _streets(world: World, rng: np.random.Generator, organisation: npt.NDArray[np.bool_]) -> IntArray:
    found = np.empty(len(organisation), dtype=np.int64)
    for rows, mass in ((~organisation, world.street_mass), (organisation, world.street_mass_firms)):
        found[rows] = np.searchsorted(mass, rng.random(int(rows.sum())) * mass[-1], side="right")
    return np.minimum(found, len(world.streets) - 1)


def _houses(world: World, rng: np.random.Generator, street: IntArray) -> pd.DataFrame:
    """A house on each street: number, lon, lat (7 decimals are below a decimetre; the file shows 6)."""
    streets = world.streets
    house = (rng.random(len(street)) * streets.houses[street]).astype(np.int64)
    t = (house + 0.5) / streets.houses[street]
    even = rng.random(len(street)) < 0.5
    off = np.where(even, 1, -1) * 0.00016  # the two sides of the street, some 18 m from its middle
    length = np.hypot(streets.run[street], streets.rise[street])
    lon = streets.lon[street] + t * streets.run[street] - off * streets.rise[street] / length
    lat = streets.lat[street] + t * streets.rise[street] + off * streets.run[street] / length
    jitter = rng.normal(0, 0.00004, (2, len(street)))
    number = streets.first_number[street] + house * 4 + np.where(even, 2, 1)
    return pd.DataFrame({"number": number, "lon": (lon + jitter[0]).round(6), "lat": (lat + jitter[1]).round(6)})


def _firms(
    rng: np.random.Generator, organisation: npt.NDArray[np.bool_]
) -> tuple[names.Strings, names.Strings, IntArray]:
    n = len(organisation)
    kinds = list(names.INDUSTRIES)
    shares = np.array([share for share, _, _ in names.INDUSTRIES.values()])
    industry = np.array(kinds, dtype=object)[rng.choice(len(kinds), n, p=shares / shares.sum())]
    typical = {"education": 140.0, "corporate": 60.0, "public agency": 55.0, "lodging": 22.0}
    middle = np.array([typical.get(k, 7.0) for k in industry])
    size = np.clip(rng.lognormal(np.log(middle), 0.95, n), 1, 9000).astype(np.int64)
    size_class = np.array(names.SIZE_CLASSES, dtype=object)[np.digitize(size, [10, 50, 250])]
    return industry, size_class, np.where(organisation, size, 0)


def _parents(
    rng: np.random.Generator, ids: IntArray, chains: npt.NDArray[np.bool_], size: IntArray, state: names.Strings
) -> IntArray:
    """Ids of parents, -1 for none: one firm in six is a branch of a larger one of the same state and chunk."""
    parent = np.full(len(ids), -1, dtype=np.int64)
    for here in sorted(set(state)):
        firms = np.flatnonzero(chains & (state == here))
        heads = firms[size[firms] >= 40]
        branches = firms[(rng.random(len(firms)) < 0.17) & (size[firms] < 40)]
        if len(heads):
            parent[branches] = ids[heads[(rng.random(len(branches)) ** 1.7 * len(heads)).astype(np.int64)]]
    return parent


def _traits(
    world: World, rng: np.random.Generator, kind: names.Strings, spots: pd.DataFrame, size: IntArray
) -> pd.DataFrame:
    """The hidden truth of each customer: group, rate, way of travelling, access to shops, since when."""
    n, truth, pull = len(kind), world.truth, world.truth.pull
    lon, lat = spots["lon"].to_numpy(), spots["lat"].to_numpy()
    odds = np.zeros((n, len(GROUPS)))
    for g, group in enumerate(GROUPS):
        odds[:, g] = np.where(kind == group.kind, np.log(group.share), -np.inf)
    index = {group.name: g for g, group in enumerate(GROUPS)}
    for bump in truth.bumps:
        d = distance_km(lon, lat, np.float64(bump.lon), np.float64(bump.lat))  # type: ignore[arg-type]
        odds[:, index[bump.group]] += bump.height * np.exp(-0.5 * (d / bump.width_km) ** 2)
    group_of = np.argmax(odds + rng.gumbel(size=odds.shape), axis=1)
    near = rng.random(n) < pull.near_share
    access = world.access(lon, lat, near)
    spread = np.array([g.spread for g in GROUPS])[group_of]
    rate = np.array([g.rate for g in GROUPS])[group_of] * np.exp(spread * rng.standard_normal(n))
    rate *= np.exp(pull.rate_elasticity * access)
    rate *= np.where(size > 0, (np.maximum(size, 1) / 12.0) ** 0.28, 1.0)
    rate = np.minimum(rate, 60.0)
    potential = rng.random(n) < np.where(kind == "person", truth.potential["person"], truth.potential["organisation"])
    start, until = np.datetime64(world.start, "s"), np.datetime64(world.until, "s")
    old = rng.random(n) < truth.known_before
    days = (world.until - world.start).days
    back = np.minimum(rng.gamma(1.6, 900.0, n), 9000) * SECONDS_A_DAY
    on = rng.random(n) ** 0.85 * (days - 3) * SECONDS_A_DAY
    since = np.where(old, start - back.astype("timedelta64[s]"), start + on.astype("timedelta64[s]"))
    recently = until - (rng.random(n) * 420 * SECONDS_A_DAY).astype("timedelta64[s]")
    return pd.DataFrame(
        {
            "group_index": group_of,
            "group": np.array([g.name for g in GROUPS], dtype=object)[group_of],
            "rate_per_year": rate.round(5),
            "stays_near": near,
            "access": access.round(5),
            "size": size,
            "potential": potential,
            "since": np.where(potential, recently, since),
        }
    )


def _attributes(
    rng: np.random.Generator,
    organisation: npt.NDArray[np.bool_],
    size: IntArray,
    name: names.Strings,
    traits: pd.DataFrame,
) -> list[str]:
    n = len(name)
    # the club's plan goes with the rate, not one to one
    liking = np.log(traits["rate_per_year"].to_numpy()) + rng.normal(0, 0.9, n)
    plan = np.select([liking > 1.5, liking > 0.55, liking > -0.3], ["gold", "silver", "basic"], default="")
    plan[traits["potential"].to_numpy()] = ""
    born = rng.integers(1942, 2007, n)
    web = names.slugs(np.char.replace(name.astype(str), " – ", " ").astype(object))
    made = []
    for firm, people, tier, year, label in zip(organisation, size, plan, born, web, strict=True):
        facts: dict[str, object] = (
            {"employees": int(people), "website": f"https://{label}.example"} if firm else {"birth_year": int(year)}
        )
        if tier and not firm:
            facts["plan"] = str(tier)
        made.append(json.dumps(facts, separators=(",", ":")))
    return made


def _sites(
    world: World,
    rng: np.random.Generator,
    ids: IntArray,
    organisation: npt.NDArray[np.bool_],
    street: IntArray,
    spots: pd.DataFrame,
    size: IntArray,
) -> pd.DataFrame:
    """One site each, more for larger firms (nearby or anywhere) and for people with a cabin."""
    n = len(ids)
    extra = np.where(organisation, np.minimum(rng.poisson(np.sqrt(size) * 0.055), 9), rng.random(n) < 0.045)
    again = np.repeat(np.arange(n), extra)
    far = rng.random(len(again)) < np.where(organisation[again], 0.35, 1.0)
    somewhere = _streets(world, rng, np.ones(len(again), dtype=bool))
    around = np.clip(street[again] + rng.integers(-12, 13, len(again)), 0, len(world.streets) - 1)
    other_street = np.where(far, somewhere, around)
    other_spots = _houses(world, rng, other_street)
    owner = np.concatenate([np.arange(n), again])
    all_streets = np.concatenate([street, other_street])
    all_spots = pd.concat([spots, other_spots], ignore_index=True)
    order = np.argsort(owner, kind="stable")
    owner, all_streets, all_spots = owner[order], all_streets[order], all_spots.iloc[order].reset_index(drop=True)
    first = np.r_[True, owner[1:] != owner[:-1]]
    firm = organisation[owner]
    label = np.where(first, np.where(firm, "Main office", "Home"), np.where(firm, "Branch", "Cabin")).astype(object)
    total = len(owner)
    zips = world.zips.iloc[world.streets.zip_index[all_streets]]
    unit = rng.random(total)
    line2 = names.only(~firm & (unit < 0.11), "Apt " + rng.integers(1, 64, total).astype(str).astype(object))
    suites = firm & (unit < 0.2)
    line2[suites] = "Suite " + (rng.integers(1, 40, int(suites.sum())) * 10).astype(str).astype(object)
    # how well we know the place: most were given; some only by postal code; some wait; some came as (0, 0)
    known = rng.random(total)
    placement = np.select(
        [known < 0.008, known < 0.020, known < 0.070], ["flagged", "pending", "postcode"], default="given"
    )
    return pd.DataFrame(
        {
            "customer_id": ids[owner],
            "label": label,
            "line1": all_spots["number"].astype(str).to_numpy(dtype=object) + " " + world.streets.name[all_streets],
            "line2": line2,
            "city": zips["city"].to_numpy(dtype=object),
            "region": zips["region"].to_numpy(dtype=object),
            "postal_code": zips["postal_code"].to_numpy(dtype=object),
            "true_lon": all_spots["lon"].to_numpy(),
            "true_lat": all_spots["lat"].to_numpy(),
            "zip_lon": zips["lon"].to_numpy(),
            "zip_lat": zips["lat"].to_numpy(),
            "known": placement.astype(object),
            "is_primary": first,
            "county_index": world.streets.county[all_streets],
        }
    )


def _contacts(
    world: World,
    rng: np.random.Generator,
    customers: pd.DataFrame,
    organisation: npt.NDArray[np.bool_],
    first: names.Strings,
    last: names.Strings,
    zip_index: IntArray,
) -> pd.DataFrame:
    ids = customers["id"].to_numpy()
    n = len(ids)
    many = np.where(organisation, 1 + rng.poisson(0.8, n), (rng.random(n) < 0.93).astype(np.int64))
    owner = np.repeat(np.arange(n), many)
    primary = np.r_[True, owner[1:] != owner[:-1]][: len(owner)]
    m, firm = len(owner), organisation[owner]
    own_name = ~firm & primary
    given = np.where(own_name, first[owner], names.pick(rng, names.FIRST_NAMES, m))
    family = np.where(own_name, last[owner], names.pick(rng, names.LAST_NAMES, m, skew=0.35))
    role = np.full(m, None, dtype=object)
    industry = customers["industry"].to_numpy(dtype=object)[owner]
    for kind, (_, _, roles) in names.INDUSTRIES.items():
        rows = firm & (industry == kind)
        role[rows] = np.array(roles, dtype=object)[rng.integers(len(roles), size=int(rows.sum()))]
    private = names.mail_addresses(rng, given, family, ids[owner] % 1_000_000)
    domain = names.slugs(np.char.replace(customers["name"].to_numpy(dtype=str), " – ", " ").astype(object))[owner]
    work = names.mail_local_parts(given, family, np.full(m, "", dtype=object)) + "@" + domain + ".example"
    area_code = world.zips["area_code"].to_numpy(dtype=object)[zip_index[owner]]
    return pd.DataFrame(
        {
            "customer_id": ids[owner],
            "name": given + " " + family,
            "role": role,
            "email": names.only(rng.random(m) < 0.91, np.where(firm, work, private)),
            "phone": names.only(rng.random(m) < 0.74, names.phones(rng, area_code)),
            "is_primary": primary,
        }
    )


def _consents(
    world: World,
    rng: np.random.Generator,
    ids: IntArray,
    organisation: npt.NDArray[np.bool_],
    since: npt.NDArray[np.datetime64],
) -> pd.DataFrame:
    frames = []
    for purpose, channel, share, kept in (
        ("marketing", "email", 0.57, 0.86),
        ("marketing", "phone", 0.16, 0.80),
        ("marketing", "post", 0.22, 0.93),
        ("service", "email", 0.70, 0.99),
    ):
        rows = np.flatnonzero(rng.random(len(ids)) < np.where(organisation, share * 0.8, share))
        granted = np.maximum(since[rows], np.datetime64("2018-05-25T09:00:00"))
        end = np.datetime64(world.until + timedelta(days=1), "s")
        granted = np.minimum(granted, end - np.timedelta64(2, "D"))
        gone = granted + ((end - granted).astype(float) * rng.random(len(rows))).astype("timedelta64[s]")
        left = rng.random(len(rows)) > kept
        frames.append(
            pd.DataFrame(
                {
                    "customer_id": ids[rows],
                    "purpose": purpose,
                    "channel": channel,
                    "granted_at": granted,
                    "withdrawn_at": np.where(left, gone, np.datetime64("NaT", "s")),
                    "source": np.array(["web form", "in shop", "phone", "import"], dtype=object)[
                        rng.choice(4, len(rows), p=[0.62, 0.24, 0.06, 0.08])
                    ],
                }
            )
        )
    return pd.concat(frames, ignore_index=True)
