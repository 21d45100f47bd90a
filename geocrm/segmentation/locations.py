"""Where customers are, for methods that take place into account: points, and how far the nearest shop is."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyproj import Geod
from scipy.spatial import cKDTree
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm.db.copying import driver, read_binary
from geocrm.db.queries import named
from geocrm.segmentation.scaling import globe_km

COLUMNS: Final = ("lon", "lat", "own_shop_m", "competitor_m")
_ROW: Final = np.dtype(
    [
        ("fields", ">i2"),
        ("size0", ">i4"),
        ("id", ">i8"),
        ("size1", ">i4"),
        ("lon", ">f8"),
        ("size2", ">i4"),
        ("lat", ">f8"),
    ]
)
_EARTH: Final = Geod(ellps="WGS84")


class Locations:
    """Primary sites of customers, chunk by chunk, in the worker's session; the places stay in memory."""

    def __init__(self, session: Session) -> None:
        self._session = session
        rows = session.execute(text(named("segmentation", "places"))).all()
        self._places = {
            column: np.array([(row.lon, row.lat) for row in rows if row.kind == kind], dtype=np.float64).reshape(-1, 2)
            for column, kind in (("own_shop_m", "own"), ("competitor_m", "competitor"))
        }

    def read(self, ids: NDArray[np.int64]) -> pd.DataFrame:
        """Columns lon, lat (degrees), own_shop_m, competitor_m (geodesic metres to the nearest one) of customers,
        ascending; NaN where there is no place, or the point is that of a town or region."""
        made = pd.DataFrame(np.nan, index=pd.Index(ids, name="customer_id"), columns=list(COLUMNS))
        if not len(ids):
            return made
        values = {"first": int(ids[0]), "last": int(ids[-1])}
        rows = read_binary(driver(self._session), named("segmentation", "sites"), values, _ROW)
        held = np.isin(rows["id"], ids)
        at = np.searchsorted(ids, rows["id"][held].astype(np.int64))
        lon, lat = rows["lon"][held].astype(np.float64), rows["lat"][held].astype(np.float64)
        made.iloc[at, 0], made.iloc[at, 1] = lon, lat
        for number, column in ((2, "own_shop_m"), (3, "competitor_m")):
            made.iloc[at, number] = _nearest_m(lon, lat, self._places[column])
        return made


def _nearest_m(lon: NDArray[np.float64], lat: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    if not len(places) or not len(lon):
        return np.full(len(lon), np.nan)
    _, closest = cKDTree(globe_km(places[:, 0], places[:, 1])).query(globe_km(lon, lat))
    _, _, metres = _EARTH.inv(lon, lat, places[closest, 0], places[closest, 1])
    return np.asarray(metres, dtype=np.float64)
