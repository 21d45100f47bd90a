"""The CDNOW sample (one tenth of the customers of 1997) from the files of the package lifetimes, read without importing
its data sets, which need an old setuptools; and simulations of the models by their own story, customer by customer."""

import warnings
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd

from geocrm.segmentation.clv.counts import Histories, summarise

CUTOFF = np.datetime64("1997-09-30")
END = np.datetime64("1998-06-30")
WEEKS = 39


def file(name: str) -> Path:
    """Where a file of the package lies."""
    found = [path for path in metadata.files("lifetimes") or [] if path.name == name]
    return Path(str(found[0].locate()))


@cache
def summary() -> pd.DataFrame:
    """As published, for the 39 weeks to 30 September 1997: columns x, t_x, T (weeks), zbar (mean repeat value)."""
    return pd.read_csv(file("cdnow_customers_summary_with_transactions.csv"))


@cache
def purchases() -> pd.DataFrame:
    """All 6,919 purchases of the sample in 78 weeks: columns customer, day, amount."""
    frame = pd.read_csv(
        file("CDNOW_sample.txt"), sep=r"\s+", header=None, names=["master", "customer", "day", "discs", "amount"]
    )
    return frame.assign(day=pd.to_datetime(frame["day"].astype(str)))[["customer", "day", "amount"]]


@cache
def histories() -> Histories:
    """The sample's histories on 30 September 1997 from its purchases: the published summary without its rounding."""
    bought = purchases()
    return summarise(bought["customer"], bought["day"], bought["amount"], end=CUTOFF)


@cache
def lifetimes() -> ModuleType:
    """The package itself, an independent implementation; it sets pandas options that no longer exist."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lifetimes as package
        import lifetimes.utils
    return package
