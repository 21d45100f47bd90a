"""How well the demo company knows where its sites are: the true point, a postal code's, none yet, or (0, 0)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import shapely

from geocrm.demo.names import only
from geocrm.spatial import gazetteers
from geocrm.spatial.precision import GIVEN_M

SOURCE = "cairnwell"  # what the demo company calls its own records


def whereabouts(sites: pd.DataFrame, outlines: list[Any], areas: list[int]) -> pd.DataFrame:
    """Columns of `sites` in the database from those of `customers.draw`: lon, lat, location_precision, precision_m,
    location_source, placement, flags, and territory_id, the area whose outline (or None) holds the point."""
    known = sites["known"].to_numpy(dtype=object)
    lon, lat = sites["true_lon"].to_numpy().copy(), sites["true_lat"].to_numpy().copy()
    precision = only(known == "given", "given")
    radius = np.where(known == "given", GIVEN_M, np.nan)
    source = only(np.isin(known, ["given", "flagged"]), "file")
    placement = np.where(np.isin(known, ["given", "postcode"]), "placed", known).astype(object)
    coarse = np.flatnonzero(known == "postcode")
    if len(coarse):
        codes = sites["postal_code"].to_numpy()[coarse]
        found = gazetteers.locate(pd.DataFrame({"country": "US", "postal_code": codes})).reset_index(drop=True)
        lon[coarse], lat[coarse] = found["lon"], found["lat"]
        precision[coarse], radius[coarse] = found["location_precision"], found["precision_m"]
        source[coarse] = found["location_source"]
        missed = coarse[np.isnan(lon[coarse])]
        placement[missed], precision[missed], source[missed] = "pending", None, None
    lon[known == "pending"] = lat[known == "pending"] = np.nan
    lon[known == "flagged"] = lat[known == "flagged"] = 0.0
    territory = np.full(len(sites), -1, dtype=np.int64)
    placed = np.flatnonzero(placement == "placed")
    tree = shapely.STRtree(shapely.points(lon[placed], lat[placed]))
    outline, point = tree.query([shape for shape in outlines if shape is not None], predicate="intersects")
    with_outline = np.array([area for area, shape in zip(areas, outlines, strict=True) if shape is not None])
    # on a border the lowest id, as the ledger has it
    territory[placed[point[::-1]]] = with_outline[outline[::-1]]
    return pd.DataFrame(
        {
            "lon": lon,
            "lat": lat,
            "location_precision": precision,
            "precision_m": radius,
            "location_source": source,
            "placement": placement,
            "flags": np.where(known == "flagged", "{zero}", "{}"),
            "territory_id": pd.array(np.where(territory < 0, 0, territory), dtype="Int64"),
        }
    ).assign(territory_id=lambda made: made["territory_id"].mask(territory < 0))


def territories_of(customers: pd.Series, sites: pd.DataFrame, known: pd.DataFrame) -> pd.Series:
    """For each customer the territories of its sites as a PostgreSQL array, ascending: "{3,17}"."""
    pairs = pd.DataFrame({"customer": sites["customer_id"], "area": known["territory_id"].to_numpy()}).dropna()
    pairs = pairs.drop_duplicates().sort_values(["customer", "area"])
    texts = pairs["area"].astype("int64").astype(str)
    several = pairs["customer"].duplicated(keep=False)
    lists = pd.Series(texts[~several].to_numpy(), index=pairs["customer"][~several].to_numpy())
    if several.any():
        lists = pd.concat([lists, texts[several].groupby(pairs["customer"][several]).agg(",".join)])
    return "{" + customers.map(lists).fillna("") + "}"
