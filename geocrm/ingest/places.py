"""Soon."""
from geocrm.ingest.customers import Customers as Places
