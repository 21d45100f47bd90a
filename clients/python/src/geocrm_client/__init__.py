"""A typed client of geocrm.

from geocrm_client import Geocrm

with Geocrm("http://127.0.0.1:8000", key="gk_…") as geocrm:
    for customer in geocrm.every(geocrm.list_customers, stage="active"):
        print(customer["name"])
"""

from geocrm_client import shapes, webhooks
from geocrm_client.connection import Problem
from geocrm_client.operations import AsyncGeocrm, Geocrm

__all__ = ["AsyncGeocrm", "Geocrm", "Problem", "shapes", "webhooks"]
