"""Three years of orders: when, where, through which channel, of what, at what price, and what came back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from geocrm.demo.geography import FloatArray, IntArray, distance_km, random
from geocrm.demo.truth import CATEGORY_SEASON, GROUPS

if TYPE_CHECKING:
    from geocrm.demo.company import World

CHANNELS = np.array(["shop", "web", "phone", "trade"], dtype=object)
RETURN_SHARE = np.array([0.028, 0.085, 0.05, 0.018])  # of lines, by channel
RETURN_BY_CATEGORY = np.array([0.8, 0.7, 0.6, 1.1, 1.7, 0.1])
WEEK = np.timedelta64(7 * 86_400, "s")
UTC_OFFSET = np.timedelta64(7 * 3600, "s")  # Mountain Standard Time, all year: nobody minds in a demo


def draw(
    world: World, customers: pd.DataFrame, sites: pd.DataFrame, traits: pd.DataFrame, chunk: int
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Orders and lines of a chunk, and the traits with what happened: left_at, treated, lift, orders.

    sales: customer_id, sale_no (from 0 within the chunk), occurred_at (UTC), site_row (into `sites`), place_row (into
    the world's places, -1 for none), channel, amount, cost, discount (money in cents), returned, external_id.
    lines: customer_id, sale_no, line_no, product_row, quantity, unit_price, discount, amount, cost (cents).
    """
    rng = random(world.seed, 20, chunk)
    n = len(customers)
    primary = sites["is_primary"].to_numpy()
    lon, lat = sites["true_lon"].to_numpy()[primary], sites["true_lat"].to_numpy()[primary]
    region = sites["region"].to_numpy()[primary]
    county = sites["county_index"].to_numpy()[primary]
    left_at = _leaving(world, rng, traits)
    treated, lift = _reaction(world, rng, lon, lat, county)
    usual, extra = _intensities(world, traits, left_at, lon, lat, region, lift)
    who, week, main, campaign = _order_weeks(world, rng, traits, usual, extra)
    channel = _channel(world, rng, traits, who)
    moment = _moment(world, rng, week, channel)
    keep = (moment >= np.datetime64(world.start, "s")) & (
        moment < np.datetime64(world.until, "s") + np.timedelta64(1, "D")
    )
    keep &= moment >= traits["since"].to_numpy()[who]
    who, main, campaign, channel, moment = who[keep], main[keep], campaign[keep], channel[keep], moment[keep]
    order = np.lexsort((moment, who))
    who, main, campaign, channel, moment = who[order], main[order], campaign[order], channel[order], moment[order]
    place = _shop(world, rng, traits, lon, lat, who, channel, moment)

    ids = customers["id"].to_numpy()
    lines = _lines(world, rng, traits, who, main, moment)
    bought = pd.DataFrame(
        {
            "who": who,
            "occurred_at": moment + UTC_OFFSET,
            "channel": CHANNELS[channel],
            "place_row": place,
            "returned": False,
        }
    )
    back, back_lines = _returns(world, rng, bought, lines, channel)
    sales = pd.concat([bought.assign(sale_no=np.arange(len(bought))), back], ignore_index=True)
    lines = pd.concat([lines, back_lines], ignore_index=True)

    # number the sales of the chunk by customer and time, returns among them
    rank = np.lexsort((sales["sale_no"].to_numpy(), sales["occurred_at"].to_numpy(), sales["who"].to_numpy()))
    number = np.empty(len(sales), dtype=np.int64)
    number[rank] = np.arange(len(sales))
    lines["sale_no"] = number[lines["sale_no"].to_numpy()]
    sales = sales.iloc[rank].reset_index(drop=True)
    sales["sale_no"] = np.arange(len(sales))
    lines = lines.sort_values(["sale_no", "line_no"], ignore_index=True, kind="stable")
    sums = lines.groupby("sale_no")[["amount", "cost", "discount"]].sum()
    for column in sums:
        sales[column] = sums[column].to_numpy()
    sales["customer_id"] = ids[sales["who"].to_numpy()]
    lines["customer_id"] = sales["customer_id"].to_numpy()[lines["sale_no"].to_numpy()]
    nth = sales.groupby("customer_id").cumcount().to_numpy() + 1
    sales["external_id"] = "SO-" + sales["customer_id"].astype(str) + "-" + pd.Series(nth.astype(str)).str.zfill(3)
    sales["site_row"] = _deliver(rng, sites, sales["who"].to_numpy())
    happened = traits.assign(
        left_at=left_at,
        treated=treated,
        lift=lift.round(5),
        orders=np.bincount(who, minlength=n),
        campaign_orders=np.bincount(who[campaign], minlength=n),
    )
    columns = [
        "customer_id",
        "sale_no",
        "occurred_at",
        "site_row",
        "place_row",
        "channel",
        "amount",
        "cost",
        "discount",
    ]
    columns += ["returned", "external_id"]
    return sales[columns], lines, happened


def days_since_last(world: World, ids: IntArray, sales: pd.DataFrame) -> FloatArray:
    """Days from each customer's last order (not return) to the end of the books; NaN where there is none."""
    bought = sales.loc[~sales["returned"].to_numpy(dtype=bool)]
    last = bought.groupby("customer_id")["occurred_at"].max().reindex(ids)
    end = np.datetime64(world.until, "s") + np.timedelta64(1, "D")
    days: FloatArray = ((end - last.to_numpy()) / np.timedelta64(1, "D")).astype(np.float64)
    return days


def campaign_weeks(world: World) -> tuple[np.datetime64, np.datetime64]:
    """First and last moment of the past campaign."""
    month, day = world.truth.campaign.start_month_day
    start = np.datetime64(f"{world.until.year - 1}-{month:02d}-{day:02d}", "s")
    return start, start + world.truth.campaign.weeks * WEEK


def _weeks(world: World) -> npt.NDArray[np.datetime64]:
    start = np.datetime64(world.start, "s")
    count = -(-((world.until - world.start).days + 1) // 7)
    weeks: npt.NDArray[np.datetime64] = start + np.arange(count) * WEEK
    return weeks


def _months(moments: npt.NDArray[np.datetime64]) -> IntArray:
    months: IntArray = moments.astype("datetime64[M]").astype(np.int64) % 12
    return months


def _leaving(world: World, rng: np.random.Generator, traits: pd.DataFrame) -> npt.NDArray[np.datetime64]:
    """When each customer quietly leaves; NaT for those who stay. Nobody tells us: it shows in the orders only."""
    truth, group = world.truth, traits["group_index"].to_numpy()
    start = np.datetime64(world.start, "s")
    months = start + (np.arange(12 * ((world.until.year - world.start.year) + 1)) * 30.44 * 86_400).astype(
        "timedelta64[s]"
    )
    months = months[months < np.datetime64(world.until, "s")]
    season = np.array([np.array(g.leave_season) / np.mean(g.leave_season) for g in GROUPS])
    yearly = np.array([g.leave_per_year for g in GROUPS])[group]
    yearly = yearly * np.exp(-truth.pull.leave_far * traits["access"].to_numpy())
    since = traits["since"].to_numpy()
    tenure = (months[None, :] - since[:, None]) / np.timedelta64(365 * 86_400, "s")
    hazard = yearly[:, None] / 12 * season[group][:, _months(months)]
    hazard = np.where(tenure < 0, 0.0, hazard * np.maximum(tenure, 0.1) ** (truth.tenure_shape - 1))
    survived = np.cumsum(hazard, axis=1)
    draw = rng.exponential(size=len(traits))
    month = (survived < draw[:, None]).sum(axis=1)
    at = months[np.minimum(month, len(months) - 1)] + (rng.random(len(traits)) * 30 * 86_400).astype("timedelta64[s]")
    at = np.maximum(at, since)
    left: npt.NDArray[np.datetime64] = np.where(month < len(months), at, np.datetime64("NaT", "s"))
    return left


def _reaction(
    world: World, rng: np.random.Generator, lon: FloatArray, lat: FloatArray, county: IntArray
) -> tuple[npt.NDArray[np.bool_], FloatArray]:
    """Who lives where the campaign ran, and by how much it lifts their orders (0 for those it does not reach)."""
    campaign = world.truth.campaign
    key = (world.counties["name"] + " " + world.counties["region"]).to_numpy()
    inside = np.isin(key, campaign.counties)
    treated = inside[county]
    region = world.counties.geometry[inside].union_all()
    # distance to the region's border in km, by degrees scaled at 39° north: good enough for a spill-over
    import shapely

    d = shapely.distance(shapely.points(lon, lat), region) * 111.195 * 0.89
    reach = np.where(treated, 1.0, campaign.spill_share * np.exp(-d / campaign.spill_km) * (d < 3 * campaign.spill_km))
    strength = np.exp(campaign.lift_spread * rng.standard_normal(len(lon)) - campaign.lift_spread**2 / 2)
    reacts = rng.random(len(lon)) < campaign.reacting
    lift: FloatArray = campaign.lift / campaign.reacting * reach * strength * reacts
    return treated, lift


def _intensities(
    world: World,
    traits: pd.DataFrame,
    left_at: npt.NDArray[np.datetime64],
    lon: FloatArray,
    lat: FloatArray,
    region: npt.NDArray[np.object_],
    lift: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Expected orders per customer and week: the usual ones, and those that the campaign adds."""
    truth, group = world.truth, traits["group_index"].to_numpy()
    weeks = _weeks(world)
    month = _months(weeks)
    season = np.array([np.array(g.season) / np.mean(g.season) for g in GROUPS])
    years = np.arange(len(weeks)) / 52.18
    usual = (
        (traits["rate_per_year"].to_numpy() / 52.18)[:, None] * season[group][:, month] * (1 + truth.growth) ** years
    )
    since = (weeks + WEEK - traits["since"].to_numpy()[:, None]) / WEEK
    usual *= np.clip(since, 0, 1)
    left = np.where(np.isnat(left_at), weeks[-1] + 2 * WEEK, left_at)
    usual *= np.clip((left[:, None] - weeks) / WEEK, 0, 1)
    usual[traits["potential"].to_numpy()] = 0.0
    # what all customers of a state share in a week: weather, snow, events
    shared = random(world.seed, 21)
    for state in sorted(set(world.zips["region"])):
        shock = np.exp(truth.weather_spread * _wander(shared, len(weeks)))
        usual[region == state] *= shock

    campaign = truth.campaign
    start, end = campaign_weeks(world)
    since_start = (weeks - start) / WEEK
    shape = np.clip((since_start + 1) / campaign.ramp_weeks, 0, 1)
    shape = np.where(weeks >= end, 0.5 ** (((weeks - end) / WEEK + 1) / campaign.afterglow_weeks), shape)
    shape = np.where(shape < 0.03, 0.0, shape)
    of_category = np.array([[g.categories[2] + g.categories[5]] for g in GROUPS])[group]
    extra = usual * of_category * lift[:, None] * shape
    after = (weeks >= end) & (weeks < end + 8 * WEEK)
    usual = np.where(after & (lift > 0)[:, None], usual * (1 - campaign.pulled_forward * of_category * 2), usual)
    wet = np.isin(region, campaign.wet_states)[:, None] & np.isin(month, [3, 4]) & (np.abs(since_start - 6) < 10)
    outdoor = np.array([[g.categories[0] + g.categories[2]] for g in GROUPS])[group]
    usual = np.where(wet, usual * (1 + campaign.wet_spring * outdoor / 0.5), usual)
    rival = world.places.iloc[-1]
    d = distance_km(lon, lat, np.float64(rival["lon"]), np.float64(rival["lat"]))  # type: ignore[arg-type]
    hit = (d < campaign.rival_km)[:, None] & (weeks >= np.datetime64(rival["opened_on"]))
    usual = np.where(hit, usual * (1 - campaign.rival_loss), usual)
    return usual, extra


def _wander(rng: np.random.Generator, n: int) -> FloatArray:
    """A stationary walk with unit variance and a memory of some three weeks."""
    keep = 0.7
    noise = rng.standard_normal(n) * np.sqrt(1 - keep**2)
    walk = np.empty(n)
    level = rng.standard_normal()
    for i in range(n):
        level = keep * level + noise[i]
        walk[i] = level
    return walk


def _order_weeks(
    world: World, rng: np.random.Generator, traits: pd.DataFrame, usual: FloatArray, extra: FloatArray
) -> tuple[IntArray, IntArray, IntArray, npt.NDArray[np.bool_]]:
    """One row an order: customer row, week, main category, whether the campaign brought it."""
    group = traits["group_index"].to_numpy()
    month = _months(_weeks(world))
    who, week, campaign = [], [], []
    for rate, is_extra in ((usual, False), (extra, True)):
        # the sum over weeks first, then the weeks: far fewer draws than one per customer and week
        total = rate.sum(axis=1)
        orders = rng.poisson(total)
        some = np.repeat(np.arange(len(total)), orders)
        running = np.cumsum(rate, axis=1)
        at = rng.random(len(some)) * total[some]
        which = (running[some] < at[:, None]).sum(axis=1)
        who.append(some)
        week.append(np.minimum(which, rate.shape[1] - 1))
        campaign.append(np.full(len(some), is_extra))
    again = rng.random(len(who[0])) < world.truth.clump
    who.append(who[0][again])
    week.append(np.minimum(week[0][again] + rng.integers(0, 3, int(again.sum())), usual.shape[1] - 1))
    campaign.append(np.zeros(int(again.sum()), dtype=bool))
    whos, weeks, campaigns = (np.concatenate(a) for a in (who, week, campaign))
    mix = np.array([g.categories for g in GROUPS])[:, None, :] * np.array(CATEGORY_SEASON).T[None]
    running_mix = np.cumsum(mix / mix.sum(axis=2, keepdims=True), axis=2)
    chosen = (running_mix[group[whos], month[weeks]] < rng.random(len(whos))[:, None]).sum(axis=1)
    main = np.minimum(chosen, 5)
    share = np.array([g.categories[2] / (g.categories[2] + g.categories[5]) for g in GROUPS])[group[whos]]
    main = np.where(campaigns, np.where(rng.random(len(whos)) < share, 2, 5), main)
    return whos, weeks, main.astype(np.int64), campaigns


def _channel(world: World, rng: np.random.Generator, traits: pd.DataFrame, who: IntArray) -> IntArray:
    shares = np.array([g.channels for g in GROUPS])[traits["group_index"].to_numpy()[who]]
    odds = np.log(shares + 1e-9)
    odds[:, 0] += world.truth.pull.shop_channel * traits["access"].to_numpy()[who]
    chosen: IntArray = np.argmax(odds + rng.gumbel(size=odds.shape), axis=1)
    return chosen


def _moment(world: World, rng: np.random.Generator, week: IntArray, channel: IntArray) -> npt.NDArray[np.datetime64]:
    """A moment in the week, local time: shops sell on Saturdays, the web in the evening, trade on weekdays."""
    n = len(week)
    monday = (world.start.weekday()) % 7
    of_shop = rng.choice(7, n, p=[0.1, 0.1, 0.11, 0.13, 0.17, 0.24, 0.15])
    of_web = rng.integers(0, 7, n)
    of_trade = rng.choice(7, n, p=[0.23, 0.22, 0.2, 0.18, 0.14, 0.02, 0.01])
    weekday = np.select([channel == 0, channel == 1], [of_shop, of_web], default=of_trade)
    hour = np.select(
        [channel == 0, channel == 1],
        [9.5 + 9.5 * rng.beta(2.2, 1.8, n), (7 + 17 * rng.beta(2.8, 1.5, n)) % 24],
        default=7.5 + 9.5 * rng.beta(1.8, 2.2, n),
    )
    day = (weekday - monday) % 7
    moment: npt.NDArray[np.datetime64] = (
        _weeks(world)[week]
        + day * np.timedelta64(86_400, "s")
        + (hour * 3600).astype(np.int64).astype("timedelta64[s]")
    )
    return moment


def _shop(
    world: World,
    rng: np.random.Generator,
    traits: pd.DataFrame,
    lon: FloatArray,
    lat: FloatArray,
    who: IntArray,
    channel: IntArray,
    moment: npt.NDArray[np.datetime64],
) -> IntArray:
    """The place of each order: an own shop by pull and taste, the depot for trade, -1 for web and telephone."""
    place = np.full(len(who), -1, dtype=np.int64)
    buyers = np.unique(who[channel == 0])
    pull = world.own_pull(lon[buyers], lat[buyers], traits["stays_near"].to_numpy()[buyers])
    liking = np.log(pull + 1e-12) + world.truth.pull.taste * rng.standard_normal(pull.shape)
    running = np.cumsum(np.exp(liking - liking.max(axis=1, keepdims=True)), axis=1)
    running /= running[:, -1:]
    rows = np.flatnonzero(channel == 0)
    at = np.searchsorted(buyers, who[rows])
    chosen = (running[at] < rng.random(len(rows))[:, None]).sum(axis=1)
    place[rows] = world.own_shops[np.minimum(chosen, len(world.own_shops) - 1)]
    depots = np.flatnonzero((world.places["kind"] == "depot").to_numpy())
    trade = np.flatnonzero(channel == 3)
    depot_lon, depot_lat = world.places["lon"].to_numpy()[depots], world.places["lat"].to_numpy()[depots]
    d = distance_km(lon[who[trade]][:, None], lat[who[trade]][:, None], depot_lon[None], depot_lat[None])
    place[trade] = depots[np.argmin(d, axis=1)]
    return place


def _lines(
    world: World,
    rng: np.random.Generator,
    traits: pd.DataFrame,
    who: IntArray,
    main: IntArray,
    moment: npt.NDArray[np.datetime64],
) -> pd.DataFrame:
    """Lines of the orders: products without repetition in an order as far as chance allows, money in cents."""
    group, size = traits["group_index"].to_numpy()[who], traits["size"].to_numpy()[who]
    count = 1 + np.minimum(rng.poisson(np.array([g.lines for g in GROUPS])[group] * rng.gamma(2.0, 0.5, len(who))), 14)
    sale = np.repeat(np.arange(len(who)), count)
    first = np.r_[True, sale[1:] != sale[:-1]]
    n = len(sale)
    other = np.array([g.categories for g in GROUPS])
    running = np.cumsum(other / other.sum(axis=1, keepdims=True), axis=1)[group[sale]]
    any_category = np.minimum((running < rng.random(n)[:, None]).sum(axis=1), 5)
    category = np.where(first | (rng.random(n) < 0.66), main[sale], any_category)
    product = np.empty(n, dtype=np.int64)
    for c in range(6):
        rows = np.flatnonzero(category == c)
        of_category = np.flatnonzero((world.products["category_index"] == c).to_numpy())
        weight = world.products["popularity"].to_numpy()[of_category]
        product[rows] = of_category[rng.choice(len(of_category), len(rows), p=weight / weight.sum())]
    price24, cost24 = world.products["price"].to_numpy()[product], world.products["cost"].to_numpy()[product]
    year = (moment.astype("datetime64[Y]").astype(np.int64) + 1970)[sale]
    rise = (1 + world.truth.inflation) ** (year - 2024)
    unit = np.maximum(np.round(price24 * rise * 20) * 5, 5).astype(np.int64)
    firm = size[sale] > 0
    cheap = price24 < 40
    few = 1 + (rng.random(n) < np.where(cheap, 0.32, 0.05)) * rng.integers(1, 4, n)
    many = np.maximum(
        1, np.round(rng.lognormal(np.log(1.6 + np.sqrt(size[sale]) * 0.22), 0.7, n) * np.where(cheap, 2.2, 0.8))
    )
    quantity = np.where(firm, np.minimum(many, 400), few).astype(np.int64)
    quantity = np.where((category == 5) & ~firm, 1, quantity)
    # clearance in January, at the end of August and in the last week of November; contracts of firms by size
    at = moment[sale]
    day = (at.astype("datetime64[D]") - at.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64)
    clearance = (day < 24) | ((day >= 232) & (day < 246)) | ((day >= 326) & (day < 336))
    off = np.where(clearance & (rng.random(n) < 0.6), rng.choice([0.1, 0.15, 0.2, 0.25, 0.3], n), 0.0)
    contract = np.clip(0.06 + 0.03 * np.log10(np.maximum(size[sale], 1)), 0, 0.18).round(2)
    off = np.where(firm, np.maximum(off * 0.5, contract), off)
    gross = unit * quantity
    discount = np.round(gross * off).astype(np.int64)
    cost = np.round(
        cost24 * 100 * (1 + world.truth.inflation * 0.9) ** (year - 2024) * rng.uniform(0.97, 1.03, n)
    ).astype(np.int64)
    merged = pd.DataFrame({"sale_no": sale, "product_row": product, "quantity": quantity, "unit_price": unit,
                           "discount": discount, "amount": gross - discount, "cost": cost * quantity})  # fmt: skip
    # the same product twice in an order is one line
    merged = merged[~merged.duplicated(["sale_no", "product_row"])]
    merged.insert(1, "line_no", merged.groupby("sale_no").cumcount() + 1)
    return merged.reset_index(drop=True)


def _returns(
    world: World, rng: np.random.Generator, bought: pd.DataFrame, lines: pd.DataFrame, channel: IntArray
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What came back: a sale marked returned with negative lines, one to six weeks after the order."""
    sale = lines["sale_no"].to_numpy()
    category = world.products["category_index"].to_numpy()[lines["product_row"].to_numpy()]
    chance = RETURN_SHARE[channel[sale]] * RETURN_BY_CATEGORY[category]
    lines_back = lines[rng.random(len(lines)) < chance]
    sent, which = np.unique(lines_back["sale_no"].to_numpy(), return_inverse=True)
    back = bought.iloc[sent].reset_index(drop=True)
    later = (2 + rng.gamma(2.2, 5.5, len(back))) * 86_400
    back["occurred_at"] = back["occurred_at"].to_numpy() + later.astype(np.int64).astype("timedelta64[s]")
    back["returned"] = True
    back["sale_no"] = len(bought) + np.arange(len(back))
    signed = lines_back.assign(sale_no=len(bought) + which)
    for column in ("quantity", "discount", "amount", "cost"):
        signed[column] = -signed[column]
    kept = back["occurred_at"].to_numpy() < np.datetime64(world.until, "s") + np.timedelta64(1, "D")
    renumber = np.cumsum(kept) - 1
    back = back[kept].assign(sale_no=len(bought) + np.arange(int(kept.sum())))
    signed = signed[kept[which]].assign(sale_no=len(bought) + renumber[which[kept[which]]])
    signed["line_no"] = signed.groupby("sale_no").cumcount() + 1
    return back.reset_index(drop=True), signed.reset_index(drop=True)


def _deliver(rng: np.random.Generator, sites: pd.DataFrame, who: IntArray) -> IntArray:
    """The site each order belongs to: mostly the primary one, now and then another of the same customer."""
    firsts = np.flatnonzero(sites["is_primary"].to_numpy())
    count = np.diff(np.r_[firsts, len(sites)])
    other = (rng.random(len(who)) < 0.3) * (rng.random(len(who)) * count[who]).astype(np.int64)
    row: IntArray = firsts[who] + other
    return row
